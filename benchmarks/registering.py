"""Agents that register themselves with a token and their own key: one after the other, and a thousand at once.

Over NATS with a bootstrap credential, and over HTTP at the gateway, against the whole system in its own processes.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import aiohttp
import nats
import orjson
import uvloop

from countersign_chassis.natsauth import KeyPair
from countersign_cli.embedded.datadir import DataDir
from countersign_contracts import subjects
from countersign_contracts.enrolment import registration_text, token_sha256
from governed import System, cpu_seconds

TOKEN = {"agent_type": "bench", "owner": {"team": "bench"}, "profile": "bench", "environments": ["dev"]}


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alone", type=int, default=300, help="registrations one after the other, over each way")
    parser.add_argument("--at-once", type=int, default=1000)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="countersign-registering-"))
    system = System(folder / "system")
    try:
        system.start()
        issued = system.admin().post("/api/v1/agents/tokens", TOKEN | {"uses": 10_000})
        creds = folder / "bootstrap.creds"
        creds.write_text(issued["nats_creds"])
        uvloop.run(_measure(system, issued, creds, options))
    finally:
        system.stop()
        shutil.rmtree(folder, ignore_errors=True)


def said(secret: str, pair: KeyPair | None = None) -> bytes:
    """What an agent sends that registers with that token and its own key."""
    pair = pair or KeyPair.generate("user")
    text = registration_text("bench", "Bench", "1.0", pair.public, token_sha256(secret))
    signature = urlsafe_b64encode(pair.sign(text)).rstrip(b"=").decode()
    body = {"agent_name": "Bench", "agent_version": "1.0", "agent_type": "bench", "discovery_token": secret}
    return orjson.dumps(body | {"nkey": pair.public, "signature": signature})


async def _measure(system: System, issued: Any, creds: Path, options: argparse.Namespace) -> None:
    inbox = subjects.bootstrap_inbox(issued["token"]["token_id"])
    door = await nats.connect(system.nats_url, user_credentials=str(creds), inbox_prefix=inbox)
    secret = issued["secret"]

    async def over_nats(body: bytes) -> float:
        began = time.perf_counter()
        reply = orjson.loads((await door.request(subjects.REGISTER, body, timeout=60)).data)
        if "problem" in reply:
            raise SystemExit(str(reply))
        return 1000 * (time.perf_counter() - began)

    async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session:

        async def over_http(body: bytes) -> float:
            began = time.perf_counter()
            async with session.post(f"{system.url}/api/v1/agents", data=body) as answer:
                if answer.status != 201:
                    raise SystemExit(await answer.text())
                await answer.read()
            return 1000 * (time.perf_counter() - began)

        for what, register in (("over NATS", over_nats), ("over HTTP", over_http)):
            bodies = [said(secret) for _ in range(options.alone + 20)]
            times = sorted([await register(body) for body in bodies][20:])
            print(f"alone, {what}: p50 {_at(times, 0.5):.1f} ms, p99 {_at(times, 0.99):.1f} ms", flush=True)
        bodies = [said(secret) for _ in range(options.at_once)]
        run = DataDir(system.folder).read_run()
        pids = dict(run.pids) if run else {}
        before, began = cpu_seconds(pids), time.perf_counter()
        times = sorted(await asyncio.gather(*map(over_nats, bodies)))
        took = time.perf_counter() - began
        after = cpu_seconds(pids)
        print(f"{len(bodies)} at once, over NATS: {took:.2f} s, p99 {_at(times, 0.99):.0f} ms", flush=True)
        for name in ("registry", "postgres", "nats", "gateway"):
            if name in before:
                print(f"{name}: {1000 * (after[name] - before[name]) / len(bodies):.2f} ms of a core for each of these")
    await door.close()


def _at(times: list[float], share: float) -> float:
    return times[min(int(len(times) * share), len(times) - 1)]


if __name__ == "__main__":
    main()
