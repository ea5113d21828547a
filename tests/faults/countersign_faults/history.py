"""What a faults run observed from the outside: plain data, for the validators to judge."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from countersign_ledger import TrustBundle

from .declarations import Tool


@dataclass(frozen=True)
class Call:
    """One request that reached the business system. ``at`` is when its head arrived; unix seconds."""

    at: float
    method: str
    path: str
    key: str | None
    body: str
    applied: bool = True
    """Whether it had its effect; a downstream that answers 500 applied nothing."""


@dataclass(frozen=True)
class Accepted:
    """One action that its agent was told is accepted, and what it was told."""

    request_id: str
    tool: str
    door: str
    told: str
    session: str | None = None


@dataclass(frozen=True)
class Recorded:
    """One entry of the ledger, its body read. ``at`` is when audit recorded it; unix seconds."""

    seq: int
    stream: str
    type: str
    subject: str
    at: float
    body: Any

    @property
    def name(self) -> str:
        """The type without its prefix and version, e.g. ``actions.granted``."""
        return self.type.removeprefix("countersign.").rsplit(".v", 1)[0]


@dataclass
class History:
    """Everything the validators look at."""

    tools: dict[str, Tool]
    accepted: list[Accepted] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    """Every action the API knows at the end, by request id."""
    told: list[tuple[str, str]] = field(default_factory=list)
    """Every final state that an agent was told, with its request id, in order."""
    refused: dict[str, str] = field(default_factory=dict)
    """The codes of the problems that callers were answered with, each with the detail of the first."""
    calls: list[Call] = field(default_factory=list)
    entries: list[Recorded] = field(default_factory=list)
    export: list[bytes] = field(default_factory=list)
    checkpoints: list[bytes] = field(default_factory=list)
    """The checkpoint file, as it was at several times."""
    trust: TrustBundle | None = None
    status_wanted: set[str] = field(default_factory=set)
    """What the idle agent's status may be at the end, after what was confirmed to its operator."""
    status: str = ""
    wipes: int = 0
    """How often the bus's store was wiped: what audit had not taken yet went with it."""


def entries_of(export: Sequence[bytes]) -> list[Recorded]:
    """The entries of an export's lines."""
    found = []
    for line in export[1:]:
        entry = json.loads(line).get("entry")
        if entry is None:
            continue
        at = datetime.fromisoformat(entry["recorded_at"]).timestamp()
        found.append(Recorded(entry["seq"], entry["stream"], entry["type"], entry["subject"], at, _body(entry["body"])))
    return found


def _body(encoded: str) -> Any:
    try:
        return json.loads(base64.b64decode(encoded))
    except ValueError:
        return None
