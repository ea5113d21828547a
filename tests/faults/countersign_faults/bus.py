"""nats-server as its operator reaches it: who is connected, and closing their connections."""

from __future__ import annotations

import json
from typing import Any

import nats
from nats.aio.client import Client

from .system import System


async def close_all_connections(system: System) -> int:
    """Close every connection but this one, in the middle of whatever is on the way; how many there were."""
    client = await nats.connect(
        system.nats_url, user_credentials=str(system.system_creds()), allow_reconnect=False, connect_timeout=5
    )
    try:
        found = await _ask(client, "$SYS.REQ.SERVER.PING.CONNZ", {"limit": 1024})
        server = found["server"]["id"]
        others = [each["cid"] for each in found["data"]["connections"] if each["cid"] != client.client_id]
        for cid in others:
            answer = await _ask(client, f"$SYS.REQ.SERVER.{server}.KICK", {"cid": cid})
            gone = (answer.get("error") or {}).get("code") == 404
            assert gone or "error" not in answer, answer
    finally:
        await client.close()
    return len(others)


async def _ask(client: Client, subject: str, body: dict[str, Any]) -> dict[str, Any]:
    reply = await client.request(subject, json.dumps(body).encode(), timeout=5)
    found: dict[str, Any] = json.loads(reply.data)
    return found
