"""A deployment's keys as bootstrap makes them, and one action, for every test."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from countersign_contracts import topology
from countersign_contracts.actions import Action
from countersign_contracts.canonical import action_digest
from countersign_contracts.event import SERVICES
from countersign_ledger import SigningKey, TrustBundle

AT = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


@dataclass(frozen=True, repr=False)
class Keys:
    """One key a service, and the trust bundle that lists them."""

    signing: dict[str, SigningKey]
    trust: TrustBundle

    def __getitem__(self, service: str) -> SigningKey:
        return self.signing[service]


@pytest.fixture(scope="session")
def keys() -> Keys:
    signing = {service: SigningKey.generate(service) for service in SERVICES}
    trusted = [key.trusted(topology.emits(service)) for service, key in signing.items()]
    return Keys(signing, TrustBundle.of("test", trusted))


@pytest.fixture
def at() -> datetime:
    """Half past nine on the last day of January 2026."""
    return AT


@pytest.fixture
def action() -> Action:
    """An action whose digest is right."""
    said: dict[str, Any] = {
        "principal_chain": ("person:alice@example.com", "agent:planner"),
        "env": "prod",
        "tool": "update_ticket",
        "tool_version": 3,
        "args": {"ticket_id": 7, "status": "closed"},
    }
    return Action(
        request_id="0197a3b2-7c00-7000-8000-000000000001",
        agent_id="support-1",
        session_id="run-1",
        reason="the customer asked",
        digest=action_digest(agent="support-1", session="run-1", **said),
        requested_at=AT,
        **said,
    )
