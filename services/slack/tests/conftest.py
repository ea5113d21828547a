"""The service on real servers, with a Slack and with people who are linked to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from countersign_chassis import Bus
from countersign_chassis.projections import Projector
from countersign_contracts.actions import Action, ActionHeld, Decision, Reason
from countersign_contracts.canonical import action_digest
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
    """A held action; `args`, `owner_team`, `deadline_s` and so on as wished."""
    args = more.pop("args", {"thing_id": 7, "status": "closed"})
    parts: dict[str, Any] = {
        "principal_chain": ("person:dana",),
        "env": "prod",
        "tool": "write_thing",
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
