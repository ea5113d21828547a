"""Whether a durable consumer on the server is the one that the topology wants."""

from __future__ import annotations

import nats.errors
import orjson
from nats.aio.client import Client

from countersign_contracts.errors import Refused, Unavailable
from countersign_contracts.topology import Consumer

_APPLIED_BY = "bootstrap applies the topology at every start of `countersign up`"


async def bind(client: Client, spec: Consumer) -> None:
    """Compare. Raises :class:`Refused` where they differ, :class:`Unavailable` while JetStream does not answer."""
    try:
        reply = await client.request(f"$JS.API.CONSUMER.INFO.{spec.stream}.{spec.name}", b"", timeout=3)
    except (TimeoutError, nats.errors.Error, OSError):
        raise Unavailable(f"JetStream does not answer for consumer {spec.name}") from None
    info = orjson.loads(reply.data)
    if "error" in info:
        why = info["error"].get("description")
        if info["error"].get("code") in (500, 503):  # a cluster that elects its leader
            raise Unavailable(f"JetStream has no consumer {spec.name} yet: {why}")
        raise Refused(f"consumer {spec.name} of stream {spec.stream} is missing ({why}); {_APPLIED_BY}")
    config = info["config"]
    filters = set(config.get("filter_subjects") or [config.get("filter_subject", "")])
    if filters != set(spec.filters) or config.get("ack_policy") != "explicit":
        raise Refused(f"consumer {spec.name} differs from the topology; {_APPLIED_BY}")
