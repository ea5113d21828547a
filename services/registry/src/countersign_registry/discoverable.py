"""Agents as the NATS service API shows them (ADR-32): names, versions, and the three answers. Pure.

What is not known is 0 or empty, as the form asks for it: the registry counts nothing of what an agent does elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from countersign_contracts import subjects
from countersign_contracts.model import rfc3339
from countersign_contracts.observation import VERBS

_TYPE = "io.nats.micro.v1.{}_response"
#: SemVer 2.0.0, which the form asks for: numbers without leading zeros, then what precedes a release or describes it.
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?"
)
_NUMBERS = re.compile(r"v?(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?(.*)", re.ASCII | re.DOTALL)
_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]+")
_ENDPOINTS = {"results": "hears what becomes of its actions", "control": "hears its configuration"}


@dataclass(frozen=True, slots=True)
class Running:
    """An agent that is seen to run."""

    agent_id: str
    name: str
    agent_type: str | None
    version: str | None
    team: str
    environments: tuple[str, ...]
    status: str
    since: datetime
    last_seen: datetime | None
    heartbeat: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question: what of whom. Neither a name nor an id: of all."""

    verb: str
    name: str | None = None
    agent_id: str | None = None

    def means(self, agent: Running) -> bool:
        """Whether the agent is asked."""
        named = self.name is None or self.name == service_name(agent)
        return named and self.agent_id in (None, agent.agent_id)


def read_asked(subject: str) -> Asked | None:
    """What is asked on ``$SRV.<verb>[.<name>[.<id>]]``; None for what is no question."""
    tokens = subject.split(".")
    if tokens[0] != "$SRV" or not 2 <= len(tokens) <= 4 or tokens[1] not in VERBS:
        return None
    return Asked(*tokens[1:])


def service_name(agent: Running) -> str:
    """The agent's type; of one without, its name with ``-`` for what may not stand in a service's."""
    return agent.agent_type or _NO_NAME.sub("-", agent.name).strip("-") or agent.agent_id


def semver(version: str | None) -> str:
    """The version as SemVer writes it; ``0.0.0`` for none, and for what begins with no number."""
    if version is None:
        return "0.0.0"
    if _SEMVER.fullmatch(version):
        return version
    found = _NUMBERS.match(version)
    if found is None:
        return "0.0.0"
    numbers = ".".join(str(int(part or 0)) for part in found.groups()[:3])
    rest = ".".join(re.findall(r"[0-9a-zA-Z-]+", found[4]))
    return f"{numbers}+{rest}" if rest else numbers


def answer(verb: str, agent: Running) -> bytes:
    """What the agent would answer, were it asked itself."""
    told: dict[str, Any] = {
        "type": _TYPE.format(verb.lower()),
        "name": service_name(agent),
        "id": agent.agent_id,
        "version": semver(agent.version),
        "metadata": {
            "team": agent.team,
            "environments": ",".join(agent.environments),
            "phase": "running",
            "status": agent.status,
            "version": agent.version or "",
        },
    }
    if verb == "INFO":
        told["description"] = agent.name
        told["endpoints"] = [
            {**_endpoint(agent, name), "metadata": {"about": about}} for name, about in _ENDPOINTS.items()
        ]
    elif verb == "STATS":
        told["started"] = rfc3339(agent.since)
        told["endpoints"] = [{**_endpoint(agent, name), **_uncounted()} for name in _ENDPOINTS]
        told["endpoints"][0]["data"] = {
            "heartbeat": dict(agent.heartbeat),
            "last_seen": None if agent.last_seen is None else rfc3339(agent.last_seen),
        }
    return orjson.dumps(told)


def _endpoint(agent: Running, name: str) -> dict[str, Any]:
    return {"name": name, "subject": f"{subjects.agent(agent.agent_id, name)}.>", "queue_group": ""}


def _uncounted() -> dict[str, Any]:
    return {
        "num_requests": 0,
        "num_errors": 0,
        "last_error": "",
        "processing_time": 0,
        "average_processing_time": 0,
        "data": {},
    }
