"""Race stops against calls: `.venv/bin/python tests/faults/stop_latency.py --races 1000`; exit code 1 with a breach."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "harness"))

from countersign_faults.downstream import CountingDownstream
from countersign_faults.stop_races import Race, Races, breaches
from countersign_faults.system import System

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "stop_latency.json"


def main() -> None:
    """Run the races, print the figures, write them; exit code 1 if a call started after an acknowledgement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--races", type=int, default=1000)
    parser.add_argument("--executors", type=int, default=1, help="replicas of the executor")
    parser.add_argument("--at-once", type=int, default=4, help="races that run together")
    parser.add_argument("--kill-every", type=float, default=0, metavar="S", help="kill nats-server so often; 0: never")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("nats").setLevel(logging.CRITICAL)
    races, seconds, kills = asyncio.run(run(options))
    found = breaches(races)
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "executors": options.executors,
        "races_at_once": options.at_once,
        "nats_kills": kills,
        "seconds": round(seconds, 1),
    } | figures(races)
    for key, value in document.items():
        print(f"{key.replace('_', ' ')}: {value}")
    RESULTS.parent.mkdir(exist_ok=True)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    name = f"{options.executors} executor(s)" + (", nats-server killed" if options.kill_every else "")
    RESULTS.write_text(json.dumps(known | {name: document}, indent=1) + "\n")
    if found:
        sys.exit("\n".join(found))
    print("no call started after its order's acknowledgement")


async def run(options: argparse.Namespace) -> tuple[list[Race], float, int]:
    """The races, how long they took, and how often nats-server was killed."""
    replicas = f"executor={options.executors}"
    with tempfile.TemporaryDirectory(prefix="countersign-stops-") as folder:
        async with CountingDownstream() as downstream, System(Path(folder) / "system", replicas=replicas) as system:
            runner = Races(
                system, downstream, options.seed, at_once=options.at_once, kill_every_s=options.kill_every or None
            )
            began = time.monotonic()
            races = await runner.run(options.races, print)
            return races, time.monotonic() - began, runner.kills


def figures(races: Sequence[Race]) -> dict[str, Any]:
    """The run in numbers; milliseconds."""
    late = sorted(race.late_s for race in races if race.late_s is not None)
    return {
        "races": len(races),
        "calls_started": sum(len(race.started) for race in races),
        "orders_not_acknowledged_and_given_again": sum(race.unanswered for race in races),
        "order_to_acknowledgement_ms": spread([race.acknowledged_at - race.ordered_at for race in races]),
        "last_start_after_acknowledgement_ms": spread(late),
        "started_after_acknowledgement": sum(value > 0 for value in late),
        "arrived_after_acknowledgement": sum(
            arrived > race.acknowledged_at for race in races for arrived in race.arrived
        ),
    }


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum, in milliseconds."""
    known = sorted(seconds)
    at = {"p50": len(known) // 2, "p99": int(len(known) * 0.99), "max": len(known) - 1}
    return {name: round(known[index] * 1000, 2) for name, index in at.items()}


if __name__ == "__main__":
    main()
