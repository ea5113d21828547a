"""Accounts, streams, consumers, buckets and each service's least permissions, as data.

One bootstrap step applies it; services bind to it, compare, and never change it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from . import (
    actions,
    agent_commands,
    agent_config,
    alerts,
    approval_commands,
    approval_rules,
    approvals,
    commands,
    control,
    custom_roles,
    dead_letter_commands,
    enrolment,
    fleet,
    logins,
    observation,
    packages,
    people_commands,
    provider_commands,
    slack_commands,
    subjects,
    telemetry,
    webhook_commands,
)
from .access_token import TYPE as ACCESS_TOKEN_TYPE
from .command import COMMANDS
from .event import EVENTS
from .projection import BUCKETS
from .warrant import TYPE as WARRANT_TYPE

#: Everything below is made from the events and commands, so their modules must be loaded.
DEFINED_IN = (
    actions,
    agent_commands,
    agent_config,
    alerts,
    approval_commands,
    approvals,
    commands,
    control,
    custom_roles,
    dead_letter_commands,
    enrolment,
    fleet,
    logins,
    observation,
    packages,
    people_commands,
    provider_commands,
    telemetry,
    webhook_commands,
    slack_commands,
)

Account = Literal["AGENTS", "CORE"]
CHECKPOINT_TYPE = "countersign.checkpoint.v1"
UNVERIFIED_TYPE = "countersign.audit.unverified.v1"
REPEATED_TYPE = "countersign.audit.repeated.v1"
RESULT_TYPE = "countersign.result.v1"
RESULTS_TYPE = "countersign.results.v1"

DAY_S = 86_400
MIB = 1024 * 1024
MAX_PAYLOAD_BYTES = MIB


@dataclass(frozen=True, slots=True)
class Stream:
    """A JetStream stream: file storage, no schedules, no rollup, no direct writes by anyone but its subjects' users."""

    account: Account
    name: str
    subjects: tuple[str, ...]
    retention: Literal["limits", "workqueue"] = "limits"
    max_age_s: int = 7 * DAY_S
    max_bytes: int = 1024 * MIB
    duplicate_window_s: int = 120
    max_msg_bytes: int = MAX_PAYLOAD_BYTES
    max_msgs_per_subject: int | None = None  # beyond, a work queue refuses the publisher; others drop the oldest


@dataclass(frozen=True, slots=True)
class Consumer:
    """A durable pull consumer with explicit acks. Tries are counted by the consumer's owner, which dead-letters."""

    stream: str
    name: str
    service: str
    filters: tuple[str, ...]
    ack_wait_s: int = 30
    max_ack_pending: int = 2048


STREAMS: tuple[Stream, ...] = (
    Stream(
        "AGENTS", "INGRESS", ("agents.*.actions",), retention="workqueue", max_age_s=DAY_S, max_msgs_per_subject=1000
    ),
    # an agent that floods drops its own oldest. The registry knows repeats; the stream knows ids across all agents, and
    # forgets them at once: one agent's could hide another's message
    Stream(
        "AGENTS",
        "TELEMETRY",
        ("agents.*.logs", "agents.*.metrics"),
        max_age_s=3600,
        max_bytes=256 * MIB,
        duplicate_window_s=1,
        max_msgs_per_subject=256,
    ),
    Stream("CORE", "ACTIONS", ("actions.*.*",), max_bytes=4096 * MIB),
    Stream("CORE", "APPROVALS", ("approvals.*.*",)),
    Stream("CORE", "FLEET", ("fleet.*.*",)),
    Stream("CORE", "CONTROL", ("control.*", "audit.*")),
    Stream("CORE", "DEADLETTER", ("deadletter.*.*",), max_age_s=30 * DAY_S),
)

#: Where an action's end is said. Each gateway replica hears all of it, whichever replica's consumer takes the message:
#: the caller that waits for it may be connected here.
FINAL_SUBJECTS: tuple[str, ...] = (
    "actions.executed.*",
    "actions.denied.*",
    "actions.refused.*",
    "actions.reconciled.*",
    "actions.cancelled.*",
)

#: What is said of an approval while it waits.
APPROVAL_PROGRESS_SUBJECTS: tuple[str, ...] = (
    "approvals.requested.*",
    "approvals.voted.*",
    "approvals.vote_voided.*",
    "approvals.advanced.*",
    "approvals.reminded.*",
    "approvals.escalated.*",
    "approvals.overdue.*",
)

#: What happens to approvals: each gateway replica hears all of it, for the people who follow it live there.
APPROVAL_SUBJECTS: tuple[str, ...] = ("approvals.*.*",)

#: What becomes of agents, for the people who follow it live at a gateway replica.
AGENT_CHANGE_SUBJECTS: tuple[str, ...] = ("fleet.phase_changed.*", "fleet.status_changed.*")

#: Where audit tells every executor which grants it has just recorded, unasked: plain NATS, a
#: :class:`~countersign_contracts.commands.Receipt`, which nobody else may publish.
RECORDED_SUBJECT = "recorded.grants"

CONSUMERS: tuple[Consumer, ...] = (
    # what is put off because its agent has as many open as it may counts as pending: the others must still be heard
    Consumer("INGRESS", "gateway-ingress", "gateway", ("agents.*.actions",), max_ack_pending=32_768),
    Consumer(
        "ACTIONS",
        "gateway-finals",
        "gateway",
        ("actions.executed.*", "actions.denied.*", "actions.refused.*", "actions.reconciled.*"),
    ),
    Consumer("ACTIONS", "gateway-progress", "gateway", ("actions.held.*", "actions.granted.*", "actions.started.*")),
    Consumer("APPROVALS", "gateway-approvals", "gateway", APPROVAL_PROGRESS_SUBJECTS),
    Consumer("ACTIONS", "policy-actions", "policy", ("actions.requested.*", "actions.refused.*")),
    Consumer("APPROVALS", "policy-approvals", "policy", ("approvals.resolved.*",)),
    Consumer("ACTIONS", "approvals-actions", "approvals", ("actions.held.*", "actions.cancelled.*")),
    Consumer("APPROVALS", "slack-approvals", "slack", ("approvals.*.*",)),
    Consumer("ACTIONS", "slack-actions", "slack", FINAL_SUBJECTS),
    Consumer("FLEET", "approvals-people", "approvals", ("fleet.person_changed.*",)),
    Consumer(
        "APPROVALS",
        "approvals-webhooks",
        "approvals",
        tuple(f"approvals.{event}.*" for event in approval_rules.WEBHOOK_EVENTS),
    ),
    Consumer("FLEET", "approvals-alerts", "approvals", alerts.alert_subjects()),
    Consumer("FLEET", "slack-alerts", "slack", alerts.alert_subjects()),
    Consumer("ACTIONS", "executor-actions", "executor", ("actions.granted.*",), ack_wait_s=30),
    Consumer("ACTIONS", "audit-actions", "audit", ("actions.*.*",), max_ack_pending=8192),
    Consumer("APPROVALS", "audit-approvals", "audit", ("approvals.*.*",)),
    Consumer("FLEET", "audit-fleet", "audit", ("fleet.*.*",)),
    Consumer("CONTROL", "audit-control", "audit", ("control.*", "audit.*")),
    Consumer("TELEMETRY", "registry-logs", "registry", ("agents.*.logs",)),
    Consumer("TELEMETRY", "registry-metrics", "registry", ("agents.*.metrics",)),
    Consumer("DEADLETTER", "audit-deadletter", "audit", ("deadletter.*.*",)),
)


@dataclass(frozen=True, slots=True)
class Access:
    """What one NATS user may publish and subscribe to.

    Answers go to the inboxes of those who may ask. (NATS can also allow "a response to each request", but then the
    asker names a subject that no permission of the responder guards.)
    """

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def stream(name: str) -> Stream:
    """The stream of that name."""
    return next(s for s in STREAMS if s.name == name)


def consumer(name: str) -> Consumer:
    """The consumer of that name."""
    return next(c for c in CONSUMERS if c.name == name)


def emits(service: str) -> frozenset[str]:
    """Every type that the service's key may sign: its events, its commands, its projections, and the warrant's like."""
    types = {kind.spec.type for kind in EVENTS.values() if service in kind.spec.emitters}
    types |= {kind.rpc.type for kind in COMMANDS.values() if service in kind.rpc.callers}
    types |= {bucket.type for bucket in BUCKETS if bucket.owner == service}
    types |= {
        "policy": {WARRANT_TYPE},
        "audit": {CHECKPOINT_TYPE, REPEATED_TYPE, UNVERIFIED_TYPE},
        "gateway": {RESULT_TYPE, RESULTS_TYPE},
        "registry": {ACCESS_TOKEN_TYPE},
    }.get(service, set())
    return frozenset(types)


def _consuming(service: str, account: Account) -> tuple[list[str], list[str]]:
    publish: list[str] = []
    for c in CONSUMERS:
        if c.service == service and stream(c.stream).account == account:
            publish += [
                f"$JS.API.CONSUMER.INFO.{c.stream}.{c.name}",
                f"$JS.API.CONSUMER.MSG.NEXT.{c.stream}.{c.name}",
                f"$JS.ACK.{c.stream}.{c.name}.>",
            ]
    return publish, []


def core_access(service: str) -> Access:
    """The least a service needs in account CORE."""
    publish, subscribe = _consuming(service, "CORE")
    subscribe.append(f"{subjects.inbox(service)}.>")
    for kind in EVENTS.values():
        if service in kind.spec.emitters:
            subject = kind.spec.subject
            # a dead letter names the consumer it comes from: only the service's own ones
            if kind.spec.stream == "DEADLETTER":
                publish += [f"deadletter.{c.stream}.{c.name}" for c in CONSUMERS if c.service == service]
            else:
                publish.append(subject.replace("{token}", "*"))
    for command in COMMANDS.values():
        if service in command.rpc.callers:
            publish.append(command.rpc.subject)
    answered = [command.rpc for command in COMMANDS.values() if command.rpc.service == service]
    subscribe += [rpc.subject for rpc in answered]
    publish += [f"{subjects.inbox(caller)}.>" for rpc in answered for caller in rpc.callers]
    for bucket in BUCKETS:
        kv = f"KV_{bucket.name}"
        if service == bucket.owner:
            publish += [f"$KV.{bucket.name}.>", f"$JS.API.STREAM.INFO.{kv}", f"$JS.API.DIRECT.GET.{kv}.>"]
        if service in bucket.readers:
            publish += [
                f"$JS.API.STREAM.INFO.{kv}",
                f"$JS.API.DIRECT.GET.{kv}.>",
                f"$JS.API.CONSUMER.CREATE.{kv}",
                f"$JS.API.CONSUMER.CREATE.{kv}.>",
                f"$JS.API.CONSUMER.INFO.{kv}.>",
                f"$JS.API.CONSUMER.DELETE.{kv}.>",
                f"$JS.FC.KV_{bucket.name}.>",
            ]
    if service == "gateway":
        subscribe += FINAL_SUBJECTS + APPROVAL_SUBJECTS + AGENT_CHANGE_SUBJECTS
    if service == "executor":
        subscribe.append(RECORDED_SUBJECT)
    if service == "audit":
        publish.append(RECORDED_SUBJECT)
        # the incarnation of each stream (its creation time) is part of every entry; what the consumer did not bring
        # is read by its sequence, so that the ledger has every message in the stream's order
        for s in STREAMS:
            if s.account == "CORE":
                publish += [f"$JS.API.STREAM.INFO.{s.name}", f"$JS.API.STREAM.MSG.GET.{s.name}"]
    if service == "gateway":
        # people list dead letters there, and what they redrove or dropped goes
        publish += [f"$JS.API.STREAM.{verb}.DEADLETTER" for verb in ("INFO", "MSG.GET", "MSG.DELETE")]
    return Access(tuple(dict.fromkeys(publish)), tuple(dict.fromkeys(subscribe)))


def agents_access(service: str) -> Access | None:
    """The least a service needs in account AGENTS; none for those that do not stand there."""
    if service == "gateway":
        publish, subscribe = _consuming("gateway", "AGENTS")
        # heartbeats and telemetry of agents that have only HTTP
        publish += ["agents.*.results.*", "agents.*.heartbeat", "agents.*.logs", "agents.*.metrics"]
        publish += [f"{subjects.inbox('*')}.>"]
        subscribe += [
            f"{subjects.inbox('gateway')}.>",
            "agents.*.call",
            "agents.*.get",
            "agents.*.list",
            "agents.*.cancel",
            # as ordinary messages, of agents that somebody follows there
            "agents.*.logs",
            "agents.*.metrics",
        ]
        return Access(tuple(publish), tuple(subscribe))
    if service == "registry":
        publish, subscribe = _consuming("registry", "AGENTS")
        return Access(
            (*publish, "agents.*.control.>", f"{subjects.inbox('*')}.>"),
            (
                *subscribe,
                f"{subjects.inbox('registry')}.>",
                "agents.*.heartbeat",
                "agents.*.renew",
                "agents.*.config",
                "agents.*.configured",
                subjects.REGISTER,
                *(subject for verb in observation.VERBS for subject in observation.asked(verb)),
            ),
        )
    return None
