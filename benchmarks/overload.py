"""Twice as much as the system carries: what is accepted, what is refused, and how long the accepted take.

First a closed loop finds what it carries; then requests come at a multiple of that, whatever becomes of them. Unlike
in the SDK nothing is tried again here, so that what was refused shows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import nats
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

from countersign_cli.embedded.datadir import DataDir, write_secret
from countersign_contracts import subjects
from countersign_contracts.actions import FINAL_STATES
from countersign_contracts.ids import new_id
from governed import AGENT, PROFILE, TOOL, System, downstream
from load import measure

_AGENTS = ("bench-1", "bench-2", "bench-3", "bench-4")
_WAIT_S = 60.0
_TICK_S = 0.01


@dataclass
class Seen:
    """What became of the requests."""

    offered: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    most_open: int = 0
    drained_s: float = 0.0

    def percentile(self, share: float) -> float:
        """Milliseconds."""
        times = sorted(self.times)
        return 1000 * times[min(len(times) - 1, int(len(times) * share))] if times else 0.0


class Line:
    """One agent's connection, without the SDK's repeats."""

    def __init__(self, agent_id: str, client: Client, seen: Seen) -> None:
        self._id, self._client, self._seen = agent_id, client, seen
        self._accepted_at: dict[str, float] = {}

    @classmethod
    async def open(cls, url: str, agent_id: str, creds: Path, seen: Seen) -> Line:
        """Connect, and listen for results."""
        inbox = subjects.inbox(agent_id)
        client = await nats.connect(url, user_credentials=str(creds), inbox_prefix=inbox, pending_size=64 * 1024 * 1024)
        line = cls(agent_id, client, seen)
        await client.subscribe(f"{subjects.agent(agent_id, 'results')}.>", cb=line.told)
        return line

    async def close(self) -> None:
        """Disconnect."""
        await self._client.close()

    def _body(self, **more: object) -> bytes:
        return json.dumps(
            {"request_id": new_id(), "tool": "ping", "args": {"thing_id": 7}, "env": "prod"} | more
        ).encode()

    async def call(self) -> bool:
        """Ask and wait for the outcome; whether it succeeded."""
        began = time.perf_counter()
        self._seen.offered += 1
        try:
            subject = subjects.agent(self._id, "call")
            reply = await self._client.request(subject, self._body(wait_s=_WAIT_S), timeout=_WAIT_S + 5)
        except (TimeoutError, nats.errors.Error) as error:
            self._seen.states[f"no answer ({type(error).__name__})"] += 1
            return False
        answer = json.loads(reply.data)
        if problem := answer.get("problem"):
            self._seen.refused[problem["type"].rsplit(":", 1)[1]] += 1
            return False
        self._seen.states[answer["state"]] += 1
        self._seen.times.append(time.perf_counter() - began)
        return bool(answer["state"] == "succeeded")

    async def queue(self) -> bool:
        """Put it into the stream; what becomes of it is heard later."""
        self._seen.offered += 1
        try:
            ack = await self._client.request(subjects.agent(self._id, "actions"), self._body(), timeout=_WAIT_S)
        except (TimeoutError, nats.errors.Error) as error:
            self._seen.states[f"no answer ({type(error).__name__})"] += 1
            return False
        if "error" in json.loads(ack.data):
            self._seen.refused["the stream"] += 1
            return False
        return True

    async def told(self, msg: Msg) -> None:
        """A result: the time counts from `accepted` to the end."""
        answer = json.loads(msg.data)
        if problem := answer.get("problem"):
            self._seen.refused[problem["type"].rsplit(":", 1)[1]] += 1
        elif answer["state"] == "accepted":
            self._accepted_at[answer["request_id"]] = time.perf_counter()
        elif answer["state"] in FINAL_STATES:
            self._seen.states[answer["state"]] += 1
            if began := self._accepted_at.pop(answer["request_id"], None):
                self._seen.times.append(time.perf_counter() - began)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of overload")
    parser.add_argument("--times", type=float, default=2.0, help="how many times what the system carries")
    parser.add_argument("--form", choices=("call", "queue"), default="call", help="request-reply, or the queue")
    parser.add_argument("--unbounded", action="store_true", help="with the bounds out of reach, to compare")
    options = parser.parse_args()
    if options.unbounded:
        os.environ |= dict.fromkeys(("COUNTERSIGN_MAX_OPEN", "COUNTERSIGN_MAX_OPEN_PER_AGENT"), "1000000")
        os.environ["COUNTERSIGN_MAX_WAITING"] = "1000000"
    folder = Path(tempfile.mkdtemp(prefix="countersign-overload-"))
    system = System(folder / "system")
    try:
        with downstream() as port:
            try:
                system.start()
                creds = _prepare(system, folder, port)
                carries, seen = uvloop.run(_overload(system, creds, options))
            finally:
                system.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _print(carries, seen, options)
    if seen.states.total() != seen.states["succeeded"]:
        sys.exit("some that were accepted did not succeed")


def _prepare(system: System, folder: Path, port: int) -> dict[str, Path]:
    admin = system.admin()
    agents = "---".join(AGENT.replace("bench-agent", agent_id) for agent_id in _AGENTS)
    texts = {"ping.yaml": TOOL.replace("PORT", str(port)), "bench.yaml": PROFILE, "agents.yaml": agents}
    documents = [{"path": path, "text": text} for path, text in texts.items()]
    applied = admin.post("/api/v1/apply", {"documents": documents, "dry_run": False})
    if applied["errors"]:
        raise SystemExit(json.dumps(applied["errors"], indent=1))
    files = {}
    for agent_id in _AGENTS:
        files[agent_id] = folder / f"{agent_id}.creds"
        issued = admin.post(f"/api/v1/agents/{agent_id}/credentials", {"kinds": ["nats"]})
        write_secret(files[agent_id], issued["nats_creds"])
    return files


async def _overload(system: System, creds: dict[str, Path], options: argparse.Namespace) -> tuple[float, Seen]:
    warm = Seen()
    first = await Line.open(system.nats_url, _AGENTS[0], creds[_AGENTS[0]], warm)
    carries = (await measure("carries", 128, first.call, 6.0)).per_second
    await first.close()

    seen = Seen()
    lines = [await Line.open(system.nats_url, agent_id, path, seen) for agent_id, path in creds.items()]
    asks = [getattr(line, options.form) for line in lines]
    accepted_before, ended_before = _counted(system)
    tasks: set[asyncio.Task[bool]] = set()
    sent, began = 0, time.perf_counter()
    watching = asyncio.create_task(_watch(system, seen))
    while (elapsed := time.perf_counter() - began) < options.seconds:
        due = int(elapsed * carries * options.times)
        for n in range(sent, due):
            task = asyncio.create_task(asks[n % len(asks)]())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        sent = max(sent, due)
        await asyncio.sleep(_TICK_S)
    ended_load = time.perf_counter()
    if tasks:
        await asyncio.wait(tasks)
    while True:  # until all that was accepted has ended, and what was queued was taken
        accepted, ended = _counted(system)
        accepted, ended = accepted - accepted_before, ended - ended_before
        queued = seen.offered - seen.refused.total() if options.form == "queue" else 0
        if accepted == ended and accepted >= queued and seen.states.total() >= accepted:
            break
        await asyncio.sleep(0.1)
    seen.drained_s = time.perf_counter() - ended_load
    watching.cancel()
    for line in lines:
        await line.close()
    return carries, seen


async def _watch(system: System, seen: Seen) -> None:
    while True:
        text = await asyncio.to_thread(_metrics, system)
        seen.most_open = max(seen.most_open, int(_sum(text, "countersign_actions_open{")))
        await asyncio.sleep(0.5)


def _metrics(system: System) -> str:
    run = DataDir(system.folder).read_run()
    port = run.ports["gateway"] if run else 0
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def _counted(system: System) -> tuple[int, int]:
    text = _metrics(system)
    return int(_sum(text, "countersign_actions_accepted_total{")), int(_sum(text, "countersign_actions_ended_total{"))


def _sum(text: str, name: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{re.escape(name)}.* (\S+)$", text, re.MULTILINE))


def _print(carries: float, seen: Seen, options: argparse.Namespace) -> None:
    taken = seen.offered - seen.refused.total()
    bounds = "out of reach" if options.unbounded else "as they are"
    rows = {
        "form, bounds": f"{options.form}, {bounds}",
        "carries (closed loop, 128)": f"{carries:.0f}/s",
        "offered": f"{seen.offered} in {options.seconds:g} s ({seen.offered / options.seconds:.0f}/s)",
        "taken": str(taken),
        "refused": ", ".join(f"{code}: {n}" for code, n in sorted(seen.refused.items())) or "none",
        "ended": ", ".join(f"{state}: {n}" for state, n in sorted(seen.states.items())),
        "open at most": str(seen.most_open),
        "p50 of the accepted": f"{seen.percentile(0.5):.0f} ms",
        "p99 of the accepted": f"{seen.percentile(0.99):.0f} ms",
        "all ended after": f"{seen.drained_s:.1f} s",
    }
    for name, value in rows.items():
        sys.stdout.write(f"{name:<28}{value}\n")


if __name__ == "__main__":
    main()
