"""Named points where a test may inject a fault. Injected through ``build()``, never armed from outside a process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping


class Failpoints:
    """Runs the action registered for a point, or nothing."""

    def __init__(self, actions: Mapping[str, Callable[[], Awaitable[None]]] | None = None) -> None:
        self._actions = dict(actions or {})

    async def hit(self, name: str) -> None:
        """Reach the point ``<service>.<where>``; whatever its action raises is raised here."""
        if self._actions and (action := self._actions.get(name)):
            await action()


NO_FAILPOINTS = Failpoints()
