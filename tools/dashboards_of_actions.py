"""The dashboards of what agents do: actions, approvals, executions."""

from panels import Dashboard, Panel, Query, increase, quantiles, rate

ACTIONS = Dashboard(
    "actions",
    "Actions",
    "What agents ask for, what becomes of it, and how long each stage takes.",
    (
        Panel(
            "The funnel",
            "Of the actions accepted in the time shown: decided, granted, executed, with effect.",
            "short",
            (
                increase("countersign_actions_accepted_total", "accepted"),
                Query('sum(increase(countersign_decisions_total{outcome="allow"}[$__range]))', "granted"),
                Query('sum(increase(countersign_decisions_total{outcome="hold"}[$__range]))', "held for a person"),
                Query('sum(increase(countersign_decisions_total{outcome="deny"}[$__range]))', "denied"),
                increase("countersign_executions_total", "executed"),
                increase("countersign_executions_total", "succeeded", '{outcome="succeeded"}'),
            ),
            kind="bargauge",
            wide=16,
        ),
        Panel(
            "Open",
            "Actions that have not ended, by state.",
            "short",
            (Query("max by (state) (countersign_actions_open)", "{{state}}"),),
            stacked=True,
        ),
        Panel(
            "Accepted",
            "Actions accepted each second, by the door they came through.",
            "ops",
            rate("countersign_actions_accepted_total", "channel"),
            stacked=True,
        ),
        Panel(
            "Ended",
            "Actions that reached a final state, each second.",
            "ops",
            rate("countersign_actions_ended_total", "state"),
            stacked=True,
            actions="state=${__series.name}",
        ),
        Panel(
            "From acceptance to the end",
            "Without those that people were asked about. A point is one action: it leads to its timeline.",
            "s",
            quantiles("countersign_action_seconds", where='{held="no"}', exemplars=True),
        ),
        Panel(
            "To the decision",
            "From acceptance to the first decision; the objective is half a second. A point is one action.",
            "s",
            quantiles("countersign_decision_latency_seconds", exemplars=True),
        ),
        Panel(
            "From the decision to the claim",
            "What the executor waits for: its turn, and the ledger's word.",
            "s",
            quantiles("countersign_execution_wait_seconds"),
        ),
        Panel(
            "Calls",
            "From the claim to the end of the last call. A point is one action.",
            "s",
            quantiles("countersign_execution_seconds", exemplars=True),
        ),
        Panel(
            "Denials by reason",
            "Decisions that said no, by their first reason.",
            "ops",
            rate("countersign_decisions_total", "reason", '{outcome="deny"}'),
            stacked=True,
            actions="state=denied",
        ),
        Panel(
            "Guardrail hits",
            "Limits that denied an action, by kind.",
            "ops",
            rate("countersign_guardrail_hits_total", "kind"),
            stacked=True,
        ),
        Panel(
            "Refused at the door",
            "Over NATS by code, and beyond a bound on open actions.",
            "ops",
            (
                *rate("countersign_requests_refused_total", "code"),
                *rate("countersign_actions_over_bound_total", "bound", legend="beyond the bound {{bound}}"),
            ),
        ),
        Panel(
            "Error budgets",
            "The share of requests that failed, and of decisions slower than half a second, in an hour.",
            "percentunit",
            (
                Query("countersign:requests_failed:ratio_rate1h", "requests failed"),
                Query("countersign:decisions_slow:ratio_rate1h", "decisions slow"),
            ),
            wide=16,
        ),
        Panel(
            "Sent again",
            "Accepted actions that did not move and were sent again by the gateway.",
            "ops",
            (Query("sum(rate(countersign_actions_redriven_total[$__rate_interval]))", "sent again"),),
        ),
    ),
)

APPROVALS = Dashboard(
    "approvals",
    "Approvals",
    "What waits for people, and how long they take.",
    (
        Panel(
            "Pending",
            "Approvals that wait for people.",
            "short",
            (Query("max(countersign_approvals_pending)", "pending"),),
            kind="stat",
            actions="state=held",
        ),
        Panel(
            "Oldest",
            "Age of the approval that has waited longest.",
            "s",
            (Query("max(countersign_approvals_oldest_seconds)", "oldest"),),
            kind="stat",
        ),
        Panel(
            "Ended in the time shown",
            "Approvals that ended, by how.",
            "short",
            (Query("sum by (state) (increase(countersign_approvals_resolved_total[$__range]))", "{{state}}"),),
            kind="bargauge",
        ),
        Panel(
            "Waiting",
            "Pending approvals over time, by their age.",
            "short",
            (Query("max by (age) (countersign_approvals_pending_by_age)", "{{age}}"),),
            stacked=True,
        ),
        Panel(
            "Time to decision",
            "From the request to the vote that decided.",
            "s",
            quantiles("countersign_approval_decision_seconds"),
        ),
        Panel(
            "Votes refused",
            "Votes that did not count, by reason; and those that counted until who cast them was entitled no more.",
            "ops",
            (
                *rate("countersign_votes_refused_total", "reason"),
                Query("sum(rate(countersign_votes_voided_total[$__rate_interval]))", "voided"),
            ),
            stacked=True,
        ),
        Panel(
            "Nobody answers",
            "In the time shown: reminders, further people asked, approvals kept open after their deadline.",
            "short",
            (
                increase("countersign_approval_reminders_total", "reminded"),
                increase("countersign_approval_escalations_total", "escalated"),
                increase("countersign_approvals_overdue_total", "overdue"),
            ),
            kind="bargauge",
        ),
        Panel(
            "Standing approvals",
            "In the time shown: given, and the actions that they approved.",
            "short",
            (
                increase("countersign_standing_granted_total", "given"),
                increase("countersign_standing_uses_total", "used"),
            ),
            kind="bargauge",
        ),
        Panel(
            "Posts to webhooks",
            "Each second, by what became of them.",
            "ops",
            rate("countersign_webhook_tries_total", "webhook, result"),
        ),
        Panel(
            "Webhooks wait",
            "Events that a webhook was not told yet.",
            "short",
            (Query("max by (webhook) (countersign_webhook_deliveries_pending)", "{{webhook}}"),),
        ),
        Panel(
            "Oldest event for a webhook",
            "How long it has not been told.",
            "s",
            (Query("max by (webhook) (countersign_webhook_oldest_seconds)", "{{webhook}}"),),
        ),
        Panel(
            "A post to a webhook",
            "How long one takes.",
            "s",
            quantiles("countersign_webhook_post_seconds"),
        ),
    ),
)

EXECUTOR = Dashboard(
    "executor",
    "Executor and tools",
    "What is called, with what outcome, and what was not called.",
    (
        Panel(
            "Executions by outcome",
            "Each second.",
            "ops",
            rate("countersign_executions_total", "outcome"),
            stacked=True,
            actions="state=${__series.name}",
        ),
        Panel(
            "Executions by tool",
            "Each second.",
            "ops",
            rate("countersign_executions_total", "tool"),
            stacked=True,
            actions="tool=${__series.name}",
        ),
        Panel(
            "Without success, by tool",
            "Failed and unknown outcomes.",
            "ops",
            rate("countersign_executions_total", "tool, outcome", '{outcome!="succeeded"}'),
            stacked=True,
        ),
        Panel(
            "Calls, slowest hundredth by tool",
            "From the claim to the end of the last call. A point is one action.",
            "s",
            (
                Query(
                    "histogram_quantile(0.99, sum by (tool, le)"
                    " (rate(countersign_execution_seconds_bucket[$__rate_interval])))",
                    "{{tool}}",
                    exemplars=True,
                ),
            ),
            actions="tool=${__series.name}",
        ),
        Panel(
            "Calls under way",
            "Of each executor; fact lookups included.",
            "short",
            (Query("sum by (instance) (countersign_calls_in_flight)", "{{instance}}"),),
        ),
        Panel(
            "Calls tried again",
            "Each second, by tool.",
            "ops",
            rate("countersign_call_retries_total", "tool"),
        ),
        Panel(
            "Unknown outcomes",
            "Open: neither reconciled by a person nor by a probe.",
            "short",
            (Query("max(countersign_outcomes_unknown)", "open"),),
            kind="stat",
            actions="state=unknown",
        ),
        Panel(
            "Stops in force",
            "By what they are for.",
            "short",
            (Query("max by (scope) (countersign_stops_in_force)", "{{scope}}"),),
            kind="bargauge",
        ),
        Panel(
            "Oldest stop",
            "How long the oldest stop has been in force.",
            "s",
            (Query("max(countersign_stops_oldest_seconds)", "oldest"),),
            kind="stat",
        ),
        Panel(
            "Granted and refused",
            "Granted actions that were not started, by code.",
            "ops",
            rate("countersign_executions_refused_total", "code"),
        ),
        Panel(
            "Grants given back",
            "Put off, by reason: `unrecorded` is waiting for the ledger.",
            "ops",
            rate("countersign_grants_given_back_total", "reason"),
        ),
        Panel(
            "Late results",
            "Refused because the claim had been taken over.",
            "ops",
            (Query("sum(rate(countersign_results_late_total[$__rate_interval]))", "late"),),
        ),
    ),
)
