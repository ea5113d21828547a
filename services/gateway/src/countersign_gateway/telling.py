"""What agents that have only HTTP tell of their work: checked, and put into the stream where the others publish it."""

from __future__ import annotations

from typing import Literal

from countersign_chassis.connection import NatsConnection, Outgoing
from countersign_contracts import subjects
from countersign_contracts.model import now
from countersign_contracts.telemetry import LogBatch, MetricReport, opened


class Telling:
    """The door of telemetry. ``door`` stands in account AGENTS."""

    def __init__(self, door: NatsConnection) -> None:
        self._door = door

    async def take(self, agent_id: str, verb: Literal["logs", "metrics"], body: bytes) -> None:
        """Return once the stream has it. Raises what is wrong with it, and `unavailable`."""
        opened(LogBatch if verb == "logs" else MetricReport, body, now())
        await self._door.publish_to_stream([Outgoing(subjects.agent(agent_id, verb), body, {})])
