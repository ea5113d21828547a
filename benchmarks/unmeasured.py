"""`countersign` without metrics, to compare with: nothing is counted, and nobody looks at the queues.

The product cannot be run so. Services are forked from this process, and so have its metrics that do nothing.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from countersign_chassis import metrics
from countersign_chassis.queue_watch import QueueWatch
from countersign_cli.main import app


class _Nothing:
    """Every kind of metric."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def labels(self, *_: Any, **__: Any) -> _Nothing:
        """All the same."""
        return self

    def time(self) -> AbstractContextManager[None]:
        """Of whatever is done inside."""
        return nullcontext()

    def _nothing(self, *_: Any, **__: Any) -> None:
        pass

    inc = dec = set = observe = set_function = remove = _nothing


async def _look(_: QueueWatch) -> None:
    """At nothing."""


if __name__ == "__main__":
    for kind in ("Counter", "Gauge", "Histogram"):
        setattr(metrics, kind, _Nothing)
    setattr(QueueWatch, "look", _look)  # noqa: B010  (a method is not to be assigned to)
    app()
