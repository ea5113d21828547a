"""What agents tell of their work, for people: by pages, as server-sent events, and over the WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import orjson
import pytest_asyncio

from countersign_contracts import subjects
from countersign_contracts.fleet import AgentStatusChanged
from countersign_contracts.ids import new_id
from countersign_contracts.model import now
from countersign_contracts.telemetry import (
    AgentHealth,
    LogPage,
    MetricsPage,
    MetricsSummary,
    ReadHealth,
    ReadLogs,
    ReadMetrics,
    StoredLog,
)
from countersign_gateway.agent_news import news_of_logs
from countersign_gateway.following_agents import Allowance, Interest
from countersign_harness.stack import Stack
from countersign_harness.world import World

LIVE = "/api/v1/agents/bot/logs/live"


class Door(World):
    """A gateway and a registry; person `rita` (reader), agents `bot` and `other` over NATS."""

    async def open(self) -> None:
        await self.start_door(events_keep_alive_s=0.2)
        await self.add_person("rita", "reader")
        self.clients: dict[str, Any] = {}
        for name in ("bot", "other"):
            await self.add_agent(name)
            self.clients[name] = await self.stack.client(name, self.creds[name])

    async def says(self, agent: str, verb: str, body: Any) -> None:
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        await self.clients[agent].publish(subjects.agent(agent, verb), raw)
        await self.clients[agent].flush()

    def hears_agents(self) -> bool:
        """Whether the gateway is subscribed to any agent's telemetry."""
        _, agents = self.services["gateway"]._connections
        return any(each.subject.endswith((".logs", ".metrics")) for each in agents.client._subs.values())

    @asynccontextmanager
    async def events(self, path: str = LIVE, as_: str = "rita") -> AsyncIterator[Any]:
        """Server-sent events as they come: kind, id, data."""
        headers = {"Authorization": f"Bearer {self.tokens[as_]}"}
        async with self.http.get(self.url + path, headers=headers) as answer:
            assert answer.status == 200, await answer.text()

            async def each() -> AsyncIterator[tuple[str, str | None, Any]]:
                kind, id = "", None
                async for raw in answer.content:
                    name, _, value = raw.decode().rstrip("\n").partition(": ")
                    if name == "event":
                        kind = value
                    elif name == "id":
                        id = value
                    elif name == "data":
                        yield kind, id, orjson.loads(value)
                        id = None

            assert (await answer.content.readline()).startswith(b": following")
            yield each()

    @asynccontextmanager
    async def socket(self, *, token: str | None = "rita", query: str = "", **headers: str) -> AsyncIterator[Any]:
        given = {"Authorization": f"Bearer {self.tokens[token]}"} if token else {}
        url = f"{self.url}/api/v1/agents/ws{query}"
        async with self.http.ws_connect(url, headers=given | headers) as socket:
            yield socket


async def heard(stream: Any) -> Any:
    async with asyncio.timeout(20):
        return await anext(stream)


async def told(socket: Any) -> Any:
    async with asyncio.timeout(20):
        return orjson.loads(await socket.receive_str())


async def ask(socket: Any, **follow: Any) -> Any:
    await socket.send_str(orjson.dumps(follow).decode())
    return await told(socket)


def record(text: str, level: str = "info", at: datetime | None = None, **more: Any) -> dict[str, Any]:
    return {"at": (at or now()).isoformat(), "level": level, "text": text, **more}


@pytest_asyncio.fixture
async def door(stack: Stack) -> AsyncIterator[Door]:
    async with Door(stack) as door:
        await door.open()
        yield door


async def test_pages_and_health_are_what_the_registry_answers_and_for_people_alone(door: Door) -> None:
    await door.services["registry"].stop()  # from here on it is played
    registry, asked = await door.stack.bus("registry"), []
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    page = LogPage(items=(StoredLog(at=at, text="slow", id="b.0", received_at=at),), next="more")
    summary = MetricsSummary(reports=0, covered_s=0)
    answers = {
        ReadLogs: page,
        ReadMetrics: MetricsPage(items=(), summary=summary),
        ReadHealth: AgentHealth(
            agent_id="bot",
            healthy=True,
            status="active",
            phase="running",
            phase_since=at,
            heartbeat_s=30,
            last_hour=summary,
            errors_last_hour=0,
        ),
    }
    for kind, reply in answers.items():

        async def answer(command: Any, reply: Any = reply) -> Any:
            asked.append(command)
            return reply

        await registry.answer(kind, answer)
    await registry.connection.barrier()

    query = "level=warning&text=SLOW%25&since=2026-01-31T12:00:00Z&until=2026-01-31T13:00:00Z&before=older&limit=7"
    assert await door.ok("GET", f"/api/v1/agents/bot/logs?{query}", as_="rita") == orjson.loads(page.to_bytes())
    until = at + timedelta(hours=1)
    assert asked.pop() == ReadLogs(
        agent_id="bot", level="warning", text="SLOW%", since=at, until=until, before="older", limit=7
    )
    assert (await door.ok("GET", "/api/v1/agents/bot/metrics?limit=3", as_="rita"))["summary"]["reports"] == 0
    assert asked.pop() == ReadMetrics(agent_id="bot", limit=3)
    assert (await door.ok("GET", "/api/v1/agents/bot/health", as_="rita"))["healthy"] is True
    assert asked.pop() == ReadHealth(agent_id="bot")
    # its health an agent may read itself, and nobody else's
    assert (await door.ok("GET", "/api/v1/agents/bot/health", as_="bot"))["healthy"] is True
    assert asked.pop() == ReadHealth(agent_id="bot")
    status, problem, _ = await door.request("GET", "/api/v1/agents/other/health", as_="bot")
    assert status == 403, problem
    for what in ("logs", "logs/live", "metrics", "health"):
        if what != "health":
            status, problem, _ = await door.request("GET", f"/api/v1/agents/bot/{what}", as_="bot")
            assert status == 403 and "takes a person" in problem["detail"], what
        status, _, _ = await door.request("GET", f"/api/v1/agents/bot/{what}", as_="")
        assert status == 401, what
    for wrong in ("level=loud", "since=yesterday", "limit=501", "text="):
        status, problem, _ = await door.request("GET", f"/api/v1/agents/bot/logs?{wrong}", as_="rita")
        assert status == 422 and wrong.partition("=")[0] in problem["detail"], (wrong, problem)
    assert asked == []
    status, problem, _ = await door.request("GET", "/api/v1/agents/nobody/logs/live", as_="rita")
    assert (status, problem["detail"]) == (404, "there is no agent nobody")


async def test_a_log_is_told_live_to_who_follows_it_with_the_ids_it_is_kept_with(door: Door) -> None:
    batch = new_id()
    async with door.events(f"{LIVE}?level=warning&text=SHOP") as some, door.events() as whole:
        assert door.hears_agents()
        await door.says("other", "logs", {"batch": new_id(), "records": [record("another's", "error")]})
        await door.says("bot", "logs", b"\xff no batch")
        await door.says("bot", "logs", {"batch": new_id(), "records": [record("ahead", at=now() + timedelta(hours=1))]})
        said = {"batch": batch, "records": [record("one"), record("the Shop is slow", "error", fields={"order": "A5"})]}
        await door.says("bot", "logs", said)
        await door.says("bot", "logs", said)  # as an agent does that heard no acknowledgement
        await door.says("bot", "logs", {"batch": new_id(), "records": [record("shop: last", "warning")]})
        kind, id, news = await heard(some)
        assert (kind, id, news["agent_id"], news["log"]["id"]) == ("log", f"{batch}.1", "bot", f"{batch}.1")
        assert news["log"]["fields"] == {"order": "A5"} and news["log"]["level"] == "error"
        assert (await heard(some))[2]["log"]["text"] == "shop: last"
        live = [(await heard(whole))[2]["log"] for _ in range(3)]
        assert [each["text"] for each in live] == ["one", "the Shop is slow", "shop: last"]
        # the registry keeps each once, and under the same id
        async with asyncio.timeout(30):
            while len(kept := (await door.ok("GET", "/api/v1/agents/bot/logs", as_="rita"))["items"]) < 3:
                await asyncio.sleep(0.05)
        assert {each["id"]: each["text"] for each in kept} == {each["id"]: each["text"] for each in live}
        # who may not read any more is told that, and nothing more
        await door.ok("DELETE", "/api/v1/people/rita")
        kind, _, news = await heard(whole)
        assert kind == "end" and "not known, or was revoked" in news["reason"]
    async with asyncio.timeout(20):
        while door.hears_agents():
            await asyncio.sleep(0.02)


async def test_what_an_agent_says_through_the_sdk_is_heard_whichever_way_it_came(door: Door) -> None:
    async with door.socket() as socket, door.events() as events:
        await ask(socket, agents=["bot"], kinds=["metrics"])
        for over in ("nats", "http"):
            async with door.agent("bot", over=over) as agent:
                agent.log(f"over {over}", level="error", order="A5")
                with agent.event():
                    agent.gauge("queue", 3)
            news = (await heard(events))[2]
            assert (news["log"]["text"], news["log"]["fields"]) == (f"over {over}", {"order": "A5"})
            report = (await told(socket))["metrics"]
            assert (report["events_succeeded"], report["values"]) == (1, {"queue": 3.0})
            assert report["memory_bytes"] > 2**20
    one = {"batch": new_id(), "records": [record("x")]}
    for path, body, as_, status, says in (
        ("logs", one, "rita", 403, "only an agent's credential"),
        ("logs", one | {"agent_id": "other"}, "bot", 400, "agent_id"),
        ("logs", one | {"records": [record("x" * 300_000)]}, "bot", 413, "262144"),
        ("metrics", {"batch": new_id(), "at": "yesterday", "interval_s": 1}, "bot", 400, "at:"),
    ):
        got, problem, _ = await door.request("POST", f"/api/v1/telemetry/{path}", body, as_=as_)
        assert got == status and says in problem["detail"], problem


async def forge_changes(door: Door) -> None:
    """Changes of an agent's status that the registry did not sign like that: altered, and on another's subject."""
    registry = await door.stack.bus("registry")
    change = AgentStatusChanged(
        agent_id="bot", by="ann", at=now(), before="active", status="revoked", reason="no reason"
    )
    sealed, core = registry.seal(change), registry.connection.client
    await core.publish(change.nats_subject(), sealed.body.replace(b"no reason", b"a reason"), headers=sealed.headers())
    await core.publish("fleet.status_changed.other", sealed.body, headers=sealed.headers())
    await core.flush()


async def test_the_socket_tells_what_each_asks_for_until_it_may_not(door: Door) -> None:
    async with door.socket() as socket:
        assert (await ask(socket, agents=["bot"], kinds=["metrics", "phase"]))["kind"] == "following"
        await door.says("bot", "logs", {"batch": new_id(), "records": [record("not asked for")]})
        report = {"batch": new_id(), "at": now().isoformat(), "interval_s": 5, "values": {"queue": 3}}
        await door.says("bot", "metrics", report)
        news = await told(socket)
        assert (news["kind"], news["agent_id"]) == ("metrics", "bot")
        assert news["metrics"]["batch"] == report["batch"] and news["metrics"]["values"] == {"queue": 3}
        await door.says("other", "heartbeat", {"status": "healthy"})
        await door.says("bot", "heartbeat", {"status": "healthy"})
        news = await told(socket)
        assert (news["kind"], news["agent_id"], news["change"]["now"]) == ("phase", "bot", "running")

        # what is asked for takes the place of what was asked for before
        assert (await ask(socket, agents=["other"], kinds=["logs"], level="error"))["follow"]["level"] == "error"
        await door.says("bot", "metrics", report | {"batch": new_id()})
        await door.says("other", "logs", {"batch": new_id(), "records": [record("fine"), record("bad", "critical")]})
        assert (await told(socket))["log"]["text"] == "bad"
        assert (await ask(socket, kinds=["status"]))["kind"] == "following"
        await forge_changes(door)
        await door.ok("POST", "/api/v1/agents/other/pause", {"reason": "stocktaking"})
        news = await told(socket)
        assert news["change"] == {"before": "active", "now": "paused", "why": "stocktaking", "by": "admin"}

        # what cannot be meant is said to be so, and changes nothing
        for wrong, says in (
            ({"kinds": ["logs"]}, "name the `agents`"),
            ({"agents": ["nobody"], "kinds": ["logs"]}, "there is no agent nobody"),
            ({"agents": ["*"], "kinds": ["logs"]}, "agents.0"),
            ({"agents": ["bot"], "kinds": ["everything"]}, "kinds.0"),
        ):
            problem = await ask(socket, **wrong)
            assert problem["kind"] == "problem" and says in problem["problem"]["detail"], problem
        await socket.send_bytes(b"\xff")
        assert (await told(socket))["problem"]["type"].endswith("malformed")
        await door.ok("POST", "/api/v1/agents/other/resume", {"reason": "counted"})
        assert (await told(socket))["change"]["now"] == "active"

        await door.ok("DELETE", "/api/v1/people/rita")
        assert (await told(socket))["kind"] == "end"
        async with asyncio.timeout(20):
            assert (await socket.receive()).data == 1008


async def test_the_socket_is_for_people_by_their_header_and_for_no_other_site(door: Door) -> None:
    token = door.tokens["rita"]
    for given, status in (
        ({"token": None}, 401),
        ({"token": None, "query": f"?token={token}&access_token={token}"}, 401),
        ({"token": "bot"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ):
        try:
            async with door.socket(**given):
                raise AssertionError(f"let in with {list(given)}")
        except aiohttp.WSServerHandshakeError as error:
            assert error.status == status, given
    async with door.socket(Origin=door.url) as socket:
        assert (await ask(socket, kinds=["phase"]))["kind"] == "following"
        await socket.send_str("x" * 20_000)
        async with asyncio.timeout(20):
            assert (await socket.receive()).data == 1009, "no frame is read that is larger than a question"
    # a gateway that stops says so
    async with door.socket() as socket:
        assert (await ask(socket, kinds=["phase"]))["kind"] == "following"
        stopping = asyncio.create_task(door.services["gateway"].stop())
        assert (await told(socket))["reason"] == "this gateway stops; connect again"
        await stopping


def test_what_is_read_of_one_agent_leaves_room_for_the_others() -> None:
    allowance = Allowance(agent_bytes=100, all_bytes=250)
    assert allowance.takes("a", 150, 1.0), "the first is read whatever its size"
    assert not allowance.takes("a", 1, 1.2)
    assert allowance.takes("b", 60, 1.4) and not allowance.takes("b", 60, 1.5)
    assert not allowance.takes("c", 90, 1.6), "all together"
    assert allowance.takes("a", 100, 2.0) and not allowance.takes("a", 1, 2.9)


def test_a_record_is_of_interest_by_its_level_and_text() -> None:
    at = now()
    body = orjson.dumps({"batch": new_id(), "records": [record("Straße zu", "warning")]})
    (news,) = news_of_logs("bot", body, at)
    assert news.log is not None
    for level, text, wanted in (
        (None, None, True),
        ("warning", "strasse", False),
        ("warning", "straße", True),
        ("error", None, False),
        ("debug", "ZU", True),
        (None, "offen", False),
    ):
        interest = Interest(frozenset(["bot"]), frozenset(["logs"]), level, text)
        assert interest.takes(news.log) is wanted, (level, text)
    assert not Interest(None, frozenset(["logs"])).hears("logs", "bot"), "nobody hears everybody's logs"
