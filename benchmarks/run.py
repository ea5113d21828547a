"""`make bench`: the floor and governed actions side by side, a table for people and JSON in results/latest.json.

Absolute figures depend on the machine and on its neighbours; the ratio to the floor of the same run is what to compare.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

import fleet_load
import floor
import governed
import telemetry
from load import Result

RESULTS = Path(__file__).parent / "results" / "latest.json"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds each figure is measured for")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 16, 128])
    parser.add_argument("--pairs", type=int, default=4, help="turns with and without metrics and traces")
    parser.add_argument("--agents", type=int, default=fleet_load.AGENTS, help="agents of the fleet part")
    options = parser.parse_args()
    concurrencies = tuple(options.in_flight)
    folder = Path(tempfile.mkdtemp(prefix="countersign-bench-"))
    console = Console(highlight=False, width=110)
    try:
        console.print("the floor: three plain JetStream hops …")
        (folder / "floor").mkdir()
        base = floor.run(folder / "floor", concurrencies, options.seconds)
        console.print("governed actions, over NATS and over HTTP …")
        measured = governed.run(folder, concurrencies, options.seconds)
        console.print("with and without metrics and traces …")
        (folder / "telemetry").mkdir()
        cost = telemetry.run(folder / "telemetry", options.seconds / 2, options.pairs)
        console.print(f"the fleet: {options.agents} agents …")
        fleet = fleet_load.run(folder, options.agents)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _print(console, base, measured)
    telemetry.show(console, cost)
    _print_fleet(console, fleet)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps(
            _document(base, measured, options.seconds) | {"telemetry": asdict(cost), "fleet": asdict(fleet)}, indent=1
        )
        + "\n"
    )
    console.print(f"written: {RESULTS.relative_to(Path.cwd()) if RESULTS.is_relative_to(Path.cwd()) else RESULTS}")
    if any(result.failures for result in measured.results):
        sys.exit("some governed actions did not succeed: the figures do not count")
    telemetry.check(cost)


def _floors(base: list[Result]) -> dict[int, Result]:
    return {result.in_flight: result for result in base}


def _print(console: Console, base: list[Result], measured: governed.Measured) -> None:
    table = Table(box=None, header_style="bold")
    for column in ("", "in flight", "p50 ms", "p99 ms", "per second", "p50 / floor", "throughput / floor", "failed"):
        table.add_column(column, justify="left" if column == "" else "right")
    floors = _floors(base)
    for result in [*base, *measured.results]:
        under = floors[result.in_flight]
        table.add_row(
            "floor" if result.name == "floor" else f"governed, {result.name}",
            str(result.in_flight),
            f"{result.p50_ms:.2f}",
            f"{result.p99_ms:.2f}",
            f"{result.per_second:.0f}",
            f"{result.p50_ms / under.p50_ms:.1f}" if under.p50_ms else "-",
            f"{result.per_second / under.per_second:.2f}" if under.per_second else "-",
            str(result.failures),
        )
    console.print(table)
    console.print(f"start-up: first {measured.start_first_s:.1f} s, again {measured.start_again_s:.1f} s")
    memory = Table(box=None, header_style="bold")
    for column in ("process", "RSS MiB", "PSS MiB"):
        memory.add_column(column, justify="left" if column == "process" else "right")
    for name, value in measured.memory_mib.items():
        memory.add_row(name, f"{value['rss']:.0f}", f"{value['pss']:.0f}")
    console.print(memory)


def _print_fleet(console: Console, fleet: fleet_load.Fleet) -> None:
    table = Table(box=None, header_style="bold")
    for column in ("fleet", "p50 ms", "p99 ms", "goal p99", "p50 / floor", "p99 / floor"):
        table.add_column(column, justify="left" if column == "fleet" else "right")
    for timed in [fleet.floor, *fleet.times]:
        table.add_row(
            timed.name,
            f"{timed.p50_ms:.2f}",
            f"{timed.p99_ms:.2f}",
            "" if timed.goal_ms is None else f"{timed.goal_ms:.0f}",
            f"{timed.p50_ms / fleet.floor.p50_ms:.1f}",
            f"{timed.p99_ms / fleet.floor.p99_ms:.1f}",
        )
    console.print(table)
    console.print(
        f"a configuration for {fleet.push_to_all_applied} agents at once: {fleet.push_to_all_s:.2f} s until all had"
        " applied it"
    )
    used = ", ".join(f"{name} {percent:.1f} %" for name, percent in fleet.cpu_percent.items())
    console.print(f"{fleet.agents + fleet.connected} agents that say that they live, of one core: {used}")
    console.print(f"load average of the machine meanwhile: {fleet.load_average}, on {os.cpu_count()} cores")


def _document(base: list[Result], measured: governed.Measured, seconds: float) -> dict[str, object]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "seconds_each": seconds,
        "floor": [asdict(r) | {"per_second": round(r.per_second, 1)} for r in base],
        "governed": [asdict(r) | {"per_second": round(r.per_second, 1)} for r in measured.results],
        "start_first_s": round(measured.start_first_s, 2),
        "start_again_s": round(measured.start_again_s, 2),
        "memory_mib": measured.memory_mib,
    }


if __name__ == "__main__":
    main()
