"""The webhooks' metrics. Labels are few: webhooks beyond the first ones are counted together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from time import perf_counter

from countersign_chassis import Metrics

from .webhooks_store import Waiting

#: How many webhooks have a label of their own.
_MOST = 50
_OTHER = "other"


class WebhookMeasures:
    """Counted where it happens."""

    def __init__(self, metrics: Metrics) -> None:
        self._names: set[str] = set()
        self._tries = metrics.counter(
            "countersign_webhook_tries", "Posts to webhooks: delivered, failed, or given up", ["webhook", "result"]
        )
        self._seconds = metrics.histogram("countersign_webhook_post_seconds", "Duration of a post to a webhook")
        self._pending = metrics.gauge(
            "countersign_webhook_deliveries_pending", "Events that a webhook was not told yet", ["webhook"]
        )
        self._oldest = metrics.gauge(
            "countersign_webhook_oldest_seconds", "Age of the oldest event that a webhook was not told yet", ["webhook"]
        )

    def tried(self, webhook: str, result: str) -> None:
        """A post ended."""
        self._tries.labels(self._label(webhook), result).inc()

    @contextmanager
    def posting(self) -> Iterator[None]:
        """Measures a post."""
        began = perf_counter()
        try:
            yield
        finally:
            self._seconds.observe(perf_counter() - began)

    def waiting(self, waiting: Mapping[str, Waiting], at: datetime) -> None:
        """What waits now."""
        pending = dict.fromkeys(self._names | {self._label(name) for name in waiting}, 0)
        oldest = dict.fromkeys(pending, 0.0)
        for name, each in waiting.items():
            label = self._label(name)
            pending[label] += each.pending
            oldest[label] = max(oldest[label], (at - each.oldest).total_seconds())
        for label, many in pending.items():
            self._pending.labels(label).set(many)
            self._oldest.labels(label).set(oldest[label])

    def _label(self, webhook: str) -> str:
        if webhook not in self._names and len(self._names) >= _MOST:
            return _OTHER
        self._names.add(webhook)
        return webhook
