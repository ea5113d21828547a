"""A running world with one action in each state, and a forger's bench."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest_asyncio

from countersign_contracts.event import CORE_SERVICES
from countersign_harness.alerts import tell_of_an_alert
from countersign_harness.forging import Bench
from countersign_harness.world import World
from countersign_ledger import SigningKey


@dataclass
class Scene:
    """``actions``: request id by what became of it. ``held`` is what a forger would like to see executed."""

    world: World
    bench: Bench
    keys: dict[str, SigningKey]
    actions: dict[str, str]

    async def states(self) -> dict[str, str]:
        """What has become of each action."""
        return {name: await self.world.state(request_id) for name, request_id in self.actions.items()}


@pytest_asyncio.fixture
async def scene(world: Any) -> Scene:
    """Executed, approved and executed, denied, rejected, cancelled, and one that is held."""

    async def held(**more: Any) -> Any:
        return await world.submit("write_thing", {"thing_id": 1, "status": "x"}, env="prod", wait=0, **more)

    actions = {"executed": (await world.submit("read_thing", {"thing_id": 1}))["request_id"]}
    actions["denied"] = (await world.submit("write_thing", {"thing_id": 1, "note": "not allowed"}))["request_id"]
    for name, vote in (("approved", "approve"), ("rejected", "reject")):
        actions[name] = (await held())["request_id"]
        await world.vote(await world.approval_of(actions[name]), vote)
        await world.until(actions[name], "succeeded", "denied")
    actions["cancelled"] = (await held())["request_id"]
    await world.approval_of(actions["cancelled"])
    await world.ok("POST", f"/api/v1/actions/{actions['cancelled']}/cancel", {})
    actions["held"] = (await held(session_id="s-held"))["request_id"]
    await world.until(actions["held"], "held")
    await world.approval_of(actions["held"])
    stop = await world.ok("POST", "/api/v1/stops", {"scope": "tool:send_message", "reason": "broken"})
    await world.ok("DELETE", f"/api/v1/stops/{stop['stop_id']}")
    await tell_of_an_alert(world.stack)
    bench = Bench(world.stack)
    await bench.settled()
    return Scene(world, bench, {service: world.stack.key(service) for service in CORE_SERVICES}, actions)
