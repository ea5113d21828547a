"""Versions against each other: a system of each, side by side on one machine, under the same load in turns.

    .venv/bin/python benchmarks/turns.py ../before . --starts 5 --turns 10

Each is a checkout with an environment of its own (`make setup`), which this program runs it in. What the machine's
neighbours do from minute to minute falls on all of them, so that differences show which single runs, an hour apart, are
too coarse for. A system is as quick as its processes happened to start, some percent more or less, whatever its
version: so each is started several times. Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import uvloop
from rich.console import Console
from rich.table import Table

from countersign_sdk import Agent
from governed import System, downstream, prepare
from stages import used

Turn = dict[str, float]


class Running:
    """A system of a checkout, as a process that takes turns when it is told to."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self._process = subprocess.Popen(
            [checkout / ".venv/bin/python", Path(__file__).resolve(), "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> None:
        """Wait until it takes turns."""
        self._answer()

    def turn(self, in_flight: int, seconds: float) -> Turn:
        """One turn; what was measured."""
        self._pipe(self._process.stdin).write(f"{in_flight} {seconds}\n")
        self._pipe(self._process.stdin).flush()
        found: Turn = self._answer()
        return found

    def stop(self) -> None:
        """Stop the system."""
        self._pipe(self._process.stdin).close()
        self._process.wait(60)

    def _answer(self) -> Any:
        if not (line := self._pipe(self._process.stdout).readline()):
            raise SystemExit(f"the system of {self.checkout} ended; see above")
        return json.loads(line)

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None  # noqa: S101
        return pipe


def serve() -> None:
    """Run a system of the checkout whose interpreter this is."""
    with tempfile.TemporaryDirectory(prefix="countersign-turns-") as name, downstream() as port:
        system = System(Path(name) / "system")
        try:
            system.start()
            creds, _ = prepare(system, Path(name), port)
            uvloop.run(_take_turns(system, creds))
        finally:
            system.stop()


async def _take_turns(system: System, creds: Path) -> None:
    async with Agent.nats(system.nats_url, creds) as agent:
        print("{}", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            in_flight, seconds = line.split()
            times: list[float] = []
            before, began = used(system), time.perf_counter()

            async def caller(end: float, times: list[float] = times) -> None:
                while (start := time.perf_counter()) < end:
                    outcome = await agent.call("ping", {"thing_id": 7}, env="prod", wait_s=20)
                    if outcome.state != "succeeded":
                        raise SystemExit(f"an action came out as {outcome.state}: {outcome.reason}")
                    times.append(time.perf_counter() - start)

            await asyncio.gather(*(caller(began + float(seconds)) for _ in range(int(in_flight))))
            took, after = time.perf_counter() - began, used(system)
            cpu_ms = sum(ms - before[name][0] for name, (ms, _) in after.items())
            turn = {
                "p50 ms": statistics.median(times) * 1000,
                "mean ms": statistics.fmean(times) * 1000,
                "per second": len(times) / took,
                "processor ms": cpu_ms / len(times),
            }
            print(json.dumps(turn), flush=True)


def started(checkouts: Sequence[Path], turns: int, in_flight: int, seconds: float) -> list[Turn]:
    """Start them all, take turns, stop them; the medians of each."""
    running = [Running(checkout) for checkout in checkouts]
    taken: list[list[Turn]] = [[] for _ in running]
    try:
        for each in running:
            each.ready()
            each.turn(in_flight, 2 * seconds)  # warming up
        for number in range(turns):
            for place, each in list(enumerate(running))[:: 1 if number % 2 else -1]:
                taken[place].append(each.turn(in_flight, seconds))
    finally:
        for each in running:
            each.stop()
    return [{what: statistics.median(turn[what] for turn in of_one) for what in of_one[0]} for of_one in taken]


def show(checkouts: Sequence[Path], starts: Sequence[Sequence[Turn]]) -> None:
    """The means of the starts, and of their differences to the first, with the standard error."""
    measures = list(starts[0][0])
    table = Table("", *measures, box=None)
    for place, checkout in enumerate(checkouts):
        means = (statistics.fmean(start[place][what] for start in starts) for what in measures)
        table.add_row(checkout.name, *(f"{mean:.2f}" for mean in means))
    for place, checkout in list(enumerate(checkouts))[1:]:
        cells = []
        for what in measures:
            by = [start[place][what] - start[0][what] for start in starts]
            cells.append(f"{statistics.fmean(by):+.2f} ± {statistics.stdev(by) / len(by) ** 0.5:.2f}")
        table.add_row(f"{checkout.name}, to the first", *cells)
    Console().print(table)


def main() -> None:
    """Take turns and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", nargs="*", type=Path, help="each with its environment; the first is compared with")
    parser.add_argument("--starts", type=int, default=5, help="of each")
    parser.add_argument("--turns", type=int, default=10, help="of each start")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a turn")
    parser.add_argument("--in-flight", type=int, default=1)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve()
        return
    if len(asked.checkouts) < 2 or asked.starts < 2:
        parser.error("it takes two checkouts and two starts at least")
    checkouts = [checkout.resolve() for checkout in asked.checkouts]
    starts = []
    for number in range(asked.starts):
        starts.append(started(checkouts, asked.turns, asked.in_flight, asked.seconds))
        print(
            f"start {number + 1} of {asked.starts}: p50 {[round(each['p50 ms'], 2) for each in starts[-1]]} ms",
            flush=True,
        )
    show(checkouts, starts)


if __name__ == "__main__":
    main()
