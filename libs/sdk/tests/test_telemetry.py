"""What an agent says of its work: what becomes of it on the way, and what never happens to the agent's work."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from countersign_contracts.agent_config import ConfigValues
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.ids import new_id
from countersign_contracts.model import now
from countersign_contracts.telemetry import LogBatch, LogRecord, MetricReport
from countersign_sdk import telemetry
from countersign_sdk.records import level_of, name_of, record
from countersign_sdk.resources import Usage, since, usage
from countersign_sdk.telemetry import Telemetry
from countersign_sdk.telling import Telling

ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers(), max_size=2), st.binary()
)


class Registry:
    """Takes what is sent; fails as often as it is told to."""

    def __init__(self) -> None:
        self.batches: list[LogBatch] = []
        self.reports: list[MetricReport] = []
        self.failing: list[CountersignError] = []
        self.tried: list[str] = []
        self.came = asyncio.Condition()

    async def send(self, verb: str, body: bytes) -> None:
        self.tried.append(orjson.loads(body)["batch"])
        if self.failing:
            raise self.failing.pop(0)
        async with self.came:
            if verb == "logs":
                self.batches.append(LogBatch.from_bytes(body))
            else:
                self.reports.append(MetricReport.from_bytes(body))
            self.came.notify_all()

    async def until(self, when: Callable[[], Any]) -> None:
        async with asyncio.timeout(20), self.came:
            await self.came.wait_for(when)

    @property
    def records(self) -> list[LogRecord]:
        return [each for batch in self.batches for each in batch.records]


class Teller(Telling):
    """An agent that does nothing else."""

    def __init__(self, registry: Registry, interval_s: float = 3600, *, always: bool = False) -> None:
        self._telemetry = Telemetry(registry.send, interval_s, always=always)

    async def __aenter__(self) -> Teller:
        self._telemetry.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._telemetry.close()


@given(st.text(), st.dictionaries(st.text(), ANYTHING, max_size=4), st.one_of(st.none(), st.text()))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_an_agent_logs_becomes_a_record_that_is_taken(
    text: str, fields: dict[str, Any], request_id: str | None
) -> None:
    made = record(now(), "info", text, text, fields, request_id)
    assert LogRecord.from_bytes(made).level == "info"


def test_the_largest_record_fits_into_a_batch() -> None:
    fields = {f"f{n:062}": "\x01" * 100_000 for n in range(100)}
    made = record(now(), "info", "\x01" * 100_000, "\x01" * 1000, fields, "\x01" * 100_000)
    assert len(made) < telemetry._BATCH_BYTES
    assert len(LogRecord.from_bytes(made).fields) == 32


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_context_keeps_its_kinds_and_its_names_as_far_as_they_are_taken() -> None:
    fields = {"order": "A5", "n": 3, "share": 0.5, "ok": True, "none": None, "Big-One": 2**60, "nan": math.nan}
    request_id = new_id()
    made = LogRecord.from_bytes(record(now(), "error", Unspeakable(), "shop", fields, request_id))
    assert made.fields | {"none": None} == {
        "order": "A5",
        "n": 3,
        "share": 0.5,
        "ok": True,
        "none": None,
        "big_one": str(2**60),
        "nan": "nan",
    }
    assert (made.text, made.logger, made.request_id) == ("(Unspeakable that has no text)", "shop", request_id)
    assert [name_of(each) for each in ("Straße", "9lives", "", "_x", "é")] == ["stra_e", "x9lives", "x", "x_x", "x_"]
    assert [level_of(each) for each in (0, 10, 15, 20, 30, 40, 50, 99)] == [
        *("debug", "debug", "debug", "info", "warning", "error", "critical", "critical"),
    ]


async def test_records_of_any_thread_and_of_the_standard_library_go_in_batches() -> None:
    registry = Registry()
    async with Teller(registry) as agent:
        logger = logging.getLogger("shop.orders")
        handler = agent.log_handler()
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        try:
            threading.Thread(target=lambda: agent.log("from a thread", level="warning", order="A5")).start()
            await registry.until(lambda: registry.records)
            logger.debug("not asked for")
            try:
                raise ValueError("odd")
            except ValueError:
                logger.exception("order %s failed", "A6", extra={"order": "A6"})
            logging.getLogger("countersign.agent").addHandler(handler)
            logging.getLogger("countersign.agent").warning("what sending says of itself")
        finally:
            logger.removeHandler(handler)
            logging.getLogger("countersign.agent").removeHandler(handler)
    first, second = registry.records
    assert (first.text, first.level, first.fields) == ("from a thread", "warning", {"order": "A5"})
    assert second.text.startswith("order A6 failed\nTraceback") and second.text.endswith("ValueError: odd")
    assert (second.level, second.logger, second.fields) == ("error", "shop.orders", {"order": "A6"})


async def test_what_is_not_taken_is_sent_again_with_its_id_and_what_is_refused_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telemetry, "_PAUSES_S", (0.01,))
    registry = Registry()
    registry.failing = [Unavailable("away"), Unavailable("away"), CountersignError("no", code="invalid")]
    async with Teller(registry) as agent:
        agent.log("one")
        await _soon(lambda: len(registry.tried) == 3)
        agent.log("two")
        await registry.until(lambda: registry.records)
    assert len(set(registry.tried)) == 2 and registry.tried[0] == registry.tried[2]
    assert [each.text for each in registry.records] == ["two"]


async def _soon(when: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not when():
            await asyncio.sleep(0.01)


async def test_beyond_the_bound_the_oldest_give_way_and_the_next_batch_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telemetry, "MOST_WAITING", 3)
    registry = Registry()
    async with Teller(registry) as agent:
        for n in range(10):
            agent.log(n)
    said, *rest = registry.records
    assert (said.fields, said.level) == ({"dropped": 7}, "warning")
    assert [each.text for each in rest] == ["7", "8", "9"]


async def test_an_agent_that_ends_while_nobody_takes_it_still_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "_END_S", 0.05)
    stuck = asyncio.Event()

    class Stuck(Registry):
        async def send(self, verb: str, body: bytes) -> None:
            await stuck.wait()

    async with asyncio.timeout(20), Teller(Stuck()) as agent:
        agent.log("lost")


async def test_events_and_gauges_are_reported_as_differences_and_values() -> None:
    registry = Registry()
    async with Teller(registry, interval_s=0.05) as agent:
        agent.log("nothing is reported before there is anything")
        await registry.until(lambda: registry.records)
        assert registry.reports == []
        with agent.event():
            pass
        with pytest.raises(ValueError, match="odd"), agent.event():
            raise ValueError("odd")
        with pytest.raises(asyncio.CancelledError), agent.event():
            raise asyncio.CancelledError
        agent.count(succeeded=3, processing_s=1.5)
        agent.gauge("Queue Length", 4)
        agent.gauge("broken", math.nan)
        await registry.until(lambda: sum(each.events_succeeded for each in registry.reports) == 4)
        await registry.until(lambda: registry.reports[-1].events_succeeded == 0)
    assert sum(each.events_failed for each in registry.reports) == 1
    assert 1.5 < sum(each.processing_s for each in registry.reports) < 10
    assert {name: value for each in registry.reports for name, value in each.values.items()} == {"queue_length": 4.0}
    assert registry.reports[-1].values, "a value stays until there is another"
    last = registry.reports[-1]
    assert last.cpu_s is not None and last.interval_s > 0 and last.network_received_bytes is None


async def test_the_agent_s_configuration_says_what_is_sent() -> None:
    registry = Registry()
    async with Teller(registry, always=True) as agent:
        agent.log("fine", level="debug")
        agent._telemetry.use(ConfigValues(log_level="DEBUG", metrics_interval_s=1))
        agent.log("now", level="debug")
        await registry.until(lambda: registry.reports)
        agent._telemetry.use(ConfigValues(log_level="ERROR", metrics_enabled=False, metrics_interval_s=3600))
        agent.log("not now", level="warning")
        count = len(registry.reports)
    assert [each.text for each in registry.records] == ["now"]
    assert len(registry.reports) == count, "not at the end either"


def test_what_the_platform_does_not_say_is_left_out(tmp_path: Path) -> None:
    here = usage(tmp_path)
    assert here == Usage(here.cpu_s, None, None, None)
    assert since(here, here) == {"cpu_s": 0.0}
    (tmp_path / "statm").write_text("100 25 3\n")
    (tmp_path / "io").write_text("rchar: 5\nread_bytes: 4096\nwrite_bytes: 8192\n")
    there = usage(tmp_path)
    assert there.memory_bytes is not None and there.memory_bytes >= 25 * 4096
    later = Usage(there.cpu_s + 1, there.memory_bytes, 8192, 8192)
    assert since(there, later) | {"memory_bytes": 0, "cpu_s": 1.0} == {
        "cpu_s": 1.0,
        "memory_bytes": 0,
        "disk_read_bytes": 4096,
        "disk_written_bytes": 0,
    }


async def test_an_agent_ends_also_when_it_is_told_to_at_the_moment_of_an_answer() -> None:
    """Found by faults: nats-py waits by `asyncio.wait_for`, which then lost the cancellation, and the agent hung."""
    asked: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()

    async def send(verb: str, body: bytes) -> None:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asked.put_nowait(answer)
        await asyncio.wait_for(answer, 60)

    telling = Telemetry(send, 3600, always=False)
    telling.start()
    telling.log("info", "one", None, {}, None)
    (await asked.get()).set_result(None)
    async with asyncio.timeout(10):
        await telling.close()
