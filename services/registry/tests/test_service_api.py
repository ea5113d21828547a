"""Agents found by the NATS service API: an observer in plain nats-py does what the `nats` command line does."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import nats
import pytest

from countersign_contracts import subjects
from countersign_contracts.errors import CountersignError
from countersign_contracts.observation import (
    IssuedObserver,
    IssueObserver,
    ListObservers,
    ObserverIssued,
    ObserverRevoked,
    RevokeObserver,
)
from countersign_harness.plain_client import PlainClient

if TYPE_CHECKING:
    from countersign_chassis import Service

    from .conftest import Fleet

#: `nats micro ls` takes the list for whole once nothing has come for so long; here for as long as a slow machine needs.
QUIET_S = 3.0


class Observer:
    """A client that asks as `nats micro` does: an inbox of its own, `{}` as the body, answers until they end."""

    def __init__(self, fleet: Fleet, issued: IssuedObserver) -> None:
        self.fleet = fleet
        self.issued = issued
        self.refused: list[str] = []
        self.client = PlainClient()

    async def connect(self) -> Observer:
        file = self.fleet.stack.layout.root / f"{self.issued.observer_id}.creds"
        file.write_text(self.issued.nats_creds)

        async def error(problem: Exception) -> None:
            self.refused.append(str(problem))

        await self.client.connect(
            self.fleet.stack.nats_url,
            user_credentials=str(file),
            inbox_prefix=self.issued.inbox_prefix,
            allow_reconnect=False,
            error_cb=error,
        )
        return self

    async def ask(self, subject: str, most: int = 0, quiet_s: float = QUIET_S) -> list[dict[str, Any]]:
        inbox = self.client.new_inbox()
        heard = await self.client.subscribe(inbox)
        await self.client.publish(subject, b"{}", reply=inbox)
        found: list[dict[str, Any]] = []
        try:
            while not most or len(found) < most:
                found.append(json.loads((await heard.next_msg(timeout=20 if most else quiet_s)).data))
        except nats.errors.TimeoutError:
            assert not most, f"{len(found)} of {most}"
        await heard.unsubscribe()
        return found

    async def says(self, subject: str, reply: str = "") -> str:
        """What the server says of a publish, or nothing."""
        self.refused.clear()
        await self.client.publish(subject, b"{}", reply=reply)
        await self.client.flush()
        return " ".join(self.refused)

    async def is_refused(self, subject: str) -> None:
        """The server says so, in a message that nobody waits for."""
        said = await self.says(subject)
        async with asyncio.timeout(20):
            while f'Permissions Violation for Publish to "{subject}"'.lower() not in said.lower():
                await asyncio.sleep(0.02)
                said = " ".join(self.refused)


async def observer(fleet: Fleet) -> Observer:
    return await Observer(fleet, await fleet.bus.ask(IssueObserver(by="ann"))).connect()


async def test_agents_that_run_are_found_named_described_and_counted(fleet: Fleet, registry: Service) -> None:
    brief = await Observer(fleet, await fleet.bus.ask(IssueObserver(lifetime_s=10, by="ann"))).connect()
    for agent_id, name in (("alpha", "Night bot"), ("beta", "Night bot"), ("gamma", "Other"), ("idle", "Night bot")):
        await fleet.register(agent_id, name=name)
        if agent_id != "idle":
            agent = await fleet.connect((await fleet.issue(agent_id, kinds=("nats",))).nats_creds, agent_id)
            await agent.beat(b'{"status": "healthy", "load": 0.25}')

    async def three_run() -> bool:
        rows = await fleet.sql("SELECT FROM phase WHERE phase = 'running'")
        return len(rows) == 3

    await fleet.until(three_run, seconds=30)
    watching = await observer(fleet)

    pings = await watching.ask("$SRV.PING", most=3)
    assert [(each["name"], each["id"]) for each in pings] == [
        ("Night-bot", "alpha"),
        ("Night-bot", "beta"),
        ("Other", "gamma"),
    ]
    assert [each["id"] for each in await watching.ask("$SRV.INFO.Night-bot", most=2)] == ["alpha", "beta"]
    (info,) = await watching.ask("$SRV.INFO.Other.gamma", most=1)
    assert info["endpoints"][0]["subject"] == "agents.gamma.results.>" and info["metadata"]["phase"] == "running"
    (stats,) = await watching.ask("$SRV.STATS.Other.gamma", most=1)
    assert stats["endpoints"][0]["data"]["heartbeat"]["load"] == 0.25

    # asked after those it comes after them: whoever is not asked has said nothing
    await fleet.set_status("revoked", "beta")
    assert [each["id"] for each in await watching.ask("$SRV.PING", most=2)] == ["alpha", "gamma"]
    assert await watching.ask("$SRV.PING.Nobody", quiet_s=1) == []

    # it may do nothing else, and have nobody else answered
    for subject in ("agents.alpha.actions", "agents.bootstrap.register", "agents.alpha.control.config", "$JS.API.INFO"):
        await watching.is_refused(subject)
    for planted in ("agents.alpha.control.config", f"{subjects.inbox('alpha')}.x", f"{subjects.inbox('gateway')}.x"):
        spied = await fleet.stack.client("gateway-agents") if "gateway" in planted else None
        heard = await spied.subscribe(planted) if spied else await alpha_hears(fleet, planted)
        await watching.says("$SRV.PING", planted)
        await watching.ask("$SRV.PING", most=2)
        assert heard.pending_msgs == 0, planted
    told = [event for event in await fleet.every_event() if isinstance(event, ObserverIssued)]
    issued = [brief.issued.observer_id, watching.issued.observer_id]
    assert [(event.observer_id, event.by) for event in told] == [(each, "ann") for each in issued]

    # and its credential ends by itself
    async with asyncio.timeout(40):
        while not brief.client.is_closed:
            await asyncio.sleep(0.1)


async def test_an_observer_is_revoked_alone_and_dropped_at_once(fleet: Fleet, registry: Service) -> None:
    await fleet.register("alpha")
    one, other = await observer(fleet), await observer(fleet)
    revoked = await fleet.bus.ask(RevokeObserver(observer_id=one.issued.observer_id, by="bob"))
    assert (revoked.created_by, revoked.revoked_by, revoked.expires_at) == ("ann", "bob", one.issued.expires_at)
    assert await fleet.bus.ask(RevokeObserver(observer_id=one.issued.observer_id, by="eve")) == revoked
    async with asyncio.timeout(30):
        while not one.client.is_closed:
            await asyncio.sleep(0.05)
    again = Observer(fleet, one.issued)
    with pytest.raises(nats.errors.Error):
        await again.connect()
    await again.client.close()
    assert await other.says("$SRV.PING") == ""
    listed = await fleet.bus.ask(ListObservers(limit=1))
    assert [each.observer_id for each in listed.items] == [other.issued.observer_id]
    (older,) = (await fleet.bus.ask(ListObservers(after=listed.next))).items
    assert older == revoked
    with pytest.raises(CountersignError, match="there is no observer `obs_none`; `countersign agents observers list`"):
        await fleet.bus.ask(RevokeObserver(observer_id="obs_none", by="bob"))
    told = [event for event in await fleet.every_event() if isinstance(event, ObserverRevoked)]
    assert [(event.observer_id, event.by) for event in told] == [(one.issued.observer_id, "bob")]
    await other.client.close()


async def alpha_hears(fleet: Fleet, subject: str) -> Any:
    agent = await fleet.connect((await fleet.issue("alpha", kinds=("nats",))).nats_creds, "alpha")
    heard = await agent.client.subscribe(subject)
    await agent.client.flush()
    return heard


async def test_many_answers_come_in_portions_and_all_of_them(fleet: Fleet, registry: Service) -> None:
    await fleet.register("alpha")
    async with fleet.connection() as connection:
        await connection.execute(
            "INSERT INTO agent (agent_id, name, owner_team, profile, environments, status, status_by, status_at,"
            " revision, created_by, created_at)"
            " SELECT 'bot-' || n, name, owner_team, profile, environments, status, status_by, status_at,"
            " revision, created_by, created_at FROM agent, generate_series(1, 1500) n"
        )
        await connection.execute(
            "INSERT INTO phase SELECT agent_id, 'running', now(), 'a heartbeat' FROM agent WHERE agent_id <> 'alpha'"
        )
    first, second = await observer(fleet), await observer(fleet)
    async with asyncio.timeout(30):
        found = await asyncio.gather(first.ask("$SRV.INFO", most=1500), second.ask("$SRV.PING", most=1500))
    assert [len({each["id"] for each in answers}) for answers in found] == [1500, 1500]
