"""The stops in force, as this process knows them: what the last check before a call reads. Pure.

The rows are the authority, and every claim reads them in its own transaction. This copy makes a stop that
was set here hold from the moment it is acknowledged, for claims that were committed before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from countersign_contracts.actions import Reason
from countersign_contracts.control import Stop


class Stops:
    """Stops by scope. ``generation`` counts the changes made here, so that a slow reading cannot undo one."""

    def __init__(self) -> None:
        self._stops: dict[str, Stop] = {}
        self.generation = 0

    def add(self, stop: Stop) -> None:
        """In force from now on."""
        self._stops[stop.stop_id] = stop
        self.generation += 1

    def remove(self, stop_id: str) -> None:
        """In force no more."""
        self._stops.pop(stop_id, None)
        self.generation += 1

    def replace(self, stops: Iterable[Stop], generation: int) -> bool:
        """What the rows said; not taken if something changed here since the reading began at ``generation``."""
        if generation != self.generation:
            return False
        self._stops = {stop.stop_id: stop for stop in stops}
        return True

    def in_force(self) -> list[Stop]:
        """All of them."""
        return list(self._stops.values())

    def covering(self, scopes: Sequence[str]) -> Stop | None:
        """A stop over any of ``scopes``."""
        for stop in self._stops.values():
            if stop.scope in scopes:
                return stop
        return None


def stopped(stop: Stop) -> Reason:
    """Why an action under ``stop`` is refused."""
    return Reason(code="stopped", message=f"stopped ({stop.scope}): {stop.reason}", policy=stop.stop_id)
