"""The fleet part of `make bench`: 10,000 agents that say that they live, 1,000 of them real connections beside them.

How long it takes to register, to list, to configure and to pause while they do, and what they cost the registry, beside
the floor of the same run: one plain request and its reply over a plain nats-server.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import nats
import orjson
import uvloop
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg

import floor
from countersign_chassis.natsauth import KeyPair, creds_file
from countersign_cli.bootstrap import Layout
from countersign_cli.embedded.datadir import DataDir
from countersign_cli.embedded.nats import EmbeddedNats
from countersign_contracts import subjects
from fleet import beat, declare
from governed import System, cpu_seconds
from registering import TOKEN, said

AGENTS, CONNECTED, INTERVAL_S = 10_000, 1_000, 30
ALONE = 200
CPU_S = 15.0
#: The longest that a p99 may take, in milliseconds.
GOALS = {
    "register, over HTTP": 50,
    "list of all, a page of 100": 50,
    "list of a team that runs": 50,
    "configuration: order to the agent's word": 100,
    "status: order to what policy reads": 100,
}


@dataclass(frozen=True, slots=True)
class Timed:
    """Times of one kind, in milliseconds."""

    name: str
    count: int
    p50_ms: float
    p99_ms: float
    goal_ms: float | None = None

    @classmethod
    def of(cls, name: str, times: list[float]) -> Timed:
        """Of times in seconds."""
        ordered = sorted(times)
        p50, p99 = (ordered[min(int(len(ordered) * share), len(ordered) - 1)] for share in (0.5, 0.99))
        return cls(name, len(ordered), round(1000 * p50, 2), round(1000 * p99, 2), GOALS.get(name))


@dataclass
class Fleet:
    """What was measured; processor time in per cent of one core. ``load_average``: of the last minute, at the end."""

    floor: Timed
    agents: int
    connected: int
    times: list[Timed] = field(default_factory=list)
    push_to_all_s: float = 0.0
    push_to_all_applied: int = 0
    cpu_percent: dict[str, float] = field(default_factory=dict)
    load_average: float = 0.0


class Connected:
    """A registered agent in plain nats-py: it lives, and applies what it is sent."""

    def __init__(self, agent_id: str, creds: Path) -> None:
        self.agent_id = agent_id
        self._creds = creds
        self.client = Nats()

    async def connect(self, url: str) -> None:
        await self.client.connect(
            url, user_credentials=str(self._creds), inbox_prefix=subjects.inbox(self.agent_id), connect_timeout=20
        )
        await self.client.subscribe(f"{subjects.agent(self.agent_id, 'control')}.config", cb=self._apply)
        await self.live()

    async def live(self) -> None:
        await self.client.publish(subjects.agent(self.agent_id, "heartbeat"), b"{}")

    async def _apply(self, msg: Msg) -> None:
        word = {"digest": orjson.loads(msg.data)["digest"], "result": "applied"}
        await self.client.publish(subjects.agent(self.agent_id, "configured"), orjson.dumps(word))


def run(folder: Path, agents: int = AGENTS, connected: int = CONNECTED) -> Fleet:
    """Measure."""
    measured = Fleet(_floor(folder), agents, connected)
    system = System(folder / "fleet-system")
    try:
        system.start()
        declare(system, agents, INTERVAL_S)
        uvloop.run(_measure(system, folder, measured))
        measured.load_average = round(os.getloadavg()[0], 1)
    finally:
        system.stop()
    return measured


def _floor(folder: Path) -> Timed:
    place = folder / "fleet-floor"
    place.mkdir()
    server = EmbeddedNats(floor.config(place), place)
    server.start()
    try:
        return Timed.of("request and reply", uvloop.run(_requests(str(server.url()))))
    finally:
        server.stop()


async def _requests(url: str) -> list[float]:
    here, there = await nats.connect(url), await nats.connect(url)

    async def answer(msg: Msg) -> None:
        await msg.respond(msg.data)

    await there.subscribe("floor", cb=answer)
    await there.flush()
    await there.flush()  # the first one's PING overtakes the subscription
    times = await _timed(1500, lambda _: here.request("floor", b"x", timeout=20))
    await here.close()
    await there.close()
    return times[500:]


async def _timed(count: int, once: Callable[[int], Awaitable[object]]) -> list[float]:
    times = []
    for number in range(count):
        began = time.perf_counter()
        await once(number)
        times.append(time.perf_counter() - began)
    return times


async def _measure(system: System, folder: Path, measured: Fleet) -> None:
    # the gateway forwards the heartbeats that come over HTTP, so its user may speak for every agent
    creds = Layout(system.folder).creds("gateway-agents")
    door = await nats.connect(system.nats_url, user_credentials=str(creds), inbox_prefix=subjects.inbox("gateway"))
    over = asyncio.Event()
    beating = asyncio.create_task(beat(door, measured.agents, INTERVAL_S, over))
    token = (system.folder / "admin.token").read_text().strip()
    async with aiohttp.ClientSession(system.url, headers={"Authorization": f"Bearer {token}"}) as http:
        api = Api(http)
        fleet = await _register(api, system, folder, measured)
        living = asyncio.create_task(_live(fleet, over))
        await _all_heard(api)
        await _cpu(system, measured)
        await _list(api, measured)
        await _configure(api, fleet, measured)
        await _order(api, system, fleet, measured)
        over.set()
        await asyncio.gather(beating, living)
    await asyncio.gather(door.close(), *(agent.client.close() for agent in fleet))


class Api:
    """The gateway's API as its administrator; ends the run where it refuses."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    async def __call__(self, method: str, path: str, body: Any = None) -> Any:
        data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        async with self._http.request(method, path, data=data, headers={"Content-Type": "application/json"}) as answer:
            raw = await answer.read()
            if answer.status >= 300:
                raise SystemExit(f"{method} {path}: {raw.decode()[:300]}")
            return orjson.loads(raw)


async def _register(api: Api, system: System, folder: Path, measured: Fleet) -> list[Connected]:
    issued = await api("POST", "/api/v1/agents/tokens", TOKEN | {"uses": 10_000})
    keys = [KeyPair.generate("user") for _ in range(measured.connected)]
    bodies = [said(issued["secret"], key) for key in keys]
    fleet: list[Connected] = []

    async def one(number: int) -> None:
        registered = await api("POST", "/api/v1/agents", bodies[number])
        creds = folder / f"{number}.creds"
        creds.write_text(creds_file(registered["nats_jwt"], keys[number].seed))
        fleet.append(Connected(registered["agent_id"], creds))

    alone = min(ALONE, measured.connected)
    measured.times.append(Timed.of("register, over HTTP", await _timed(alone, one)))
    for first in range(alone, measured.connected, 50):
        await asyncio.gather(*(one(number) for number in range(first, min(first + 50, measured.connected))))
    for first in range(0, len(fleet), 20):
        await asyncio.gather(*(agent.connect(system.nats_url) for agent in fleet[first : first + 20]))
    return fleet


async def _all_heard(api: Api) -> None:
    for _ in range(4 * INTERVAL_S):
        if not (await api("GET", "/api/v1/agents?phase=registered&limit=1"))["items"]:
            return
        await asyncio.sleep(1)
    raise SystemExit("not every agent was heard of")


async def _live(fleet: list[Connected], over: asyncio.Event) -> None:
    while not over.is_set():
        for agent in fleet:
            await agent.live()
            await asyncio.sleep(20 / len(fleet))


async def _cpu(system: System, measured: Fleet) -> None:
    run_record = DataDir(system.folder).read_run()
    pids = dict(run_record.pids) if run_record else {}
    before, began = cpu_seconds(pids), time.perf_counter()
    await asyncio.sleep(CPU_S)
    after, took = cpu_seconds(pids), time.perf_counter() - began
    measured.cpu_percent = {
        name: round(100 * (after[name] - before[name]) / took, 1)
        for name in ("registry", "nats")  # of PostgreSQL the first process alone is known
        if name in before
    }


async def _list(api: Api, measured: Fleet) -> None:
    pages = await _timed(300, lambda n: api("GET", f"/api/v1/agents?limit=100&after=fleet-{n * 29 % 9000}"))
    teams = await _timed(300, lambda n: api("GET", f"/api/v1/agents?limit=100&phase=running&team=team-{n % 50}"))
    measured.times += [
        Timed.of("list of all, a page of 100", pages),
        Timed.of("list of a team that runs", teams),
    ]


async def _configure(api: Api, fleet: list[Connected], measured: Fleet) -> None:
    async def one(number: int) -> None:
        values = {"settings": {"number": number}}
        body = {"values": values, "reason": "benchmark", "wait_s": 10}
        change = await api("PUT", f"/api/v1/agents/{fleet[number].agent_id}/config", body)
        if change["applied"] != 1:
            raise SystemExit(f"agent {number} did not answer: {change}")

    times = await _timed(len(fleet), one)
    measured.times.append(Timed.of("configuration: order to the agent's word", times))
    body = {"values": {"metrics_interval_s": 30}, "reason": "benchmark", "wait_s": 10}
    began = time.perf_counter()
    change = await api("PUT", "/api/v1/agent-types/bench/config", body)
    measured.push_to_all_s = round(time.perf_counter() - began, 3)
    measured.push_to_all_applied = change["applied"]


async def _order(api: Api, system: System, fleet: list[Connected], measured: Fleet) -> None:
    """From the order until bucket `agents` has told a reader of policy's rights, who reads as policy does."""
    creds = Layout(system.folder).creds("policy-core")
    reader = await nats.connect(system.nats_url, user_credentials=str(creds), inbox_prefix=subjects.inbox("policy"))
    watcher = await (await reader.jetstream().key_value("agents")).watchall(include_history=False)
    heard: dict[str, tuple[int, float]] = {}
    came = asyncio.Condition()

    async def watch() -> None:
        async for entry in watcher:
            if entry is not None and entry.value:
                async with came:
                    heard[entry.key] = (int(entry.revision or 0), time.perf_counter())
                    came.notify_all()

    watching = asyncio.create_task(watch())
    times = []
    for number in range(ALONE):
        agent_id = fleet[number % len(fleet)].agent_id
        for verb in ("pause", "resume"):
            known = heard.get(agent_id, (0, 0.0))[0]
            began = time.perf_counter()
            asked = asyncio.create_task(api("POST", f"/api/v1/agents/{agent_id}/{verb}", {"reason": "benchmark"}))
            async with asyncio.timeout(20), came:
                while heard.get(agent_id, (0, 0.0))[0] <= known:
                    await came.wait()
            times.append(heard[agent_id][1] - began)
            await asked
    watching.cancel()
    await reader.close()
    measured.times.append(Timed.of("status: order to what policy reads", times))
