"""The gateway in the whole product, with the approvals service played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest_asyncio

from countersign_chassis import Failpoints
from countersign_contracts import subjects
from countersign_contracts.actions import Action, ActionResult, Amendment
from countersign_contracts.approvals import ApprovalEvent, ApprovalResolved, Vote
from countersign_contracts.ids import new_id
from countersign_contracts.model import now
from countersign_harness.stack import Stack
from countersign_harness.world import World

ACTIONS = "/api/v1/actions"


class Desk:
    """The approvals service, played: people whose clicks are calls here."""

    def __init__(self, world: Any, bus: Any) -> None:
        self.world = world
        self.bus = bus

    async def held(self, *, as_: str = "worker-1", over: str = "http", **more: Any) -> Action:
        """An action that waits for people."""
        args = {"thing_id": 1, "status": "open"}
        if over == "http":
            got = await self.world.submit("write_thing", args, env="prod", as_=as_, wait=0, **more)
        else:
            async with self.world.agent(as_) as agent:
                got = (await agent.submit("write_thing", args, env="prod", **more)).model_dump()
        await self.world.until(got["request_id"], "held")
        return await self.action(got["request_id"])

    async def action(self, request_id: str) -> Action:
        return Action.model_validate((await self.world.ok("GET", f"{ACTIONS}/{request_id}"))["action"])

    def change(self, first: Action, **changes: Any) -> Amendment:
        args = first.args | {"status": "closed"}
        digest = first.model_copy(update={"args": args}).computed_digest()
        return Amendment(**({"request_id": new_id(), "args": args, "digest": digest, "by": "bob"} | changes))

    async def amend(self, first: Action) -> Amendment:
        """Bob approves it with changes."""
        change = self.change(first)
        await self.resolve(first, "amended", amendment=change)
        return change

    async def resolve(self, action: Action, state: str = "approved", **more: Any) -> None:
        vote = Vote(
            voter="bob",
            vote="approve",
            digest=action.digest,
            channel="cli",
            comment="so then",
            voted_at=now(),
        )
        await self.bus.publish(
            ApprovalResolved.model_validate(
                {
                    "approval_id": f"apr_{action.request_id.replace('-', '')}",
                    "action": action.ref(),
                    "state": state,
                    "votes": (vote,),
                    "resolved_at": now(),
                    **more,
                }
            )
        )

    async def say(self, kind: type[ApprovalEvent], action: Action, **more: Any) -> None:
        """Any other event of an approval."""
        await self.bus.publish(
            kind(approval_id=f"apr_{action.request_id.replace('-', '')}", action=action.ref(), **more)
        )

    async def found(self, request_id: str, as_: str = "worker-1") -> Any:
        """The action as its agent sees it, once it is there."""
        async with asyncio.timeout(15):
            while True:
                status, answer, _ = await self.world.request("GET", f"{ACTIONS}/{request_id}", as_=as_)
                if status == 200:
                    return answer
                await asyncio.sleep(0.02)

    async def ended(self, request_id: str) -> Any:
        """The action once it has ended."""
        await self.world.until(request_id, "succeeded", "failed", "unknown", "denied", "expired", "cancelled")
        return await self.found(request_id)

    async def count(self) -> int:
        """How many actions there are."""
        count: int = await self.world.services["gateway"].db.pool.fetchval("SELECT count(*) FROM action")
        return count

    async def heard(self, agent_id: str = "worker-1") -> Callable[..., Any]:
        """Listen as the agent does; returns what waits until it heard something."""
        client = await self.world.stack.client(agent_id, self.world.creds[agent_id])
        told: list[ActionResult] = []
        came = asyncio.Condition()

        async def hear(msg: Any) -> None:
            async with came:
                told.append(ActionResult.from_bytes(msg.data))
                came.notify_all()

        await client.subscribe(f"{subjects.agent(agent_id, 'results')}.>", cb=hear)
        await client.flush()

        async def until(request_id: str, state: str, when: Callable[[ActionResult], bool] = bool) -> ActionResult:
            def found() -> ActionResult | None:
                return next((r for r in told if r.request_id == request_id and r.state == state and when(r)), None)

            async with asyncio.timeout(15), came:
                await came.wait_for(lambda: found() is not None)
            result = found()
            assert result is not None
            return result

        return until


@pytest_asyncio.fixture
async def door(stack: Stack) -> AsyncIterator[World]:
    """A gateway and a registry, person `alice` (approver) and agent `bot`."""
    async with World(stack) as world:
        await world.start_door()
        await world.add_person("alice", "approver", groups=["security"])
        await world.add_agent("bot")
        yield world


@pytest_asyncio.fixture
async def make_desk(stack: Any) -> AsyncIterator[Callable[..., Any]]:
    """The whole product, but for the approvals service, which the test plays."""
    worlds = []

    async def make(failpoints: Failpoints | None = None, **settings: Any) -> Desk:
        world = World(stack)
        worlds.append(world)
        given = {"gateway": failpoints} if failpoints else {}
        await world.start(given, {"gateway": {"redrive_after_s": 0.5} | settings})
        await world.services["approvals"].stop()
        return Desk(world, await stack.bus("approvals"))

    yield make
    for world in worlds:
        await world.stop()
