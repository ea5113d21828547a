"""What metrics and traces cost, and how long a page of metrics takes.

Two systems beside each other, one without metrics (see `unmeasured`) and traces, one with both: scraped as Prometheus
does, and following every hundredth action. The same load is put on one after the other, in the order ABBA, so that what
else the machine does falls on both. The steady measure is processor time: of every process of a system, from the
scheduler's own accounting. Run by itself: `.venv/bin/python benchmarks/telemetry.py --pairs 10`.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from countersign_sdk import Agent
from governed import System, downstream, prepare
from processes import cpu_seconds, family

WITHOUT, WITH = "without", "with"
IN_FLIGHT = 64
#: As deploy/prometheus asks.
SCRAPE_S = 10.0
PAGES = 30
#: Asks for exemplars, as Prometheus does.
_OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


@dataclass(frozen=True, slots=True)
class Turn:
    """One system under load for some seconds."""

    actions: int
    failures: int
    seconds: float
    cpu_s: float

    @property
    def per_second(self) -> float:
        """Actions that ended."""
        return self.actions / self.seconds

    @property
    def cpu_ms(self) -> float:
        """Of all the system's processes, for each action."""
        return 1000 * self.cpu_s / self.actions


@dataclass
class Cost:
    """What was measured; times in milliseconds."""

    per_second: dict[str, float]
    cpu_ms: dict[str, float]
    #: With by without, of each pair of turns.
    throughput_ratios: list[float]
    cpu_ratios: list[float]
    failures: int
    spans_sent: int
    page_ms: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def throughput_lost(self) -> float:
        """The median share over the pairs."""
        return 1 - statistics.median(self.throughput_ratios)

    @property
    def cpu_more(self) -> float:
        """The median share over the pairs."""
        return statistics.median(self.cpu_ratios) - 1


class Receiver:
    """A collector that takes spans and forgets them."""

    def __init__(self) -> None:
        self.bodies = 0

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
                await reader.readexactly(int(length))
                self.bodies += 1
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()


def run(folder: Path, seconds: float, pairs: int) -> Cost:
    """Start both, measure in turn, stop both."""
    with downstream() as port:
        return uvloop.run(_run(folder, port, seconds, pairs))


async def _run(folder: Path, port: int, seconds: float, pairs: int) -> Cost:
    receiver = Receiver()
    collector = await asyncio.start_server(receiver.take, "127.0.0.1", 0)
    otlp = f"http://127.0.0.1:{collector.sockets[0].getsockname()[1]}/v1/traces"
    traced = {"COUNTERSIGN_OTLP_URL": otlp, "COUNTERSIGN_TRACE_RATIO": "0.01"}
    untraced = {"COUNTERSIGN_OTLP_URL": ""}
    unmeasured = str(Path(__file__).parent / "unmeasured.py")
    try:
        async with (
            _running(folder / WITHOUT, port, (unmeasured,), untraced) as (bare, bare_agent),
            _running(folder / WITH, port, ("-m", "countersign_cli"), traced) as (full, full_agent),
        ):
            scraping = asyncio.create_task(_scrape(full.metrics_urls()))
            turns: dict[str, list[Turn]] = {WITHOUT: [], WITH: []}
            both = {WITHOUT: (bare, bare_agent), WITH: (full, full_agent)}
            for system, agent in both.values():
                if (warm := await _turn(system, agent, 3.0)).failures:
                    sys.exit(f"{warm.failures} of {warm.actions} actions did not succeed: nothing can be measured")
            for pair in range(pairs):
                for name in (WITHOUT, WITH) if pair % 2 == 0 else (WITH, WITHOUT):
                    turns[name].append(await _turn(*both[name], seconds))
            scraping.cancel()
            pages = await asyncio.to_thread(_pages, full)
        return _cost(turns, receiver.bodies, pages)
    finally:
        collector.close()


@asynccontextmanager
async def _running(
    folder: Path, port: int, program: tuple[str, ...], environ: Mapping[str, str]
) -> AsyncIterator[tuple[System, Agent]]:
    await asyncio.to_thread(folder.mkdir)
    system = System(folder / "system", program, environ)
    try:
        await asyncio.to_thread(system.start)
        creds, _ = await asyncio.to_thread(prepare, system, folder, port)
        async with Agent.nats(system.nats_url, creds) as agent:
            yield system, agent
    finally:
        await asyncio.to_thread(system.stop)


async def _turn(system: System, agent: Agent, seconds: float) -> Turn:
    """A closed loop over NATS; what was begun is waited for and counts."""
    actions = failures = 0
    cpu, began = cpu_seconds(family(system.pid)), time.perf_counter()
    end = began + seconds

    async def caller() -> None:
        nonlocal actions, failures
        while time.perf_counter() < end:
            outcome = await agent.call("ping", {"thing_id": 7}, env="prod", wait_s=30)
            actions += 1
            failures += outcome.state != "succeeded"

    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return Turn(actions, failures, time.perf_counter() - began, cpu_seconds(family(system.pid)) - cpu)


async def _scrape(urls: Mapping[str, str]) -> None:
    while True:
        for url in urls.values():
            await asyncio.to_thread(_page, url)
        await asyncio.sleep(SCRAPE_S)


def _pages(system: System) -> dict[str, dict[str, float]]:
    """How long each service's page takes, what of it the service computes, and how large it is."""
    found = {}
    for name, url in system.metrics_urls().items():
        times, size = [], 0
        cpu = cpu_seconds([system.pids()[name]])
        for _ in range(PAGES):
            began = time.perf_counter()
            size = _page(url)
            times.append(1000 * (time.perf_counter() - began))
        found[name] = {
            "p50": round(statistics.median(times), 1),
            "most": round(max(times), 1),
            "cpu": round(1000 * (cpu_seconds([system.pids()[name]]) - cpu) / PAGES, 1),
            "kib": round(size / 1024, 1),
        }
    return found


def _page(url: str) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, headers=_OPENMETRICS), timeout=30) as answer:  # noqa: S310
        return len(answer.read())


def _cost(turns: Mapping[str, list[Turn]], spans_sent: int, pages: dict[str, dict[str, float]]) -> Cost:
    pairs = list(zip(turns[WITHOUT], turns[WITH], strict=True))
    return Cost(
        per_second={name: round(statistics.median(t.per_second for t in each), 1) for name, each in turns.items()},
        cpu_ms={name: round(statistics.median(t.cpu_ms for t in each), 3) for name, each in turns.items()},
        throughput_ratios=[round(full.per_second / bare.per_second, 3) for bare, full in pairs],
        cpu_ratios=[round(full.cpu_ms / bare.cpu_ms, 3) for bare, full in pairs],
        failures=sum(turn.failures for each in turns.values() for turn in each),
        spans_sent=spans_sent,
        page_ms=pages,
    )


def show(console: Console, cost: Cost) -> None:
    """For people."""
    table = Table(box=None, header_style="bold")
    for column in ("metrics, traces at 1 %", "per second", "CPU ms an action"):
        table.add_column(column, justify="left" if column.startswith("metrics") else "right")
    for name in (WITHOUT, WITH):
        table.add_row(name, f"{cost.per_second[name]:.0f}", f"{cost.cpu_ms[name]:.2f}")
    console.print(table)
    console.print(
        f"with them, medians of {len(cost.cpu_ratios)} pairs: throughput {-100 * cost.throughput_lost:+.1f} % (goal:"
        f" -10 % at most), processor time {100 * cost.cpu_more:+.1f} % ({100 * (min(cost.cpu_ratios) - 1):+.1f} to"
        f" {100 * (max(cost.cpu_ratios) - 1):+.1f} % in single pairs); {cost.spans_sent} bodies of spans were sent"
    )
    name, slowest = max(cost.page_ms.items(), key=lambda each: each[1]["p50"])
    console.print(
        f"/metrics: {name}'s page takes longest, p50 {slowest['p50']} ms, of which {slowest['cpu']} ms are its"
        f" processor time; at most {max(page['most'] for page in cost.page_ms.values())} ms of all (goal 50 ms)"
    )


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of each turn")
    parser.add_argument("--pairs", type=int, default=6, help="turns with and without")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="countersign-telemetry-") as folder:
        cost = run(Path(folder), options.seconds, options.pairs)
    show(Console(highlight=False, width=110), cost)
    check(cost)


def check(cost: Cost) -> None:
    """Figures of a run that did not do what it says do not count."""
    if cost.failures or not cost.spans_sent:
        sys.exit(f"{cost.failures} actions did not succeed, {cost.spans_sent} bodies of spans came: no figures")


if __name__ == "__main__":
    main()
