"""What a crash, a restart or a loss of JetStream may not take away: events, and what others see."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from countersign_chassis import Failpoints, Service
from countersign_chassis.natsauth import read_claims
from countersign_contracts.envelope import Envelope
from countersign_contracts.errors import CountersignError
from countersign_registry.store import Lock

if TYPE_CHECKING:
    from .conftest import Fleet


class Crash(Exception):
    """The process ends here."""


def crash_at(name: str) -> Failpoints:
    async def crash() -> None:
        raise Crash(name)

    return Failpoints({name: crash})


async def pending(fleet: Fleet) -> int:
    return len(await fleet.sql("SELECT FROM outbox WHERE published_at IS NULL AND about <> 'admin'"))


async def test_a_crash_between_commit_and_publish_loses_nothing(fleet: Fleet) -> None:
    point = "registry.after_commit_before_publish"
    await fleet.run(crash_at(point))
    with pytest.raises(CountersignError):
        await fleet.register()
    assert await pending(fleet) == 1
    assert await fleet.shown() is None

    await fleet.run()
    (event,) = await fleet.events(1)
    assert event.about() == "alpha"
    assert await fleet.shown() == (await fleet.get()).agent
    await fleet.until(lambda: nothing_pending(fleet))


async def test_a_crash_between_publish_and_its_mark_repeats_the_event_under_its_id(fleet: Fleet) -> None:
    await fleet.run()
    await fleet.until(lambda: nothing_pending(fleet))
    await fleet.run(crash_at("registry.after_publish_before_mark"))
    await fleet.register()
    await fleet.events(1)
    assert await pending(fleet) == 1
    before = await fleet.raw_events()
    await fleet.run()
    await fleet.until(lambda: nothing_pending(fleet))
    assert await fleet.raw_events() == before


async def test_a_crash_after_a_revocation_was_committed_does_not_keep_the_agent_in(fleet: Fleet) -> None:
    await fleet.run()
    await fleet.register()
    agent = await fleet.connect((await fleet.issue()).nats_creds)
    await fleet.run(crash_at("registry.after_commit_before_publish"))
    with pytest.raises(CountersignError):
        await fleet.set_status("revoked")
    assert agent.client.is_connected
    await fleet.run()
    await agent.dropped(seconds=1)
    shown = await fleet.shown()
    assert shown is not None
    assert shown.status == "revoked"


async def test_a_wiped_jetstream_gets_its_buckets_and_the_latest_events_back(fleet: Fleet, registry: Service) -> None:
    await fleet.register("alpha")
    await fleet.register("beta")
    await fleet.set_status("revoked", "beta")
    before = {one.id: one.body for one in await envelopes(fleet, 3)}
    await fleet.restart_nats(lose=("jetstream",))
    after = {one.id: one.body for one in await envelopes(fleet, 3)}
    assert after == before

    async def shown() -> bool:
        agents = [await fleet.shown(agent_id) for agent_id in ("alpha", "beta")]
        return [agent.status for agent in agents if agent] == ["active", "revoked"]

    await fleet.until(shown)
    assert (await fleet.shown_person("admin")).status == "active"


async def test_a_bucket_that_lost_records_while_connected_is_shown_again(fleet: Fleet) -> None:
    await fleet.run(projection_check_s=0.1)
    await fleet.register()
    record = await fleet.shown()
    await fleet.lose_bucket("agents")
    assert record is not None

    async def shown_again() -> bool:
        return await fleet.shown() == record

    await fleet.until(shown_again)


async def test_an_event_that_the_stream_refuses_holds_up_no_other(fleet: Fleet, registry: Service) -> None:
    """Nothing of ours is too large; a row is made so by hand."""
    await fleet.until(lambda: nothing_pending(fleet))
    await fleet.sql(
        "INSERT INTO outbox (subject, stream, event_id, type, source, about, time, keyid, signature, body)"
        " SELECT 'fleet.registered.big', 'FLEET', 'big', 't', 's', 'big', 't', 'k', '', $1",
        b"A" * 1_100_000,
    )
    await fleet.register()
    await fleet.events(1)

    async def only_that_one() -> bool:
        return [row["about"] for row in await fleet.sql("SELECT about FROM outbox WHERE published_at IS NULL")] == [
            "big"
        ]

    await fleet.until(only_that_one)  # that the other was published is written after it was


async def test_a_record_that_is_being_shown_is_never_overtaken(fleet: Fleet) -> None:
    """The older revision was read and is late: the newer one waits for it, and so is the last."""
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def late() -> None:
        reading.set()
        await go_on.wait()

    await fleet.run(Failpoints({"registry.after_read_before_show": late}))
    registering = asyncio.create_task(fleet.register())
    await reading.wait()
    pausing = asyncio.create_task(fleet.set_status("paused"))

    async def committed() -> bool:
        return bool(await fleet.sql("SELECT FROM agent WHERE status = 'paused'"))

    await fleet.until(committed)
    await asyncio.wait([pausing], timeout=0.2)
    go_on.set()
    await registering
    paused = await pausing
    assert await fleet.shown() == paused.agent


async def test_one_registry_at_a_time_shows_records(fleet: Fleet, registry: Service) -> None:
    async with fleet.connection() as other:
        await other.execute("SELECT pg_advisory_lock($1, $2)", 0x52454749, Lock.AGENTS)
        registering = asyncio.create_task(fleet.register())
        await fleet.until(lambda: fleet.waiting(1))
        assert await fleet.shown() is None
    registered = await registering
    assert await fleet.shown() == registered.agent


async def test_two_registries_share_the_work_and_agree(fleet: Fleet, registry: Service) -> None:
    """As during an upgrade: orders go to either, and nothing is told twice, shown wrongly or let in."""
    await fleet.another()
    ids = [f"a-{i}" for i in range(12)]
    await asyncio.gather(*(fleet.register(agent_id) for agent_id in ids))
    await asyncio.gather(*(fleet.issue(agent_id) for agent_id in ids))
    await asyncio.gather(*(fleet.set_status("revoked" if int(i[2:]) % 2 else "paused", i) for i in ids))
    for agent_id in ids:
        assert await fleet.shown(agent_id) == (await fleet.get(agent_id)).agent
    events = await fleet.events(12 + 12 + 12 + 6)
    assert len({event.event_id() for event in events}) == len(events)
    (account,) = await fleet.sql("SELECT jwt FROM agents_account")
    revoked = await fleet.sql("SELECT nkey FROM credential WHERE kind = 'nats' AND voided_at IS NOT NULL")
    assert await fleet.account_in_use() == account["jwt"]
    assert read_claims(account["jwt"])["nats"]["revocations"].keys() == {row["nkey"] for row in revoked}
    assert len(revoked) == 6


async def test_the_metrics_count_agents_and_what_waits(fleet: Fleet, registry: Service) -> None:
    value = registry.metrics.registry.get_sample_value
    await fleet.register("alpha")
    await fleet.register("beta")
    await fleet.issue("beta")
    await fleet.set_status("revoked", "beta")

    async def counted() -> bool:
        agents = [value("countersign_agents", {"status": status}) for status in ("active", "paused", "revoked")]
        return agents == [1, 0, 1] and value("countersign_outbox_pending") == 0

    await fleet.until(counted)
    assert value("countersign_credentials_issued_total", {"kind": "nats"}) == 1
    assert value("countersign_nats_users_revoked") == 1
    assert value("countersign_account_pushes_total", {"result": "confirmed"}) == 2


async def nothing_pending(fleet: Fleet) -> bool:
    return await fleet.sql("SELECT FROM outbox WHERE published_at IS NULL") == []


async def envelopes(fleet: Fleet, count: int) -> list[Envelope]:
    async def there() -> bool:
        return len([s for s, _ in await fleet.raw_events() if "person" not in s]) >= count

    await fleet.until(there)
    return [one for subject, one in await fleet.raw_events() if "person" not in subject]
