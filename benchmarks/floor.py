"""The floor: three plain nats-py JetStream hops, a process each, on a plain nats-server. Nothing is decided or kept.

Each hop consumes from one stream, publishes to the next (awaiting the PubAck) and acks; the last answers the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from pathlib import Path

import nats
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

from countersign_cli.embedded.nats import EmbeddedNats
from load import Result, measure

HOPS = 3


def config(folder: Path) -> Path:
    """A plain server: no accounts, file storage."""
    path = folder / "floor.conf"
    path.write_text(
        f'host: "127.0.0.1"\nport: -1\nports_file_dir: "{folder}"\njetstream: {{ store_dir: "{folder}/store" }}\n'
    )
    return path


async def _hop(url: str, number: int, ready: multiprocessing.synchronize.Event) -> None:
    client = await nats.connect(url)
    js = client.jetstream()

    async def handle(msg: Msg) -> None:
        if number == HOPS - 1:
            await client.publish((msg.headers or {})["answer"], msg.data)
        else:
            await js.publish(f"floor.{number + 1}", msg.data, headers=msg.headers)
        await msg.ack()

    running: set[asyncio.Task[None]] = set()

    async def receive(msg: Msg) -> None:
        task = asyncio.create_task(handle(msg))
        running.add(task)
        task.add_done_callback(running.discard)

    await js.subscribe(f"floor.{number}", queue=f"hop{number}", durable=f"hop{number}", cb=receive, manual_ack=True)
    ready.set()
    await asyncio.Event().wait()


def _run_hop(url: str, number: int, ready: multiprocessing.synchronize.Event) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_hop(url, number, ready))


async def _load(url: str, concurrencies: tuple[int, ...], seconds: float) -> list[Result]:
    client: Client = await nats.connect(url)
    js = client.jetstream()
    waiting: dict[str, asyncio.Future[None]] = {}
    inbox = client.new_inbox()

    async def answered(msg: Msg) -> None:
        future = waiting.pop(msg.data.decode(), None)
        if future is not None:
            future.set_result(None)

    await client.subscribe(inbox, cb=answered)
    counter = 0

    async def once() -> bool:
        nonlocal counter
        counter += 1
        key = str(counter)
        future = waiting[key] = asyncio.get_running_loop().create_future()
        await js.publish("floor.0", key.encode(), headers={"answer": inbox})
        await future
        return True

    results = [await measure("floor", c, once, seconds) for c in concurrencies]
    await client.close()
    return results


def run(folder: Path, concurrencies: tuple[int, ...], seconds: float) -> list[Result]:
    """Measure the floor."""
    server = EmbeddedNats(config(folder), folder)
    server.start()
    try:
        url = server.url()
        assert url is not None  # noqa: S101
        uvloop.run(_streams(url))
        context = multiprocessing.get_context("spawn")
        ready = [context.Event() for _ in range(HOPS)]
        hops = [context.Process(target=_run_hop, args=(url, n, ready[n]), daemon=True) for n in range(HOPS)]
        for hop in hops:
            hop.start()
        for event in ready:
            event.wait(20)
        try:
            return uvloop.run(_load(url, concurrencies, seconds))
        finally:
            for hop in hops:
                hop.kill()
                hop.join()
    finally:
        server.stop()


async def _streams(url: str) -> None:
    client = await nats.connect(url)
    for number in range(HOPS):
        await client.jetstream().add_stream(name=f"FLOOR{number}", subjects=[f"floor.{number}"])
    await client.close()
