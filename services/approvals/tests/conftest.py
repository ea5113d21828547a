"""A deployment with approvals alone: what others would send, and people as the registry would show them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest_asyncio

from countersign_chassis import Bus, Failpoints, Projector
from countersign_contracts.actions import Action, ActionHeld, Decision, Reason
from countersign_contracts.approval_commands import (
    ApprovalView,
    CastVote,
    CommitApprovalRules,
    GetApproval,
    PrepareApprovalRules,
)
from countersign_contracts.canonical import action_digest
from countersign_contracts.catalogue import Document
from countersign_contracts.errors import CountersignError
from countersign_contracts.event import EVENTS
from countersign_contracts.fleet import ChannelIdentity, PersonChanged, PersonRecord
from countersign_contracts.ids import new_id, prefixed
from countersign_contracts.model import now
from countersign_contracts.projection import PEOPLE


def held(deadline_s: int = 3600, **given: Any) -> ActionHeld:
    """A held action; what is no part of an event or an action is an argument."""
    parts: dict[str, Any] = {"principal_chain": (), "env": "prod", "tool": "t", "tool_version": 1}
    parts |= {name: given.pop(name) for name in list(given) if name in parts}
    event = {name: given.pop(name) for name in list(given) if name in ("resource", "owner_team", "owner_oncall")}
    more = {name: given.pop(name) for name in list(given) if name in ("request_id", "amends")}
    risk = given.pop("risk", "high")
    digest = action_digest(agent="worker-1", session=None, args=given, **parts)
    at = now()
    action = Action(
        **({"request_id": new_id()} | more), agent_id="worker-1", digest=digest, requested_at=at, args=given, **parts
    )
    decision = Decision(
        outcome="hold",
        reasons=(Reason(code="approval_required", message="high risk needs approval"),),
        policy_version="v",
        risk=risk,
        decided_at=at,
    )
    return ActionHeld(
        action=action,
        decision=decision,
        approval_id=prefixed("apr"),
        deadline_s=deadline_s,
        **({"owner_team": "ops"} | event),
    )


def vote(event: ActionHeld, voter: str = "alice", kind: Any = "approve", **more: Any) -> CastVote:
    """A person's vote on a held action."""
    given = {"voter": f"person:{voter}", "digest": event.action.digest, "channel": "cli", "comment": "ok"} | more
    return CastVote(approval_id=event.approval_id, vote=kind, **given)


async def found(bus: Bus, approval_id: str, state: str, seconds: float = 20) -> ApprovalView:
    """The approval, once it is in that state."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                view: ApprovalView = await bus.ask(GetApproval(approval_id=approval_id))
                if view.state == state:
                    return view
            except CountersignError as error:
                assert error.code == "not_found"
            await asyncio.sleep(0.02)


@dataclass
class Scene:
    """Approvals on real servers, and everyone who has to do with it."""

    stack: Any
    policy: Bus
    gateway: Bus
    registry: Bus
    slack: Bus
    services: list[Any] = field(default_factory=list)
    records: dict[str, PersonRecord] = field(default_factory=dict)

    async def start(self, failpoints: Failpoints | None = None, **settings: Any) -> Any:
        """One more replica."""
        service = await self.stack.service("approvals", failpoints, **settings)
        self.services.append(service)
        return service

    async def person(self, name: str, *groups: str, roles: Any = ("approver",), **more: Any) -> PersonRecord:
        """Show a person as they are from now on, and tell of it (``quietly``: not yet)."""
        quietly = more.pop("quietly", False)
        known = self.records.get(name)
        slack = more.pop("slack", None)
        channels = (ChannelIdentity(channel="slack", identity=slack, enrolled_at=now()),) if slack else ()
        record = PersonRecord(
            name=name,
            roles=roles,
            token_sha256="0" * 64,
            groups=groups,
            channels=channels,
            revision=1 if known is None else known.revision + 1,
            **more,
        )
        self.records[name] = record
        await Projector(PEOPLE, self.registry.connection, self.stack.key("registry")).put(record.key, record)
        if quietly:
            return record
        told = record.model_dump(include={"roles", "status", "groups", "channels", "revision"})
        await self.registry.publish(PersonChanged(person=name, by="admin", at=now(), **told))
        return record

    async def people(self, *names: str) -> None:
        """Approvers without a group."""
        await asyncio.gather(*(self.person(name) for name in names))

    async def apply(self, text: str) -> None:
        """Declare rules."""
        change, documents = prefixed("chg"), (Document(path="rules.yaml", text=text),)
        plan = await self.gateway.ask(PrepareApprovalRules(change_id=change, documents=documents))
        assert plan.errors == (), plan.errors
        await self.gateway.ask(CommitApprovalRules(change_id=change, base=plan.base, by="admin", documents=documents))

    async def hold(self, event: ActionHeld | None = None, **given: Any) -> ActionHeld:
        """Hold an action, and wait until it is known."""
        event = event if event is not None else held(**given)
        await self.policy.publish(event)
        await self.known(event)
        return event

    async def known(self, event: ActionHeld, when: Callable[[ApprovalView], bool] = lambda _: True) -> ApprovalView:
        """The approval as soon as it is there, and ``when`` is true of it."""
        async with asyncio.timeout(20):
            while True:
                try:
                    view: ApprovalView = await self.gateway.ask(GetApproval(approval_id=event.approval_id))
                    if when(view):
                        return view
                except CountersignError as error:
                    assert error.code == "not_found", error
                await asyncio.sleep(0.02)

    async def refused(self, command: CastVote, code: str, bus: Bus | None = None) -> CountersignError:
        """The vote is refused with that code."""
        try:
            await (bus or self.gateway).ask(command)
        except CountersignError as error:
            assert error.code == code, error.detail
            return error
        raise AssertionError("the vote counted")

    async def told(self, last: str, count: int = 1, about: str = "") -> list[Any]:
        """Every event of stream APPROVALS (``about`` one approval), once there are so many of kind ``last``."""
        client = await self.stack.client("bootstrap-core")
        events: list[Any] = []
        seq = 0
        async with asyncio.timeout(20):
            while sum(each.spec.name == last for each in events) < count:
                query = orjson.dumps({"seq": seq + 1})
                answer = orjson.loads((await client.request("$JS.API.STREAM.MSG.GET.APPROVALS", query, timeout=5)).data)
                if "message" not in answer:
                    await asyncio.sleep(0.02)
                    continue
                seq += 1
                event = opened(answer["message"])
                if getattr(event, "approval_id", "") == about or not about:
                    events.append(event)
        await client.close()
        return events


def opened(message: dict[str, Any]) -> Any:
    """The event in a stored message."""
    kind = f"countersign.{message['subject'].rsplit('.', 1)[0]}.v1"
    return EVENTS[kind].from_bytes(base64.b64decode(message["data"]))


@pytest_asyncio.fixture
async def offstage(stack: Any) -> Scene:
    """Nothing is running; alice, bob and carol are approvers."""
    scene = Scene(stack, *[await stack.bus(name) for name in ("policy", "gateway", "registry", "slack")])
    await scene.people("alice", "bob", "carol")
    return scene


@pytest_asyncio.fixture
async def scene(offstage: Scene) -> Scene:
    """One replica is running."""
    await offstage.start()
    return offstage
