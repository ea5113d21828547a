"""The last column of `countersign approvals list`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from countersign_cli.approving.sheet import deadline

ALICE = {"voter": "alice", "vote": "approve"}
BOB = {"voter": "bob", "vote": "reject"}


@pytest.mark.parametrize(
    ("state", "votes", "says"),
    [
        ("pending", [], "in 9 min"),
        ("approved", [ALICE], "approved by alice 2 min ago"),
        ("rejected", [ALICE, BOB], "rejected by bob 2 min ago"),
        ("expired", [ALICE], "expired 2 min ago"),
        ("cancelled", [], "cancelled 2 min ago"),
    ],
)
def test_what_has_ended_says_how_and_when_and_not_until_when(state: str, votes: list[Any], says: str) -> None:
    now = datetime.now(UTC)
    found: dict[str, Any] = {"state": state, "votes": votes, "deadline": (now + timedelta(seconds=595)).isoformat()}
    found["resolved_at"] = None if state == "pending" else (now - timedelta(seconds=125)).isoformat()
    assert deadline(found) == says
