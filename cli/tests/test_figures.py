"""What `countersign status` makes of the services' metrics."""

from __future__ import annotations

from typing import Any

import pytest

from countersign_cli.figures import figures, troubles

GATEWAY = """\
# HELP countersign_messages_pending Messages
# TYPE countersign_messages_pending gauge
countersign_messages_pending{consumer="gateway-finals"} 3.0
countersign_messages_pending{consumer="gateway-ingress"} 40.0
countersign_messages_unacknowledged{consumer="gateway-finals"} 2.0
countersign_messages_oldest_seconds{consumer="gateway-finals"} 1.25
countersign_messages_oldest_seconds{consumer="gateway-ingress"} 900.0
countersign_dead_letters_open{consumer="policy-actions"} 1.0
countersign_dead_letters_open{consumer="gateway-finals"} 2.0
countersign_ends_not_on_record 0.0
process_cpu_seconds_total 12.0
"""
WELL = {"ready": True, "waiting": 0, "oldest_s": 0.0}


def test_a_page_is_read() -> None:
    assert figures(GATEWAY) == {
        "waiting": 45,
        "oldest_s": 1.2,
        "queued_oldest_s": 900.0,
        "dead_letters": 3,
        "ends_not_on_record": 0,
    }
    assert figures("countersign_audit_leading 1.0\ncountersign_audit_lag_seconds 0.0123\n") == {
        "waiting": 0,
        "oldest_s": 0.0,
        "queued_oldest_s": 0.0,
        "writes_ledger": True,
        "ledger_lag_s": 0.012,
    }


@pytest.mark.parametrize(
    ("services", "more", "said"),
    [
        ({"policy": WELL}, {}, None),
        ({"policy": WELL | {"oldest_s": 59.0}}, {}, None),
        ({"policy": WELL | {"oldest_s": 61.0}}, {}, "the oldest message for policy has waited 61 s"),
        ({"gateway": WELL | {"queued_oldest_s": 900.0}}, {}, None),
        ({"policy": {"ready": False, "reasons": ["waiting for PostgreSQL"]}}, {}, "policy is not ready: waiting for"),
        ({"audit": WELL | {"writes_ledger": True, "ledger_lag_s": 31.0}}, {}, "the ledger lags 31 s behind"),
        ({"audit": WELL | {"writes_ledger": False}}, {}, "no audit service writes the ledger"),
        ({"a": WELL | {"writes_ledger": False}, "b": WELL | {"writes_ledger": True}}, {}, None),
        ({"a": WELL | {"dead_letters": 3}, "b": WELL | {"dead_letters": 3}}, {}, "3 dead letters are open"),
        ({"gateway": WELL | {"ends_not_on_record": 2}}, {}, "the ends of 2 actions"),
        ({"gateway": WELL}, {"unknown_outcomes": 1}, "1 outcomes are unknown"),
        ({"gateway": WELL}, {"unknown_outcomes": 0, "approvals_pending": 7}, None),
    ],
)
def test_what_is_not_right_is_said(services: dict[str, Any], more: dict[str, Any], said: str | None) -> None:
    found = troubles({"services": services} | more)
    assert len(found) == (0 if said is None else 1)
    assert said is None or found[0].startswith(said)
