"""What happens to approvals, told live to the people who follow it at this replica (server-sent events).

Every replica hears every event of stream APPROVALS as an ordinary message, and verifies it only while somebody follows
it here. What is told says which approval changed, and how; a follower reads the approval itself again. Who reads too
slowly, or could have missed something, is told so.
"""

from __future__ import annotations

from typing import Any, Literal

from nats.aio.msg import Msg

from countersign_chassis.connection import NatsConnection
from countersign_contracts.approvals import (
    ApprovalEvent,
    ApprovalResolved,
    ApprovalState,
    ApprovalVoteRefused,
    StandingEvent,
)
from countersign_contracts.event import Event
from countersign_contracts.ids import AgentId, Env, RequestId, ToolName
from countersign_contracts.model import Frozen, Time
from countersign_contracts.topology import APPROVAL_SUBJECTS
from countersign_ledger import TrustBundle

from .followers import Follower, Followers
from .followers import event as sse
from .passing import Once, believed

Said = Literal[
    "requested",
    "voted",
    "vote_voided",
    "advanced",
    "reminded",
    "escalated",
    "overdue",
    "resolved",
    "standing_granted",
    "standing_revoked",
]


class ApprovalNews(Frozen):
    """One event: what happened to which approval. Read the approval again for what it is now."""

    kind: Said
    approval_id: str
    state: ApprovalState | None = None
    request_id: RequestId | None = None
    agent_id: AgentId
    tool: ToolName
    env: Env
    standing_id: str | None = None
    at: Time


class Following:
    """The followers of this process."""

    def __init__(
        self, connection: NatsConnection, trust: TrustBundle, most_followers: int, most_events: int, log: Any
    ) -> None:
        self._connection = connection
        self._trust = trust
        self._most_events = most_events
        self._log = log
        self._followers: Followers[Follower] = Followers("approvals", most_followers)
        self._once = Once()

    async def start(self) -> None:
        """Listen, beside the other replicas: no queue group."""
        for subject in APPROVAL_SUBJECTS:
            await self._connection.client.listen(subject, self._hear)
        self._connection.on_reconnect(self._followers.missed)

    def follow(self) -> Follower:
        """A new follower, told everything from now on. Raises `at_capacity`, and `unavailable` while stopping."""
        return self._followers.add(Follower(self._most_events))

    def leave(self, follower: Follower) -> None:
        """It is told nothing any more."""
        self._followers.leave(follower)

    async def release(self) -> None:
        """Nobody is told any more: the process stops."""
        await self._followers.release()

    def _hear(self, msg: Msg) -> None:
        if not self._followers or (heard := believed(msg, self._trust, self._log)) is None:
            return
        envelope, event = heard
        news = news_of(event, envelope.time)
        if news is not None and self._once.first(envelope.id):
            said = sse(news.kind, news.model_dump(mode="json", exclude_none=True), envelope.id)
            for follower in self._followers:
                follower.tell(said)


def news_of(event: Event, at: Any) -> ApprovalNews | None:
    """What followers are told of an event; None for what changes nothing."""
    match event:
        case ApprovalVoteRefused():
            return None
        case ApprovalEvent(action=action):
            return ApprovalNews(
                kind=event.spec.name,  # type: ignore[arg-type]  # checked by the model
                approval_id=event.approval_id,
                state=event.state if isinstance(event, ApprovalResolved) else "pending",
                request_id=action.request_id,
                agent_id=action.agent_id,
                tool=action.tool,
                env=action.env,
                at=at,
            )
        case StandingEvent(standing=standing):
            return ApprovalNews(
                kind=event.spec.name,  # type: ignore[arg-type]
                approval_id=standing.approval_id,
                agent_id=standing.agent_id,
                tool=standing.tool,
                env=standing.env,
                standing_id=standing.standing_id,
                at=at,
            )
    return None
