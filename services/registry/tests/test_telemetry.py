"""Telemetry over real NATS into real PostgreSQL: kept once, shed, refused, read in pages, dropped by day."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson
import pytest

from countersign_chassis import Failpoints, Service
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now, rfc3339
from countersign_contracts.telemetry import MOST_AHEAD, LogPage, ReadHealth, ReadLogs, ReadMetrics
from countersign_registry.telemetry_days import partition_name

if TYPE_CHECKING:
    from .conftest import Agent, Fleet

SECONDS = 30


def sample(service: Service, name: str, **labels: str) -> float:
    return service.metrics.registry.get_sample_value(name, labels) or 0


def batches(service: Service, kind: str, result: str) -> float:
    return sample(service, "countersign_telemetry_batches_total", kind=kind, result=result)


def record(text: str = "hello", **changes: Any) -> dict[str, Any]:
    return {"at": rfc3339(now()), "text": text} | changes


def logs(*records: dict[str, Any], batch: str | None = None) -> bytes:
    return orjson.dumps({"batch": batch or uuid4().hex, "records": records})


def report(batch: str | None = None, **changes: Any) -> bytes:
    return orjson.dumps({"batch": batch or uuid4().hex, "at": rfc3339(now()), "interval_s": 60} | changes)


async def agent_of(fleet: Fleet, agent_id: str = "alpha") -> Agent:
    await fleet.register(agent_id)
    return await fleet.connect((await fleet.issue(agent_id)).nats_creds, agent_id)


async def send(agent: Agent, verb: str, *bodies: bytes) -> None:
    """Publish, and wait until the stream has all of it."""
    stream = agent.client.jetstream()
    for body in bodies:
        await stream.publish(f"agents.{agent.agent_id}.{verb}", body, timeout=10)


async def until(fleet: Fleet, holds: Callable[[], bool]) -> None:
    async def check() -> bool:
        return holds()

    await fleet.until(check, SECONDS)


async def read(fleet: Fleet, agent_id: str = "alpha", **asked: Any) -> LogPage:
    page = await fleet.bus.ask(ReadLogs(agent_id=agent_id, **asked))
    assert isinstance(page, LogPage)
    return page


async def texts(fleet: Fleet, agent_id: str = "alpha", **asked: Any) -> list[str]:
    return [item.text for item in (await read(fleet, agent_id, **asked)).items]


async def test_logs_are_kept_as_they_were_said_and_found_by_level_text_and_time(
    fleet: Fleet, registry: Service
) -> None:
    agent = await agent_of(fleet)
    await agent_of(fleet, "beta")
    at = now()
    said = [
        record("Ticket 7 äÖ 100% done_", at=rfc3339(at), level="info", logger="desk", fields={"n": 7, "ok": True}),
        record("quiet", at=rfc3339(at - timedelta(minutes=1)), level="debug"),
        record("loud \x00", at=rfc3339(at - timedelta(minutes=2)), level="error", request_id=str(uuid4())),
    ]
    await send(agent, "logs", logs(*said, batch="batch-01"))
    await until(fleet, lambda: batches(registry, "logs", "kept") == 1)

    page = await read(fleet)
    assert [item.id for item in page.items] == ["batch-01.0", "batch-01.1", "batch-01.2"]
    first = page.items[0]
    assert (first.at, first.level, first.logger, first.fields) == (at, "info", "desk", {"n": 7, "ok": True})
    assert first.fields["ok"] is True
    assert page.items[2].text == "loud \ufffd"
    assert page.items[2].request_id == said[2]["request_id"]
    assert page.next is None

    assert await texts(fleet, level="info") == [first.text, "loud \ufffd"]
    assert await texts(fleet, level="warning") == ["loud \ufffd"]
    assert await texts(fleet, level="critical") == []
    for found in ("TICKET", "Äö", "100%", "done_", "% d"):
        assert await texts(fleet, text=found) == [first.text], found
    for missed in ("_uiet", "qu%t", "\\", "7_"):
        assert await texts(fleet, text=missed) == [], missed
    assert await texts(fleet, since=at - timedelta(minutes=1)) == [first.text, "quiet"]
    assert await texts(fleet, until=at) == ["quiet", "loud \ufffd"]
    assert await texts(fleet, "beta") == []
    with pytest.raises(CountersignError, match="not registered") as refused:
        await read(fleet, "gamma")
    assert refused.value.code == "not_found"
    with pytest.raises(CountersignError, match="before") as refused:
        await read(fleet, before="yesterday")
    assert refused.value.code == "invalid"


async def test_pages_have_each_record_once_whatever_comes_in_between(fleet: Fleet, registry: Service) -> None:
    agent = await agent_of(fleet)
    at = rfc3339(now())  # all at the same time: batch and place alone make the order
    await send(
        agent, "logs", *(logs(*(record(f"{b}-{n}", at=at) for n in range(20)), batch=f"b{b:07}") for b in range(5))
    )
    await until(fleet, lambda: batches(registry, "logs", "kept") == 5)
    seen: list[str] = []
    before = None
    for _ in range(20):
        page = await read(fleet, limit=7, before=before)
        seen += [item.id for item in page.items]
        before = page.next
        if before is None:
            break
        await send(agent, "logs", logs(record("newer")))
    assert len(seen) == len(set(seen)) == 100

    large = [record("x" * 8000) for _ in range(25)]
    await send(agent, "logs", *(logs(*large) for _ in range(5)))
    await until(fleet, lambda: sample(registry, "countersign_agent_log_records_total", level="info") >= 225)
    page = await read(fleet, limit=500)
    assert 0 < len(page.items) < 125, "a page fits into one message"
    assert page.next is not None


async def test_a_batch_is_kept_and_counted_once_with_two_registries_and_a_crash_before_the_ack(
    fleet: Fleet,
) -> None:
    crashed = asyncio.Event()

    async def crash() -> None:
        if not crashed.is_set():
            crashed.set()
            raise RuntimeError("the process ends here")

    one = await fleet.run(Failpoints({"registry.after_keep_before_ack": crash}))
    two = await fleet.another()
    agent = await agent_of(fleet)
    body = report("report-1", events_succeeded=3, events_failed=1, processing_s=0.5, cpu_s=1.5, memory_bytes=100)
    # the stream knows repeats for a second only; the registry for longer
    for _ in range(4):
        await send(agent, "metrics", body)
        await send(agent, "logs", logs(record(level="error"), batch="report-1"))
    await send(agent, "metrics", report("report-2", disk_read_bytes=5))

    def both(kind: str, *results: str) -> float:
        return sum(batches(service, kind, result) for service in (one, two) for result in results)

    await until(fleet, lambda: both("metrics", "kept", "repeated") >= 5 and both("logs", "kept", "repeated") >= 4)
    assert (both("metrics", "kept"), both("logs", "kept")) == (2, 1)

    def total(name: str, **labels: str) -> float:
        return sample(one, name, **labels) + sample(two, name, **labels)

    assert total("countersign_agent_events_total", result="succeeded") == 3
    assert total("countersign_agent_events_total", result="failed") == 1
    assert total("countersign_agent_processing_seconds_total") == 0.5
    assert total("countersign_agent_cpu_seconds_total") == 1.5
    assert total("countersign_agent_disk_bytes_total", direction="read") == 5
    assert total("countersign_agent_log_records_total", level="error") == 1
    assert len(await fleet.sql("SELECT FROM agent_metrics")) == 2
    assert len(await fleet.sql("SELECT FROM agent_log")) == 1


MALFORMED = [
    b"",
    b"{",
    b"[]",
    b"[" * 100_000,
    b'{"batch": "12345678"}',
    logs(),
    logs(record(text="")),
    logs(record(), batch="a b c d e f"),
]


async def test_what_is_wrong_is_counted_and_dropped_and_holds_up_nobody(fleet: Fleet, registry: Service) -> None:
    agent, beta = await agent_of(fleet), await agent_of(fleet, "beta")
    ahead = rfc3339(now() + MOST_AHEAD + timedelta(minutes=1))
    await send(agent, "logs", *MALFORMED, logs(record(), record(at=ahead)))
    await send(agent, "metrics", report(at=ahead), report(values={"Not A Name": 1}), report(memory_bytes=2**54))
    # the database was restored from a backup: the agent's credentials are good, its row is gone
    gone = await agent_of(fleet, "gone")
    await fleet.sql("DELETE FROM credential WHERE agent_id = 'gone'")
    await fleet.sql("DELETE FROM agent WHERE agent_id = 'gone'")
    await send(gone, "logs", logs(record()))
    await send(beta, "logs", logs(record("still heard")))
    await send(beta, "metrics", report(memory_bytes=2**53, cpu_s=0))
    await until(fleet, lambda: batches(registry, "logs", "kept") == 1 and batches(registry, "metrics", "kept") == 1)
    assert batches(registry, "logs", "malformed") == len(MALFORMED)
    assert batches(registry, "logs", "invalid") == batches(registry, "metrics", "invalid") == 1
    assert batches(registry, "metrics", "malformed") == 2
    assert batches(registry, "logs", "unknown_agent") == 1
    assert await texts(fleet, "beta") == ["still heard"]
    assert await texts(fleet) == []
    for consumer in ("registry-logs", "registry-metrics"):
        assert sample(registry, "countersign_messages_dead_total", consumer=consumer) == 0
        assert sample(registry, "countersign_messages_failed_total", consumer=consumer) == 0


async def test_an_agent_that_floods_is_shed_and_the_others_are_kept_whole(fleet: Fleet) -> None:
    registry = await fleet.run(telemetry_bytes_per_s=8192)
    flood, calm = await agent_of(fleet, "flood"), await agent_of(fleet, "calm")
    large = [logs(*(record("x" * 8000) for _ in range(25))) for _ in range(12)]
    await send(flood, "logs", *large)
    await send(calm, "logs", *(logs(record(f"{n}")) for n in range(10)))
    await send(flood, "metrics", *(report() for _ in range(100)))
    await until(fleet, lambda: batches(registry, "logs", "kept") + batches(registry, "logs", "shed") == 22)
    assert await texts(fleet, "calm") == [str(n) for n in reversed(range(10))]
    assert 9 <= batches(registry, "logs", "shed") <= 10, "480 KiB at once, of 12 times 200"
    await until(fleet, lambda: batches(registry, "metrics", "kept") == 100)


async def test_while_no_registry_runs_a_flood_pushes_out_its_own_oldest_alone(fleet: Fleet, registry: Service) -> None:
    flood, calm = await agent_of(fleet, "flood"), await agent_of(fleet, "calm")
    await registry.stop()
    first = logs(record("first"))
    await send(calm, "logs", first, first)
    for n in range(300):
        await flood.client.publish("agents.flood.logs", logs(record(str(n))))
    await flood.client.flush()
    await send(calm, "logs", logs(record("last")))
    registry = await fleet.run()
    await until(fleet, lambda: batches(registry, "logs", "kept") == 258)
    assert batches(registry, "logs", "repeated") == 1
    assert await texts(fleet, "calm") == ["last", "first"]
    assert set(await texts(fleet, "flood", limit=500)) == {str(n) for n in range(44, 300)}


async def test_metrics_are_read_in_pages_with_their_sums_and_health_says_why(fleet: Fleet, registry: Service) -> None:
    agent = await agent_of(fleet)
    at = now()
    for n in range(4):
        then = rfc3339(at - timedelta(minutes=n))
        changes = {"cpu_s": 30, "memory_bytes": 1000 - n, "network_sent_bytes": 10} if n < 2 else {}
        await send(
            agent,
            "metrics",
            report(
                f"report-{n}",
                at=then,
                events_succeeded=10,
                events_failed=30,
                processing_s=4,
                values={"q.len": n},
                **changes,
            ),
        )
    await send(agent, "metrics", report("report-9", at=rfc3339(at - timedelta(hours=3)), events_succeeded=1))
    await send(agent, "logs", logs(record(level="error"), record(level="critical"), record(level="warning")))
    await until(fleet, lambda: batches(registry, "metrics", "kept") == 5 and batches(registry, "logs", "kept") == 1)

    page = await fleet.bus.ask(ReadMetrics(agent_id="alpha", limit=3))
    assert [item.batch for item in page.items] == ["report-0", "report-1", "report-2"]
    assert page.items[2].values == {"q.len": 2}
    rest = await fleet.bus.ask(ReadMetrics(agent_id="alpha", limit=3, before=page.next))
    assert ([item.batch for item in rest.items], rest.next) == (["report-3"], None)
    assert rest.summary == page.summary
    assert page.summary.model_dump() == {
        "reports": 4,
        "covered_s": 240,
        "events_succeeded": 40,
        "events_failed": 120,
        "error_share": 0.75,
        "events_per_second": 160 / 240,
        "processing_mean_s": 0.1,
        "cpu_share": 0.5,
        "memory_bytes": 1000,
        "disk_read_bytes": None,
        "disk_written_bytes": None,
        "network_received_bytes": None,
        "network_sent_bytes": 20,
    }
    older = await fleet.bus.ask(
        ReadMetrics(agent_id="alpha", since=at - timedelta(hours=4), until=at - timedelta(hours=2))
    )
    assert ([item.batch for item in older.items], older.summary.events_failed) == (["report-9"], 0)

    health = await fleet.bus.ask(ReadHealth(agent_id="alpha"))
    assert not health.healthy
    assert health.reasons == ("it was never heard of", "120 of its 160 events of the last hour failed")
    assert (health.errors_last_hour, health.last_hour) == (2, page.summary)
    await agent.beat(b'{"status": "healthy", "uptime_s": 3}')

    async def running() -> bool:
        return (await fleet.get()).phase == "running"

    await fleet.until(running, SECONDS)
    health = await fleet.bus.ask(ReadHealth(agent_id="alpha"))
    assert health.said == {"status": "healthy", "uptime_s": 3}
    assert health.reasons == ("120 of its 160 events of the last hour failed",)

    beside = await fleet.another()  # every registry tells the same of the fleet as it is now
    await until(fleet, lambda: sample(beside, "countersign_agents_reporting") == 1)
    assert sample(beside, "countersign_agent_memory_bytes") == 1000


async def partitions(fleet: Fleet, table: str) -> list[str]:
    rows = await fleet.sql(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = $1::regclass", table
    )
    return sorted(row["name"] for row in rows)


async def test_days_are_made_ahead_and_dropped_whole_by_one_of_two_registries(fleet: Fleet) -> None:
    today = now().date()

    def day(n: int) -> date:
        return today + timedelta(days=n)

    await fleet.run()
    made = [partition_name("agent_log", day(n)) for n in range(-1, 4)]
    assert await partitions(fleet, "agent_log") == made
    async with fleet.connection() as connection:
        await connection.execute("SET ROLE countersign_registry")
        for n in (-8, -9):
            await connection.execute(
                f"CREATE TABLE {partition_name('agent_log', day(n))} PARTITION OF agent_log"
                f" FOR VALUES FROM ('{day(n)} 00:00+00') TO ('{day(n + 1)} 00:00+00')"
            )
        await connection.execute("CREATE TABLE agent_log_mine PARTITION OF agent_log DEFAULT")
        for batch, hours in (("forgotten", 3), ("remembered", 1)):
            values = (batch, now() - timedelta(hours=hours))
            await connection.execute("INSERT INTO telemetry_batch VALUES ('alpha', 'logs', $1, $2)", *values)
    one, two = await asyncio.gather(fleet.run(log_days=7), fleet.another(log_days=7))

    async def both_gone() -> bool:
        return await partitions(fleet, "agent_log") == [*made, "agent_log_mine"]

    await fleet.until(both_gone, SECONDS)

    async def forgotten() -> bool:
        return [row["batch"] for row in await fleet.sql("SELECT batch FROM telemetry_batch")] == ["remembered"]

    await fleet.until(forgotten, SECONDS)
    assert await partitions(fleet, "agent_metrics") == [partition_name("agent_metrics", day(n)) for n in range(-1, 4)]
    for service in (one, two):
        assert sample(service, "countersign_background_failures_total", loop="days of telemetry") == 0


async def test_a_day_that_nobody_made_is_made_by_the_first_that_needs_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a sleep over more days than were made ahead."""
    monkeypatch.setattr("countersign_registry.telemetry_days.wanted", lambda _: set())
    registry = await fleet.run()
    agent = await agent_of(fleet)
    assert await partitions(fleet, "agent_log") == []
    await send(agent, "logs", logs(record("awake")))
    await until(fleet, lambda: batches(registry, "logs", "kept") == 1)
    assert await texts(fleet) == ["awake"]

    await fleet.sql(f"DROP TABLE {partition_name('agent_log', now().date())}")
    await send(agent, "logs", logs(record("somebody dropped it")))
    await until(fleet, lambda: batches(registry, "logs", "kept") == 2)
    assert await texts(fleet) == ["somebody dropped it"]


async def test_an_outage_of_the_database_loses_nothing(fleet: Fleet, registry: Service) -> None:
    agent = await agent_of(fleet)
    async with fleet.connection() as connection:
        await connection.execute("ALTER ROLE countersign_registry NOLOGIN")
        kill = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'countersign_registry'"
        await connection.execute(kill)
        await send(agent, "logs", *(logs(record(str(n))) for n in range(5)))

        def tried() -> bool:
            return sample(registry, "countersign_messages_redelivered_total", consumer="registry-logs") > 0

        await until(fleet, tried)
        await connection.execute("ALTER ROLE countersign_registry LOGIN")
    await until(fleet, lambda: batches(registry, "logs", "kept") == 5)
    assert sorted(await texts(fleet)) == list("01234")


async def test_a_search_that_finds_little_among_much_goes_on_where_it_ended(
    fleet: Fleet, registry: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("countersign_registry.telemetry_pages.MOST_LOOKED_AT", 10)
    agent = await agent_of(fleet)
    at = now()
    said = [record("needle" if n in (3, 25) else "hay", at=rfc3339(at - timedelta(seconds=n))) for n in range(30)]
    await send(agent, "logs", logs(*said))
    await until(fleet, lambda: batches(registry, "logs", "kept") == 1)
    pages: list[list[str]] = []
    before = None
    for _ in range(5):
        page = await read(fleet, text="NEEDLE", before=before)
        pages.append([item.id.rpartition(".")[2] for item in page.items])
        before = page.next
        if before is None:
            break
    assert pages == [["3"], [], ["25"], []]
