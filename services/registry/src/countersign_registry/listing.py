"""A page of the list of agents, written straight from the rows: what the models would write, many times sooner.

What is in the database was checked when it came in; the reader checks the page by the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
import orjson
from pydantic import PrivateAttr

from countersign_contracts.commands import Agents
from countersign_contracts.model import rfc3339


class Written(Agents):
    """A page whose bytes are there already; its fields are left empty."""

    _bytes: bytes = PrivateAttr()

    @classmethod
    def of(cls, items: Sequence[bytes], following: str | None) -> Written:
        """The page of these agents, each as :func:`written` has it, and the id to go on after."""
        page = cls(items=())
        end = b"" if following is None else b',"next":' + orjson.dumps(following)
        page._bytes = b'{"items":[' + b",".join(items) + b"]" + end + b"}"
        return page

    def to_bytes(self) -> bytes:
        return self._bytes


def written(row: asyncpg.Record, last_seen: datetime | None, heartbeat: dict[str, Any] | None) -> bytes:
    """One agent as an ``AgentView`` is written; ``last_seen``: when this process heard it, with its ``heartbeat``."""
    if last_seen is None or (row["last_seen"] is not None and row["last_seen"] > last_seen):
        last_seen = row["last_seen"]
        heartbeat = None if row["heartbeat"] is None else orjson.loads(row["heartbeat"])
    agent = {
        "agent_id": row["agent_id"],
        "name": row["name"],
        "owner": _present(team=row["owner_team"], oncall=row["owner_oncall"]),
        "profile": row["profile"],
        "environments": row["environments"],
        "status": row["status"],
        "heartbeat_s": row["heartbeat_s"],
        "credentials": [_credential(each) for each in orjson.loads(row["credentials"] or "[]")],
        **_present(agent_type=row["agent_type"], version=row["version"]),
        "revision": row["revision"],
    }
    view = _present(
        agent=agent,
        created_at=rfc3339(row["created_at"]),
        last_seen=None if last_seen is None else rfc3339(last_seen),
        heartbeat=heartbeat,
        phase=row["phase"] or "registered",
        phase_since=None if row["phase_since"] is None else rfc3339(row["phase_since"]),
        phase_cause=row["phase_cause"],
    )
    return orjson.dumps(view)


def fitting(items: Sequence[bytes], limit: int, max_bytes: int) -> tuple[int, bool]:
    """How many of ``items`` may be on one page, at least one if there is any, and whether there are more."""
    size = 0
    for count, item in enumerate(items):
        size += len(item) + 1
        if count == limit or (count and size > max_bytes):
            return count, True
    return len(items), False


def _credential(found: dict[str, Any]) -> dict[str, Any]:
    if found["expires_at"] is not None:
        found["expires_at"] = rfc3339(datetime.fromisoformat(found["expires_at"]))
    return _present(**found)


def _present(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
