"""What the executor counts.

Labels are tools (bounded by the catalogue), outcomes and codes; never agents or requests.
"""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram

from countersign_chassis import Metrics


@dataclass(frozen=True, slots=True)
class Measures:
    """The metrics of one executor."""

    executions: Counter
    seconds: Histogram
    in_flight: Gauge
    refusals: Counter
    unknown_open: Gauge
    late: Counter
    retries: Counter
    facts: Counter
    probes: Counter
    given_back: Counter
    announcements_refused: Counter

    @classmethod
    def of(cls, metrics: Metrics) -> Measures:
        """Register them."""
        return cls(
            executions=metrics.counter(
                "countersign_executions", "Executions that ended, by outcome", ["tool", "outcome"]
            ),
            seconds=metrics.histogram(
                "countersign_execution_seconds",
                "From the claim of an action to the end of its last call",
                ["tool"],
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
        )
