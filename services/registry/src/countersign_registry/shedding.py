"""How much telemetry is taken of one agent, and how often the log speaks of one. Pure: time is handed in.

Agents are not trusted: one that floods is shed before its messages are read, and costs the others nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

#: What a message costs beyond its bytes, so that many small ones cost something too.
MESSAGE_BYTES = 1024
#: So much is taken at once of an agent that was quiet, in seconds of its bound.
BURST_S = 60.0
_MOST_KNOWN = 65_536


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class Budget:
    """A token bucket for each agent, filled with ``bytes_per_s`` by the clock of the stream: what waited there while no
    registry ran was sent in time, and is taken."""

    def __init__(self, bytes_per_s: float) -> None:
        self._per_s = bytes_per_s
        self._most = bytes_per_s * BURST_S
        self._of: dict[str, _Bucket] = {}

    def take(self, agent_id: str, size: int, at: float) -> bool:
        """Whether a message of ``size`` bytes that came ``at`` (in seconds) is within the agent's bound."""
        bucket = self._of.get(agent_id)
        if bucket is None:
            if len(self._of) >= _MOST_KNOWN:
                self._forget(at)
            bucket = self._of[agent_id] = _Bucket(self._most, at)
        bucket.left = min(self._most, bucket.left + max(0.0, at - bucket.at) * self._per_s)
        bucket.at = max(bucket.at, at)
        cost = size + MESSAGE_BYTES
        if cost > bucket.left:
            return False
        bucket.left -= cost
        return True

    def _forget(self, at: float) -> None:
        """Those whose buckets are full again by now."""
        self._of = {
            agent_id: bucket
            for agent_id, bucket in self._of.items()
            if bucket.left + (at - bucket.at) * self._per_s < self._most
        }


class Hush:
    """Lets one line through for each of a bounded number of subjects within ``every_s`` seconds."""

    def __init__(self, every_s: float, most: int = 1024) -> None:
        self._every_s = every_s
        self._most = most
        self._said: dict[str, tuple[float, int]] = {}

    def swallowed(self, about: str, at: float) -> int | None:
        """How many lines were kept back before this one; None: keep this one back too."""
        since, count = self._said.get(about, (None, 0))
        if since is not None and at - since < self._every_s:
            self._said[about] = (since, count + 1)
            return None
        if since is None and len(self._said) >= self._most:
            self._said = {each: said for each, said in self._said.items() if at - said[0] < self._every_s}
            if len(self._said) >= self._most:
                return None
        self._said[about] = (at, 0)
        return count
