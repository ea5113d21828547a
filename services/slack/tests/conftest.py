"""The service on real servers, with a Slack and with people who are linked to it."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest_asyncio

from countersign_chassis import Bus
from countersign_chassis.projections import Projector
from countersign_contracts.actions import Action, ActionHeld, Decision, Reason
from countersign_contracts.approval_commands import Approvals, ApprovalView, CastVote, GetApproval, ListApprovals
from countersign_contracts.approvals import ApprovalEvent, ApprovalRequested, ApprovalResolved, AskedBy, Vote
from countersign_contracts.canonical import action_digest
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import ChannelIdentity, PersonRecord
from countersign_contracts.ids import new_id, prefixed
from countersign_contracts.model import now
from countersign_contracts.projection import PEOPLE
from countersign_harness.slack import APP_TOKEN, BOT_TOKEN, SIGNING_SECRET, TEAM, FakeSlack
from countersign_harness.stack import Stack

CHANNEL, SECURITY = "C0APPROVALS", "C0SECURITY"
CHANNELS = f"default: {CHANNEL}\nsecurity: {SECURITY}\n"


def write_tokens(folder: Path, *, http: bool = False) -> None:
    """What an administrator puts there."""
    folder.mkdir(exist_ok=True)
    files = {"bot-token": BOT_TOKEN, "channels.yaml": CHANNELS}
    files |= {"signing-secret": SIGNING_SECRET} if http else {"app-token": APP_TOKEN}
    for name, text in files.items():
        (folder / name).write_text(f"{text}\n")


def held(**more: Any) -> ActionHeld:
    """A held action; `tool`, `args`, `owner_team`, `deadline_s` and so on as wished."""
    args = more.pop("args", {"thing_id": 7, "status": "closed"})
    parts: dict[str, Any] = {
        "principal_chain": ("person:dana",),
        "env": "prod",
        "tool": more.pop("tool", "write_thing"),
        "tool_version": 2,
    }
    at = now()
    action = Action(
        request_id=new_id(),
        agent_id="worker-1",
        digest=action_digest(agent="worker-1", session=None, args=args, **parts),
        requested_at=at,
        args=args,
        reason=more.pop("reason", "the customer asked"),
        **parts,
    )
    decision = Decision(
        outcome="hold",
        reasons=(Reason(code="approval_required", message="high risk needs approval", policy="profile:worker"),),
        policy_version="v",
        risk="high",
        effect="write",
        decided_at=at,
    )
    given = {"owner_team": "ops", "owner_oncall": "carol", "deadline_s": 3600} | more
    return ActionHeld(action=action, decision=decision, approval_id=prefixed("apr"), **given)


def view_of(event: ActionHeld, **more: Any) -> ApprovalView:
    """The approval of a held action, as it is first."""
    at = now()
    given: dict[str, Any] = {
        "approval_id": event.approval_id,
        "state": "pending",
        "action": event.action,
        "decision": event.decision,
        "owner_team": event.owner_team,
        "owner_oncall": event.owner_oncall,
        "requested_at": at,
        "deadline": at + timedelta(hours=1),
        "asked_by": AskedBy(),
        "waits_for": ("1 of anyone",),
    }
    return ApprovalView(**(given | more))


class Desk:
    """The approvals service as the contracts have it, in a test's hands: every view and every refusal there can be."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.views: dict[str, ApprovalView] = {}
        self.votes: list[CastVote] = []
        self.refusal: CountersignError | None = None
        self.looks = 0

    async def start(self) -> None:
        await self.bus.answer(GetApproval, self._get)
        await self.bus.answer(CastVote, self._vote)
        await self.bus.answer(ListApprovals, self._list)
        await self.bus.connection.barrier()

    async def _get(self, command: GetApproval) -> ApprovalView:
        self.looks += 1
        if command.approval_id not in self.views:
            raise CountersignError(f"there is no approval {command.approval_id}", code="not_found")
        return self.views[command.approval_id]

    async def _list(self, command: ListApprovals) -> Approvals:
        return Approvals(items=tuple(view for view in self.views.values() if view.state == command.state))

    async def _vote(self, command: CastVote) -> ApprovalView:
        view = self.views[command.approval_id]
        if self.refusal is not None:
            raise self.refusal
        if view.state != "pending":
            raise CountersignError(f"approval {view.approval_id} is {view.state} already", code="conflict")
        if command.digest != view.action.digest:
            raise CountersignError("the vote is for another digest", code="digest_mismatch")
        self.votes.append(command)
        vote = Vote(
            voter=command.voter,
            vote=command.vote,
            digest=command.digest,
            channel=command.channel,
            comment=command.comment,
            voted_at=now(),
        )
        return await self.end(command.approval_id, "approved" if command.vote == "approve" else "rejected", vote)

    async def ask(self, event: ActionHeld, **more: Any) -> ApprovalView:
        """People are asked."""
        view = self.views[event.approval_id] = view_of(event, **more)
        await self.bus.publish(
            ApprovalRequested(
                approval_id=view.approval_id,
                action=view.action.ref(),
                requested_at=view.requested_at,
                deadline=view.deadline,
                asked_by=view.asked_by,
            )
        )
        return view

    async def say(self, view: ApprovalView, event: ApprovalEvent) -> None:
        """The approval is like this now, for this event."""
        self.views[view.approval_id] = view
        await self.bus.publish(event)

    async def end(self, approval_id: str, state: Any, *votes: Vote) -> ApprovalView:
        """It ended."""
        at = now()
        view = self.views[approval_id].model_copy(update={"state": state, "votes": votes, "resolved_at": at})
        await self.say(
            view,
            ApprovalResolved(
                approval_id=approval_id, action=view.action.ref(), state=state, votes=votes, resolved_at=at
            ),
        )
        return view


class Office:
    """A deployment with approvals and a Slack; services of it are started by the tests."""

    def __init__(self, stack: Stack, slack: FakeSlack) -> None:
        self.stack = stack
        self.slack = slack
        self._revision = 0

    async def service(self, *, http: bool = False, **settings: Any) -> Any:
        """A replica of the Slack service."""
        write_tokens(self.stack.layout.slack, http=http)
        defaults = {
            "slack_api_url": self.slack.url,
            "slack_pace_s": 0.0,
            "slack_poll_s": 0.1,
            "slack_ping_s": 0.5,
            "slack_backoff_max_s": 0.5,
            "slack_refusals_s": 0.5,
            "slack_timeout_s": 5.0,
        }
        failpoints = settings.pop("failpoints", None)
        return await self.stack.service("slack", failpoints, **(defaults | settings))

    async def person(
        self, name: str, user: str | None, *roles: str, groups: tuple[str, ...] = (), status: str = "active"
    ) -> None:
        """Have the registry show a person, linked to a user of the workspace."""
        registry: Bus = await self.stack.bus("registry")
        self._revision += 1
        channels = (ChannelIdentity(channel="slack", identity=f"{TEAM}/{user}", enrolled_at=now()),) if user else ()
        record = PersonRecord(
            name=name,
            roles=roles or ("approver",),
            token_sha256="0" * 64,
            groups=groups,
            channels=channels,
            status=status,
            revision=self._revision,
        )
        key = self.stack.key("registry")
        await Projector(PEOPLE, registry.connection, key).put(record.key, record)

    async def desk(self) -> Desk:
        """The approvals service in the test's hands."""
        desk = Desk(await self.stack.bus("approvals"))
        await desk.start()
        return desk

    async def refusals(self, count: int = 1) -> list[Any]:
        """What the channel's door has put on record, once there are so many entries."""
        client = await self.stack.client("bootstrap-core")
        found: list[Any] = []
        seq = 0
        async with asyncio.timeout(20):
            while len(found) < count:
                query = orjson.dumps({"seq": seq + 1, "next_by_subj": "control.channel_refused"})
                reply = await client.request("$JS.API.STREAM.MSG.GET.CONTROL", query, timeout=5)
                message = orjson.loads(reply.data).get("message")
                if message is None:
                    await asyncio.sleep(0.02)
                    continue
                seq = message["seq"]
                found.append(orjson.loads(b64decode(message["data"])))
        return found

    async def hold(self, **more: Any) -> ActionHeld:
        """Policy holds an action."""
        event = held(**more)
        await (await self.stack.bus("policy")).publish(event)
        return event


@pytest_asyncio.fixture
async def office(stack: Stack) -> AsyncIterator[Office]:
    slack = FakeSlack()
    await slack.start()
    try:
        yield Office(stack, slack)
    finally:
        await slack.stop()
