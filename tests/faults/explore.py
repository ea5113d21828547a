"""`make faults`: faults under traffic, or traffic alone, for long; a table, and JSON under benchmarks/results."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "harness"))

from countersign_faults.exploration import explore, suffer_all
from countersign_faults.faults import by_name
from countersign_faults.history import History
from countersign_faults.session import Outcome
from countersign_faults.soak import Memory, soak

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"

#: Seconds until an action succeeds after a kill -9. Missing one is shown, and is no breach of a promise.
GOALS = {"kill nats": 5.0, "kill postgres": 5.0, "kill": 2.0, "die": 2.0}


def main() -> None:
    """Run, print, write; exit code 1 with findings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long faults are injected for")
    parser.add_argument("--seed", type=int, default=int(datetime.now(UTC).strftime("%m%d%H%M")))
    parser.add_argument("--fault", action="append", help="only these, in turn; may be repeated")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="no faults: traffic, and the memory it takes")
    parser.add_argument("--keep", action="store_true", help="keep the data folder and the logs")
    options = parser.parse_args()
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # agents lose their connections: that is the point
    console = Console(highlight=False, width=140)
    again = f"SOAK={options.soak:.0f}" if options.soak else f"SECONDS={options.seconds:.0f}"
    console.print(f"seed {options.seed}; the same again: make faults {again} SEED={options.seed}")
    folder = Path(tempfile.mkdtemp(prefix="countersign-faults-"))
    memory, outcome = None, None
    given: dict[str, Any] = {"seed": options.seed, "seconds": options.soak or options.seconds, "say": console.print}
    try:
        if options.soak:
            outcome, memory = asyncio.run(soak(folder / "system", **given))
        elif options.fault:
            outcome = asyncio.run(suffer_all(folder / "system", by_name(options.fault), **given))
        else:
            outcome = asyncio.run(explore(folder / "system", **given))
    finally:
        if options.keep or outcome is None or outcome.findings:
            console.print(f"kept, with its logs: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    document = figures(outcome) | (memory_figures(memory) if memory else {})
    show(console, document)
    if not options.fault:
        file = RESULTS / ("soak.json" if memory else "faults.json")
        file.write_text(json.dumps(document, indent=1) + "\n")
        console.print(f"written: {file}")
    if outcome.findings:
        sys.exit(f"{len(outcome.findings)} finding(s) with seed {outcome.seed}")


def figures(outcome: Outcome) -> dict[str, Any]:
    """The run in numbers."""
    history = outcome.history
    document: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": [round(each, 1) for each in os.getloadavg()],
        "seed": outcome.seed,
        "seconds": outcome.seconds,
        "accepted": len({each.request_id for each in history.accepted} | history.states.keys()),
        "ended": dict(sorted(outcome.ended.items())),
        "until_all_ended_s": round(outcome.until_ended_s, 1),
        "calls_of_an_action_that_may_be_repeated": _spread(history, repeatable=True),
        "calls_of_an_action_that_may_not": _spread(history, repeatable=False),
        "ledger_entries": len(history.entries),
        "asked_in_vain": outcome.asked_in_vain,
        "findings": outcome.findings,
    }
    if outcome.recoveries:
        document |= {
            "faults": len(outcome.recoveries),
            "not_reached": outcome.not_reached,
            "store_wipes": history.wipes,
            "ends_lost_with_a_wiped_store": outcome.unrecorded_ends,
            "recovery": {name: _recovery(outcome, name) for name in sorted({r.fault for r in outcome.recoveries})},
        }
    return document


def _spread(history: History, *, repeatable: bool) -> dict[str, int]:
    """How many actions were called how often: of those of one kind that were called at all."""
    paths = tuple(tool.path for tool in history.tools.values() if tool.repeatable == repeatable)
    times = Counter(call.key for call in history.calls if call.path.startswith(paths))
    return {str(count): actions for count, actions in sorted(Counter(times.values()).items())}


def _recovery(outcome: Outcome, fault: str) -> dict[str, Any]:
    these = [recovery for recovery in outcome.recoveries if recovery.fault == fault]
    found: dict[str, Any] = {
        "times": len(these),
        "goal_s": GOALS.get(fault, GOALS.get(these[0].kind)) if fault != "kill everything" else None,
    }
    for what in ("until_action_s", "until_ready_s"):
        if known := [value for recovery in these if (value := getattr(recovery, what)) is not None]:
            found[what] = {
                "min": round(min(known), 2),
                "median": round(statistics.median(known), 2),
                "max": round(max(known), 2),
            }
    return found


def memory_figures(memory: Memory) -> dict[str, Any]:
    """Resident memory, in MiB."""
    found = {}
    for name, sizes in memory.resident.items():
        half = sizes[len(sizes) // 2]
        found[name] = {
            "first": round(sizes[0] / 1024, 1),
            "half_way": round(half / 1024, 1),
            "last": round(sizes[-1] / 1024, 1),
            "mib_an_hour_second_half": round(memory.slope(name), 1),
        }
    return {"memory": found}


def show(console: Console, document: dict[str, Any]) -> None:
    """The same for people."""
    if rows := document.get("recovery"):
        table = Table(box=None, header_style="bold")
        table.add_column("fault", no_wrap=True)
        for column in ("times", "action: min", "median", "max", "goal s", "ready: min", "median", "max"):
            table.add_column(column, justify="right", no_wrap=True)
        for name, row in rows.items():
            action, ready = (_three(row.get(what)) for what in ("until_action_s", "until_ready_s"))
            table.add_row(name, str(row["times"]), *action, str(row["goal_s"] or ""), *ready)
        console.print(table)
    if sizes := document.get("memory"):
        table = Table(box=None, header_style="bold")
        table.add_column("resident MiB")
        for column in ("first", "half way", "last", "an hour, by the second half"):
            table.add_column(column, justify="right")
        for name, row in sizes.items():
            table.add_row(name, *(str(value) for value in row.values()))
        console.print(table)
    for key, value in document.items():
        if key not in ("recovery", "memory", "findings"):
            console.print(f"{key.replace('_', ' ')}: {value}")
    console.print("findings: none" if not document["findings"] else "")
    for finding in document["findings"]:
        console.print(f"FINDING {finding}", markup=False)


def _three(found: dict[str, float] | None) -> list[str]:
    return [str(value) for value in found.values()] if found else ["never"] * 3


if __name__ == "__main__":
    main()
