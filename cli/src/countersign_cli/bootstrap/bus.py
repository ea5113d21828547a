"""Apply the topology: streams, consumers and buckets as contracts say, created or updated, never deleted.

Each stream carries the version that applied it last, so that an older one does not turn back what a newer one made.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import nats
import nats.errors
import orjson
from nats.aio.client import Client

from countersign_chassis.connection import servers_of
from countersign_contracts import subjects, topology
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.projection import BUCKETS

from .layout import Layout

_SECOND = 1_000_000_000
_APPLIED_BY = "countersign.version"


async def apply_topology(
    url: str, layout: Layout, *, replicas: int | None = None, tls: ssl.SSLContext | None = None
) -> None:
    """Create what is missing and update what differs.

    ``replicas`` is of how many servers each stream has a copy; None leaves those that there are (new ones: 1). Raises
    :class:`Unavailable` while a cluster forms, :class:`CountersignError` with the server's reason, or if a newer
    version has applied its own.
    """
    ours = version("countersign-contracts")
    for account in ("AGENTS", "CORE"):
        async with _connected(url, layout, account, tls) as client:
            for stream in topology.STREAMS:
                if stream.account == account:
                    await _stream(client, stream_config(stream), ours, replicas)
                    for consumer in topology.CONSUMERS:
                        if consumer.stream == stream.name:
                            await _consumer(client, consumer)
            if account == "CORE":
                for bucket in BUCKETS:
                    await _stream(client, bucket_config(bucket.name), ours, replicas)


@asynccontextmanager
async def _connected(url: str, layout: Layout, account: str, tls: ssl.SSLContext | None) -> AsyncIterator[Client]:
    """The first server that answers; raises what the last one was not reached for."""
    *others, last = servers_of(url, tls)
    for server in (*others, last):
        try:
            client = await nats.connect(
                server,
                user_credentials=str(layout.creds(f"bootstrap-{account.lower()}")),
                inbox_prefix=subjects.inbox("bootstrap"),
                connect_timeout=5,
                allow_reconnect=False,
                tls=tls,
            )
            break
        except (OSError, TimeoutError, nats.errors.Error):
            if server is last:
                raise
    try:
        yield client
    finally:
        await client.close()


def stream_config(stream: topology.Stream) -> dict[str, Any]:
    """The server's configuration of a stream. Nothing may be deleted from what the ledger is made of."""
    record = stream.account == "CORE" and stream.name != "DEADLETTER"
    each = stream.max_msgs_per_subject
    queue = stream.retention == "workqueue"
    bounded = {} if each is None else {"max_msgs_per_subject": each, "discard_new_per_subject": queue}
    return {
        "name": stream.name,
        "subjects": list(stream.subjects),
        "retention": stream.retention,
        "storage": "file",
        "discard": "new" if queue else "old",
        "max_age": stream.max_age_s * _SECOND,
        "max_bytes": stream.max_bytes,
        "max_msg_size": stream.max_msg_bytes,
        "duplicate_window": stream.duplicate_window_s * _SECOND,
        "num_replicas": 1,
        "deny_delete": record,
        "deny_purge": record,
        "allow_rollup_hdrs": False,
        "allow_direct": False,
    } | bounded


def bucket_config(name: str) -> dict[str, Any]:
    """The server's configuration of a key-value bucket (ADR-8), without purge by rollup."""
    return {
        "name": f"KV_{name}",
        "subjects": [f"$KV.{name}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "max_bytes": 256 * topology.MIB,
        "max_msg_size": topology.MAX_PAYLOAD_BYTES,
        "duplicate_window": 120 * _SECOND,
        "num_replicas": 1,
        "deny_delete": True,
        "allow_rollup_hdrs": False,
        "allow_direct": True,
    }


async def _stream(client: Client, config: dict[str, Any], ours: str, replicas: int | None) -> None:
    name = config["name"]
    found = await _api(client, f"STREAM.INFO.{name}", None, missing_ok=True)
    if replicas is None and found is not None:
        replicas = int(found["config"]["num_replicas"])
    config["num_replicas"] = replicas or 1
    signed = config | {"metadata": {_APPLIED_BY: ours}}
    if found is None:
        await _api(client, f"STREAM.CREATE.{name}", signed)
        return
    theirs = found["config"].get("metadata", {}).get(_APPLIED_BY)  # the server keeps notes of its own beside it
    if theirs is not None and _numbers(theirs) > _numbers(ours):
        raise CountersignError(
            f"the streams were made by Countersign {theirs}, and this is {ours}: install {theirs} or a later one again"
        )
    differs = any(found["config"].get(key) != value for key, value in config.items() if value not in (False, None))
    if differs or theirs != ours:
        await _api(client, f"STREAM.UPDATE.{name}", signed)


def _numbers(version: str) -> tuple[int, ...]:
    """A release as numbers to compare; what is no number in it counts as nothing."""
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))


async def _consumer(client: Client, consumer: topology.Consumer) -> None:
    config = {
        "durable_name": consumer.name,
        "name": consumer.name,
        "filter_subjects": list(consumer.filters),
        "ack_policy": "explicit",
        "ack_wait": consumer.ack_wait_s * _SECOND,
        "max_ack_pending": consumer.max_ack_pending,
        "max_deliver": -1,
        "max_waiting": 512,
        "deliver_policy": "all",
        "replay_policy": "instant",
    }
    await _api(
        client,
        f"CONSUMER.CREATE.{consumer.stream}.{consumer.name}",
        {"stream_name": consumer.stream, "config": config, "action": ""},
    )


async def _api(client: Client, verb: str, body: Any, *, missing_ok: bool = False) -> dict[str, Any] | None:
    reply = await client.request(f"$JS.API.{verb}", b"" if body is None else orjson.dumps(body), timeout=10)
    answer: dict[str, Any] = orjson.loads(reply.data)
    if error := answer.get("error"):
        if missing_ok and error.get("code") == 404:
            return None
        refused = f"nats-server refused {verb}: {error.get('description')}"
        raise Unavailable(refused) if error.get("code") in (500, 503) else CountersignError(refused)
    return answer
