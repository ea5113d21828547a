"""What an agent's code calls to say how it does: records of its log, events, and metrics of its own."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Any

from .records import extra_of, level_of
from .telemetry import Telemetry

#: Loggers that sending itself writes to: what they say would never end.
_OURS = ("countersign.agent", "nats", "aiohttp")


class Telling:
    """The part of an agent that tells of its work. Nothing of it waits or raises; all of it may be used in threads."""

    _telemetry: Telemetry

    def log(
        self,
        text: object,
        *,
        level: str = "info",
        logger: str | None = None,
        request_id: str | None = None,
        **fields: Any,
    ) -> None:
        """Write a record to the agent's log, where people read it. No secrets.

        ``level`` is `debug`, `info`, `warning`, `error` or `critical`; what the agent's configuration does not ask for
        (``log_level``) is left out. ``request_id`` is the action it is about. ``fields`` are its context, at most 32.
        """
        self._telemetry.log(level, text, logger, fields, request_id)

    def log_handler(self, level: int | str = logging.NOTSET) -> logging.Handler:
        """A handler of the standard library's: what it is handed goes to the agent's log, ``extra`` as its fields.

        >>> logging.getLogger().addHandler(agent.log_handler())
        """
        return AgentLogHandler(self._telemetry, level)

    def event(self) -> AbstractContextManager[None]:
        """Count the block as one event that the agent processed: its time, and whether it failed, which is to raise.

        >>> with agent.event():
        ...     await handle(order)
        """
        return self._telemetry.event()

    def count(self, *, succeeded: int = 0, failed: int = 0, processing_s: float = 0.0) -> None:
        """Count events that were processed in any other way."""
        self._telemetry.count(succeeded, failed, processing_s)

    def gauge(self, name: str, value: float) -> None:
        """Report a metric of the agent's own, with this value until another is given; at most 32 of them."""
        self._telemetry.gauge(name, value)


class AgentLogHandler(logging.Handler):
    """Hands the standard library's records to an agent's log."""

    def __init__(self, telemetry: Telemetry, level: int | str) -> None:
        super().__init__(level)
        self._telemetry = telemetry

    def emit(self, made: logging.LogRecord) -> None:
        """Keep it for the next batch, with its traceback if it has one."""
        if any(made.name == each or made.name.startswith(f"{each}.") for each in _OURS):
            return
        try:
            self._telemetry.log(level_of(made.levelno), self.format(made), made.name, extra_of(made), None)
        except Exception:
            self.handleError(made)
