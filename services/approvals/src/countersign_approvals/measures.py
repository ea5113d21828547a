"""The approvals' metrics. Labels are few: rules beyond the first ones are counted together."""

from __future__ import annotations

from datetime import datetime

from countersign_chassis import Metrics
from countersign_contracts.approvals import Vote

from .store import Ages, Approval

_AGES_S = (1, 5, 15, 60, 300, 900, 3600, 14400, 86400)
#: How many rules have a label of their own.
_MOST_RULES = 50
_OTHER = "other"


class Measures:
    """Counted where it happens."""

    def __init__(self, metrics: Metrics) -> None:
        self._rules: set[str] = set()
        self._resolved = metrics.counter("countersign_approvals_resolved", "Approvals that ended", ["state"])
        self._refused = metrics.counter("countersign_votes_refused", "Votes that did not count", ["reason"])
        self._voided = metrics.counter("countersign_votes_voided", "Votes of people who are entitled no more")
        self._reminders = metrics.counter("countersign_approval_reminders", "Reminders of approvals nobody ended")
        self._escalations = metrics.counter("countersign_approval_escalations", "Further people asked")
        self._overdue = metrics.counter("countersign_approvals_overdue", "Approvals kept open after their deadline")
        self._uses = metrics.counter("countersign_standing_uses", "Actions approved by a standing approval")
        self._granted = metrics.counter("countersign_standing_granted", "Standing approvals granted")
        self._pending = metrics.gauge("countersign_approvals_pending", "Approvals that wait for people")
        self._by_age = metrics.gauge(
            "countersign_approvals_pending_by_age", "Approvals that wait for people, by their age", ["age"]
        )
        self._oldest = metrics.gauge("countersign_approvals_oldest_seconds", "Age of the oldest pending approval")
        self._used = metrics.gauge(
            "countersign_approvals_time_used_ratio",
            "How much of its time the pending approval nearest to its deadline has used; above 1: kept open after it",
        )
        self._decision = metrics.histogram(
            "countersign_approval_decision_seconds",
            "From request to decision by a person",
            ["channel", "rule"],
            buckets=_AGES_S,
        )

    def ended(self, state: str, many: int = 1) -> None:
        """Approvals ended."""
        self._resolved.labels(state).inc(many)

    def decided(self, approval: Approval, vote: Vote) -> None:
        """A vote ended an approval."""
        rule = approval.rule.rule
        if rule not in self._rules and len(self._rules) >= _MOST_RULES:
            rule = _OTHER
        self._rules.add(rule)
        taken = (vote.voted_at - approval.requested_at).total_seconds()
        self._decision.labels(vote.channel, rule).observe(taken)

    def refused(self, code: str) -> None:
        """A vote did not count."""
        self._refused.labels(code).inc()

    def voided(self) -> None:
        """A vote counts no more."""
        self._voided.inc()

    def happened(self, what: str) -> None:
        """A reminder, an escalation or a deadline that keeps it open."""
        {"remind": self._reminders, "escalate": self._escalations, "overdue": self._overdue}[what].inc()

    def standing_granted(self) -> None:
        """A standing approval was granted."""
        self._granted.inc()

    def standing_used(self) -> None:
        """An action was approved by one."""
        self._uses.inc()

    def waiting(self, ages: Ages, at: datetime) -> None:
        """What waits now."""
        self._pending.set(ages.count)
        self._oldest.set((at - ages.oldest).total_seconds() if ages.oldest else 0)
        self._used.set(max(0.0, ages.used))  # the database's clock may be behind
        for age, many in ages.by_age.items():
            self._by_age.labels(age).set(many)
