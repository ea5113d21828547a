"""What a publisher could add to a message to reach further than its own subject."""

from __future__ import annotations


def harmful(target: str) -> dict[str, dict[str, str]]:
    """Headers by which a message would reach ``target``, or undo others (NATS ADR-9, ADR-43, ADR-49, ADR-51)."""
    return {
        "schedule": {"Nats-Schedule": "@at 2099-01-01T00:00:00Z", "Nats-Schedule-Target": target},
        "repeated schedule": {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": target},
        "purge of a schedule": {"Nats-Schedule-Next": "purge", "Nats-Scheduler": target},
        "rollup of the subject": {"Nats-Rollup": "sub"},
        "rollup of the stream": {"Nats-Rollup": "all"},
        "time to live": {"Nats-TTL": "1s"},
        "counter": {"Nats-Incr": "+1"},
        "batch": {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1"},
    }
