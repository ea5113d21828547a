"""Ten thousand agents that say that they live, over real NATS: what it costs the registry, and how fast the list is.

Registered as people would, by declared files; their heartbeats come evenly spread over the interval.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import nats
import uvloop

from countersign_cli.bootstrap import Layout
from countersign_cli.embedded.datadir import DataDir
from countersign_contracts import subjects
from governed import PROFILE, System, cpu_seconds

_TOOL = """
kind: tool
name: ping
effect: read
arguments: {type: object, additionalProperties: false, properties: {}}
http: {method: GET, url: "http://127.0.0.1:9/ping", allow_private: true}
"""
_AGENT = """
kind: agent
agent_id: fleet-{n}
name: Agent {n}
owner: {{team: team-{team}}}
profile: bench
environments: [prod]
heartbeat_s: {interval}
"""
_A_FILE = 1000


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--interval", type=int, default=30, help="seconds between two heartbeats of an agent")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds measured, after all have been heard once")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="countersign-fleet-"))
    system = System(folder / "system")
    try:
        system.start()
        began = time.perf_counter()
        declare(system, options.agents, options.interval)
        print(f"{options.agents} agents declared in {time.perf_counter() - began:.1f} s", flush=True)
        uvloop.run(_measure(system, options))
    finally:
        system.stop()
        shutil.rmtree(folder, ignore_errors=True)


def declare(system: System, agents: int, interval: int) -> None:
    """Register so many agents by files."""
    admin = system.admin()
    texts = {"ping.yaml": _TOOL, "bench.yaml": PROFILE}
    _apply(admin, texts)
    for first in range(0, agents, _A_FILE):
        numbers = range(first, min(first + _A_FILE, agents))
        texts = {"agents.yaml": "---".join(_AGENT.format(n=n, team=n % 50, interval=interval) for n in numbers)}
        _apply(admin, texts)


def _apply(admin: Any, texts: dict[str, str]) -> None:
    documents = [{"path": path, "text": text} for path, text in texts.items()]
    applied = admin.post("/api/v1/apply", {"documents": documents, "dry_run": False}, timeout_s=120)
    if applied["errors"]:
        raise SystemExit(str(applied["errors"][:3]))


async def _measure(system: System, options: argparse.Namespace) -> None:
    # the gateway forwards the heartbeats that come over HTTP, so its user may speak for every agent
    creds = Layout(system.folder).creds("gateway-agents")
    client = await nats.connect(system.nats_url, user_credentials=str(creds), inbox_prefix=subjects.inbox("gateway"))
    over = asyncio.Event()
    beating = asyncio.create_task(beat(client, options.agents, options.interval, over))
    admin = system.admin()
    await asyncio.sleep(options.interval + 5)
    running = await asyncio.to_thread(_phases, admin)
    run = DataDir(system.folder).read_run()
    pids = dict(run.pids) if run else {}
    before, began = cpu_seconds(pids), time.perf_counter()
    await asyncio.sleep(options.seconds)
    after, took = cpu_seconds(pids), time.perf_counter() - began
    times = await asyncio.to_thread(_lists, admin)
    over.set()
    await beating
    await client.close()
    print(f"running: {running}")
    for name in ("registry", "nats", "postgres"):
        if name in before:
            print(f"{name}: {100 * (after[name] - before[name]) / took:.1f} % of a core")
    for what, found in times.items():
        found.sort()
        print(f"{what}: p50 {found[len(found) // 2]:.0f} ms, p99 {found[int(len(found) * 0.99)]:.0f} ms")


async def beat(client: Any, agents: int, interval: int, over: asyncio.Event) -> None:
    """Say for each of them that it lives, evenly spread over the interval, until ``over``."""
    began, sent = time.perf_counter(), 0
    while not over.is_set():
        due = int((time.perf_counter() - began) * agents / interval)
        for n in range(sent, due):
            await client.publish(subjects.agent(f"fleet-{n % agents}", "heartbeat"), b'{"status":"healthy"}')
        sent = max(sent, due)
        await asyncio.sleep(0.01)


def _phases(admin: Any) -> str:
    page = admin.get("/api/v1/agents", {"phase": "running", "limit": 1})
    registered = admin.get("/api/v1/agents", {"phase": "registered", "limit": 1})
    return f"{'some' if page['items'] else 'none'}; not heard of: {'some' if registered['items'] else 'none'}"


def _lists(admin: Any) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"list, first page of 100": [], "list, one team, running": []}
    for n in range(200):
        for what, query in zip(
            found, ({"limit": 100}, {"limit": 100, "team": f"team-{n % 50}", "phase": "running"}), strict=True
        ):
            began = time.perf_counter()
            admin.get("/api/v1/agents", query)
            found[what].append(1000 * (time.perf_counter() - began))
    return found


if __name__ == "__main__":
    main()
