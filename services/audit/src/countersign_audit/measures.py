"""What audit measures. Labels never carry agents, sessions or requests."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence
from datetime import datetime

from countersign_chassis import Metrics
from countersign_contracts.model import now

from .arrival import kind_of
from .sealing import Sealed


class Measures:
    """Audit's metrics, and the few numbers they are read from."""

    def __init__(self, metrics: Metrics) -> None:
        self._entries = metrics.counter("countersign_audit_entries", "Entries appended", ["kind"])
        self._unverified = metrics.counter(
            "countersign_audit_unverified", "Messages recorded as unverified, by reason", ["reason"]
        )
        for reason in ("malformed", "unverifiable", "conflict", "too_large", "unstorable"):
            self._unverified.labels(reason)  # shown from now on, with nothing counted yet
        self._repeated = metrics.counter("countersign_audit_repeated", "Events recorded as repeats")
        self._batch = metrics.histogram(
            "countersign_audit_append_entries",
            "Entries written at once",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
        )
        self.append_duration = metrics.histogram(
            "countersign_audit_append_seconds", "Time to write and commit one batch"
        )
        self.receipt_wait = metrics.histogram(
            "countersign_audit_receipt_wait_seconds",
            "Time a receipt was waited for, until it was given or given up",
        )
        self.append_failures = metrics.counter(
            "countersign_audit_append_failures", "Interruptions of writing; what waits is tried again"
        )
        self.head = metrics.gauge("countersign_audit_head", "Sequence of the last entry")
        self.leading = metrics.gauge("countersign_audit_leading", "1 while this replica writes the ledger")
        self.checkpoint_seq = metrics.gauge("countersign_audit_checkpoint", "Sequence that the last checkpoint is for")
        age = metrics.gauge(
            "countersign_audit_checkpoint_age_seconds", "Since the last checkpoint was signed; 0: none yet"
        )
        age.set_function(lambda: _since(self.checkpoint_at))
        lag = metrics.gauge(
            "countersign_audit_lag_seconds",
            "From when the event at the ledger's end happened until it was on record; while writing fails, growing",
        )
        lag.set_function(lambda: max(self._lag_s, _since(self.waiting_since)))
        self.checkpoint_at: datetime | None = None
        self.waiting_since: datetime | None = None
        self._lag_s = 0.0

    def appended(self, batch: Sequence[Sealed], at: datetime) -> None:
        """A batch is on record."""
        self._batch.observe(len(batch))
        kinds = Tally(kind_of(s.entry.type) for s in batch)
        for kind, count in kinds.items():
            self._entries.labels(kind.split(".", 1)[0]).inc(count)
        for one in batch:
            if one.doubt is not None:
                self._unverified.labels(one.doubt.code).inc()
            elif one.verdict == "repeated":
                self._repeated.inc()
        last = batch[-1]
        self.head.set(last.entry.seq)
        self._lag_s = max(0.0, (at - last.found.at).total_seconds())


def _since(moment: datetime | None) -> float:
    return 0.0 if moment is None else max(0.0, (now() - moment).total_seconds())
