"""Prometheus metrics on a registry of the service's own, so that several services may share a process in tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.samples import Sample

#: Seconds; from a database round trip to a slow downstream.
DURATION_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
#: Observations noted before they are counted.
_NOTED = 1024
#: Stands for every value that a bounded label has no room for.
OTHER = "other"


class NotedHistogram(Histogram):
    """Notes what is observed, and counts it when somebody looks: counting takes ten times as long.

    An observation with an example is counted at once, for the time that is kept with it.
    """

    def _metric_init(self) -> None:
        super()._metric_init()
        self._noted: list[float] = []

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Observe the given amount."""
        if exemplar is not None:
            super().observe(amount, exemplar)
            return
        self._noted.append(amount)
        if len(self._noted) >= _NOTED:
            self._count_noted()

    def _count_noted(self) -> None:
        noted, self._noted = self._noted, []
        for amount in noted:
            super().observe(amount)

    def _child_samples(self) -> Iterable[Sample]:
        self._count_noted()
        return super()._child_samples()


class Metrics:
    """Makes metrics. Names start with ``countersign_``, units are base units, labels are few and bounded."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a further series for each, which nobody asks for
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter:
        """A count that only grows; ``name`` without ``_total``."""
        return Counter(name, help, labels, registry=self.registry)

    def gauge(self, name: str, help: str, labels: Sequence[str] = ()) -> Gauge:
        """A value that goes up and down."""
        return Gauge(name, help, labels, registry=self.registry)

    def histogram(
        self, name: str, help: str, labels: Sequence[str] = (), buckets: Sequence[float] = DURATION_BUCKETS
    ) -> Histogram:
        """A distribution; durations in seconds."""
        return NotedHistogram(name, help, labels, registry=self.registry, buckets=buckets)

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)

    def page(self, accept: str) -> tuple[bytes, str]:
        """The page and its content type: OpenMetrics for who accepts it, which alone shows exemplars, else text."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type


def example(request_id: str) -> dict[str, str]:
    """The one action behind an observation, as an exemplar: kept for the latest of each bucket, never a label."""
    return {"request_id": request_id}


class Bounded:
    """The values of a label that others choose, such as a tool's name: the first ``limit`` of them, then ``other``."""

    def __init__(self, limit: int = 50) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def of(self, value: str) -> str:
        """The value itself, or :data:`OTHER` once there are too many."""
        if value in self._known:
            return value
        if len(self._known) >= self._limit:
            return OTHER
        self._known.add(value)
        return value
