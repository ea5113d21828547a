"""What agents say and what becomes of them, told live to the people who follow it at this replica.

The gateway hears an agent's logs and metrics as ordinary messages, while somebody here follows that agent, and never
instead of the registry, which keeps them. What an agent says is untrusted: it is checked as the registry checks it, and
who says more than can be read in passing is heard in part. A record has the id that it is kept with: by it a client
joins what it follows and the page that it reads then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from countersign_chassis.connection import NatsConnection
from countersign_contracts import subjects
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.model import now
from countersign_contracts.telemetry import LEVELS, LogLevel, StoredLog
from countersign_contracts.topology import AGENT_CHANGE_SUBJECTS
from countersign_ledger import TrustBundle

from .agent_news import AgentNews, batch_of, news_of_change, news_of_logs, news_of_metrics, on_the_wire
from .followers import Follower, Followers
from .passing import Once, believed

Kind = Literal["logs", "metrics", "phase", "status"]
#: What an agent itself says; only of agents that are named.
_SAID: tuple[Literal["logs", "metrics"], ...] = ("logs", "metrics")
#: Bytes of telemetry read in a second: of one agent, and of all together. The rest of that second is not told.
AGENT_BYTES_S, ALL_BYTES_S = 1024 * 1024, 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Interest:
    """What a follower wants to hear. ``agents`` None: every agent's phase and status, and nobody's logs or metrics."""

    agents: frozenset[str] | None = frozenset()
    kinds: frozenset[Kind] = frozenset()
    level: LogLevel | None = None
    text: str | None = None

    def hears(self, kind: Kind, agent_id: str) -> bool:
        """Whether that is of interest."""
        if kind not in self.kinds:
            return False
        return kind not in _SAID if self.agents is None else agent_id in self.agents

    def takes(self, log: StoredLog) -> bool:
        """Whether the record is, as when a page is read."""
        if self.level is not None and LEVELS.index(log.level) < LEVELS.index(self.level):
            return False
        return self.text is None or self.text.lower() in log.text.lower()

    def subjects(self) -> set[tuple[str, Literal["logs", "metrics"]]]:
        """Of which agents which verbs must be heard."""
        return {(agent, verb) for agent in self.agents or () for verb in _SAID if verb in self.kinds}


class AgentFollower(Follower):
    """A follower with its interest; it is told server-sent events or the bare JSON of them."""

    def __init__(self, most: int, wire: Literal["events", "json"]) -> None:
        super().__init__(most, "read the page again")
        self.wire = wire
        self.interest = Interest()


@dataclass
class Allowance:
    """How much was read in this second. Pure, but for what it remembers."""

    agent_bytes: int = AGENT_BYTES_S
    all_bytes: int = ALL_BYTES_S
    _second: int = -1
    _read: dict[str, int] = field(default_factory=dict)

    def takes(self, agent_id: str, size: int, clock_s: float) -> bool:
        """Whether ``size`` more bytes of the agent are read; an agent's first message of a second always is."""
        if int(clock_s) != self._second:
            self._second, self._read = int(clock_s), {}
        before = self._read.get(agent_id, 0)
        if (before and before + size > self.agent_bytes) or sum(self._read.values()) + size > self.all_bytes:
            return False
        self._read[agent_id] = before + size
        return True


class FollowingAgents:
    """The followers of agents at this process. ``door`` stands in account AGENTS, ``core`` in CORE."""

    def __init__(
        self,
        door: NatsConnection,
        core: NatsConnection,
        trust: TrustBundle,
        most_followers: int,
        most_events: int,
        log: Any,
    ) -> None:
        self._door = door
        self._core = core
        self._trust = trust
        self._most_events = most_events
        self._log = log
        self._followers: Followers[AgentFollower] = Followers("agents", most_followers)
        self._allowance = Allowance()
        self._once = Once()
        self._subscriptions: dict[tuple[str, Literal["logs", "metrics"]], Subscription] = {}
        self._listening = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Hear what becomes of agents, beside the other replicas; and say so when something may have been missed."""
        for subject in AGENT_CHANGE_SUBJECTS:
            await self._core.client.listen(subject, self._hear_event)
        self._core.on_reconnect(self._followers.missed)
        self._door.on_reconnect(self._followers.missed)

    def follow(self, wire: Literal["events", "json"]) -> AgentFollower:
        """A new follower, of nothing yet. Raises `at_capacity`, and `unavailable` while stopping."""
        return self._followers.add(AgentFollower(self._most_events, wire))

    async def turn_to(self, follower: AgentFollower, interest: Interest) -> None:
        """It is told this from now on, and nothing else: once this returns, nothing passes unheard.

        Raises :class:`Unavailable` while nats-server is away.
        """
        follower.interest = interest
        try:
            async with asyncio.timeout(5):
                await self._listen()
                await self._door.barrier()  # also where another's subscription is used, which may be on its way still
        except (nats.errors.Error, OSError, TimeoutError):
            raise Unavailable("nats-server does not answer the gateway; try again") from None

    def leave(self, follower: AgentFollower) -> None:
        """It is told nothing any more."""
        self._followers.leave(follower)
        task = asyncio.create_task(self._unlisten())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def release(self) -> None:
        """Nobody is told any more: the process stops."""
        await self._followers.release()

    # --- listening --------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Hear all that somebody follows, and nothing else."""
        async with self._listening:
            wanted = {each for follower in self._followers for each in follower.interest.subjects()}
            for gone in self._subscriptions.keys() - wanted:
                await self._door.client.unlisten(self._subscriptions.pop(gone))
            for agent_id, verb in wanted - self._subscriptions.keys():
                self._subscriptions[agent_id, verb] = await self._door.client.listen(
                    subjects.agent(agent_id, verb), partial(self._hear_agent, agent_id, verb)
                )

    async def _unlisten(self) -> None:
        try:
            await self._listen()
        except (nats.errors.Error, OSError, TimeoutError) as error:
            # the next one who follows or leaves brings it to order
            self._log.warning("goes on hearing an agent that nobody follows", error=repr(error))

    # --- hearing ----------------------------------------------------------------------------------------

    def _hear_agent(self, agent_id: str, verb: Literal["logs", "metrics"], msg: Msg) -> None:
        told = [follower for follower in self._followers if follower.interest.hears(verb, agent_id)]
        if not told:
            return
        if not self._allowance.takes(agent_id, len(msg.data), asyncio.get_running_loop().time()):
            for follower in told:
                follower.missed()
            return
        try:
            said = (
                news_of_logs(agent_id, msg.data, now())
                if verb == "logs"
                else news_of_metrics(agent_id, msg.data, now())
            )
        except CountersignError:
            return  # the registry counts and logs what it refuses
        if self._once.first(agent_id, verb, batch_of(said[0])):
            self._tell(told, said)

    def _hear_event(self, msg: Msg) -> None:
        if not self._followers or (heard := believed(msg, self._trust, self._log)) is None:
            return
        envelope, event = heard
        news = news_of_change(event)
        if news is not None and self._once.first(envelope.id):
            kind: Kind = "phase" if news.kind == "phase" else "status"
            self._tell([each for each in self._followers if each.interest.hears(kind, news.agent_id)], [news])

    def _tell(self, followers: Iterable[AgentFollower], said: list[AgentNews]) -> None:
        wires = [(each, *on_the_wire(each)) for each in said]
        for follower in followers:
            for news, event, body in wires:
                if news.log is None or follower.interest.takes(news.log):
                    follower.tell(event if follower.wire == "events" else body)
