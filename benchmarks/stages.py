"""Where an action's time goes: processor time and wakings of each process, and the way of an action alone.

    .venv/bin/python benchmarks/stages.py --seconds 8

Linux. Processor time is the scheduler's own accounting; a waking follows each time that a thread gave up its core to
wait.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from countersign_sdk import Agent
from governed import System, downstream, prepare
from load import WARM_UP_S, Result, measure
from processes import cpu_seconds, family, woken

#: Processor time in ms, and how often it was woken.
Use = dict[str, tuple[float, float]]


def used(system: System) -> Use:
    """Of every process of the system, and of the load's client."""
    found: Use = {}
    for name, pid in (system.pids() | {"client": os.getpid()}).items():
        pids = family(pid) if name == "postgres" else {pid}
        found[name] = (cpu_seconds(pids) * 1000, woken(pids))
    return found


async def loaded(system: System, creds: Path, in_flight: int, seconds: float) -> tuple[Result, Use]:
    """What was done, and what each process used for one action."""
    async with Agent.nats(system.nats_url, creds) as agent:

        async def once() -> bool:
            return (await agent.call("ping", {"thing_id": 7}, env="prod", wait_s=20)).state == "succeeded"

        await measure("warming up", in_flight, once, 0.5)
        before = used(system)
        result = await measure("NATS", in_flight, once, seconds)
        after = used(system)
    count = result.count * (seconds + WARM_UP_S) / seconds  # the measurement's own warm-up was used for, too
    return result, {
        name: ((after[name][0] - ms) / count, (after[name][1] - waits) / count) for name, (ms, waits) in before.items()
    }


def way(system: System) -> list[tuple[str, float]]:
    """The stages of the ledger's last actions, in ms from the gateway's signature: the median of each."""
    token = (system.folder / "admin.token").read_text().strip()
    export = subprocess.run(
        [sys.executable, "-m", "countersign_cli", "audit", "export"],
        env={**os.environ, "COUNTERSIGN_URL": system.url, "COUNTERSIGN_TOKEN": token},
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    entries: dict[str, dict[str, Any]] = defaultdict(dict)
    for line in export.splitlines():
        entry = json.loads(line)
        entry = entry.get("entry", entry)
        if "subject" in entry and entry["type"].startswith("countersign.actions."):
            entries[entry["subject"]][entry["type"].split(".")[2]] = entry
    taken = [each for each in entries.values() if {"requested", "granted", "executed"} <= each.keys()]
    rows = []
    for each in taken[len(taken) // 4 :]:
        execution = json.loads(base64.b64decode(each["executed"]["body"]))["execution"]
        moments = (
            each["requested"]["time"],
            each["granted"]["time"],
            each["granted"]["recorded_at"],
            execution["started_at"],
            execution["finished_at"],
            each["executed"]["time"],
        )
        first, *rest = (datetime.fromisoformat(moment).timestamp() * 1000 for moment in moments)
        rows.append([moment - first for moment in rest])
    stages = (
        "policy signs the grant",
        "audit seals it",
        "the call starts",
        "the call ends",
        "the executor signs the end",
    )
    return [(stage, statistics.median(row[i] for row in rows)) for i, stage in enumerate(stages)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="countersign-stages-") as name:
        folder = Path(name)
        system = System(folder / "system")
        with downstream() as port:
            try:
                system.start()
                creds, _ = prepare(system, folder, port)
                alone, of_one = uvloop.run(loaded(system, creds, 1, seconds))
                stages = way(system)
                many, of_many = uvloop.run(loaded(system, creds, 128, seconds))
            finally:
                system.stop()
    table = Table("", "alone, ms", "woken, alone", "at 128 in flight, ms", box=None)
    for process, (ms, waits) in sorted(of_one.items(), key=lambda each: -each[1][0]):
        table.add_row(process, f"{ms:.2f}", f"{waits:.1f}", f"{of_many[process][0]:.3f}")
    sums = [sum(ms for ms, _ in of_one.values()), sum(waits for _, waits in of_one.values())]
    table.add_row("all", f"{sums[0]:.2f}", f"{sums[1]:.1f}", f"{sum(ms for ms, _ in of_many.values()):.3f}")
    console = Console()
    console.print("processor time of an action")
    console.print(table)
    console.print(f"alone p50 {alone.p50_ms} ms; at 128 in flight {many.per_second:.0f}/s")
    console.print("the way of an action alone, ms after the gateway signed its request")
    for stage, ms in stages:
        console.print(f"  {ms:5.1f}  {stage}")


if __name__ == "__main__":
    main()
