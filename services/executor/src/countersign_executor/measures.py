"""What the executor counts.

Labels are tools (bounded by the catalogue), outcomes and codes; never agents or requests.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from prometheus_client import Counter, Gauge, Histogram

from countersign_chassis import Metrics
from countersign_chassis.metrics import Bounded, example
from countersign_contracts.actions import Action
from countersign_contracts.control import Stop
from countersign_contracts.model import now

#: What a stop can be for.
SCOPES = ("all", "env", "tool", "profile", "agent", "session")


@dataclass(frozen=True, slots=True)
class Measures:
    """The metrics of one executor."""

    executions: Counter
    seconds: Histogram
    wait: Histogram
    confirmation: Histogram
    in_flight: Gauge
    refusals: Counter
    unknown_open: Gauge
    late: Counter
    retries: Counter
    facts: Counter
    probes: Counter
    given_back: Counter
    announcements_refused: Counter
    stops: Gauge
    stops_oldest: Gauge
    tools: Bounded = field(default_factory=Bounded)

    @classmethod
    def of(cls, metrics: Metrics) -> Measures:
        """Register them; what should be seen to be nothing is shown at once."""
        measures = cls(
            executions=metrics.counter(
                "countersign_executions", "Executions that ended, by outcome", ["tool", "outcome"]
            ),
            seconds=metrics.histogram(
                "countersign_execution_seconds",
                "From the claim of an action to the end of its last call",
                ["tool"],
            ),
            wait=metrics.histogram(
                "countersign_execution_wait_seconds", "From the decision that granted an action to its claim"
            ),
            confirmation=metrics.histogram(
                "countersign_confirmation_seconds", "From taking a grant in hand to audit's word on it"
            ),
            in_flight=metrics.gauge("countersign_calls_in_flight", "Calls under way, fact lookups included"),
            refusals=metrics.counter(
                "countersign_executions_refused", "Granted actions that were not started", ["code"]
            ),
            unknown_open=metrics.gauge(
                "countersign_outcomes_unknown", "Executions whose outcome is unknown and not reconciled"
            ),
            late=metrics.counter("countersign_results_late", "Results refused because their claim had been taken over"),
            retries=metrics.counter("countersign_call_retries", "Calls tried again", ["tool"]),
            facts=metrics.counter("countersign_fact_lookups", "Facts looked up, by what they said", ["outcome"]),
            probes=metrics.counter(
                "countersign_probes", "Lookups of what became of unknown outcomes, by what they said", ["said"]
            ),
            given_back=metrics.counter(
                "countersign_grants_given_back", "Grants given back for later, by reason", ["reason"]
            ),
            announcements_refused=metrics.counter(
                "countersign_announcements_refused", "Events of commands that the bus would not take"
            ),
            stops=metrics.gauge("countersign_stops_in_force", "Stops in force, by what they are for", ["scope"]),
            stops_oldest=metrics.gauge("countersign_stops_oldest_seconds", "Age of the oldest stop in force; 0: none"),
        )
        for reason in ("unrecorded", "unavailable", "held elsewhere", "late", "failed", "stopping"):
            measures.given_back.labels(reason)
        for code in ("stopped", "warrant", "tool_changed", "facts_unavailable"):
            measures.refusals.labels(code)
        return measures

    @contextmanager
    def execution(self, action: Action) -> Iterator[None]:
        """Time the calls of one action."""
        tool = self.tools.of(action.tool)
        self.retries.labels(tool)  # shown from now on
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds.labels(tool).observe(time.perf_counter() - began, example(action.request_id))

    def show_stops(self, stops: Iterable[Stop]) -> None:
        """The stops in force, as the pulse read them last."""
        ages, scopes = [0.0], dict.fromkeys(SCOPES, 0)
        for stop in stops:
            scopes[stop.scope.partition(":")[0]] += 1
            ages.append((now() - stop.set_at).total_seconds())
        for scope, count in scopes.items():
            self.stops.labels(scope).set(count)
        self.stops_oldest.set(max(ages))
