"""A projected record is its owner's word on one key of one bucket, and nobody else's."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from countersign_contracts.catalogue import HttpCall, Tool, ToolRecord
from countersign_contracts.control import Stop
from countersign_contracts.envelope import Unverifiable
from countersign_contracts.errors import Malformed
from countersign_contracts.fleet import AgentRecord, Owner, PersonRecord
from countersign_contracts.logins import LoginsRecord
from countersign_contracts.model import Frozen
from countersign_contracts.projection import AGENTS, BUCKETS, LOGINS, PEOPLE, STOPS, TOOLS, Bucket, open_projection
from countersign_contracts.projection import seal_projection as seal
from countersign_ledger import SigningKey

if TYPE_CHECKING:
    from .conftest import Keys

Record = tuple[Bucket, str, Frozen]

AGENT = AgentRecord(
    agent_id="support-1",
    name="Support",
    owner=Owner(team="support"),
    profile="support",
    environments=("prod",),
    status="active",
    revision=1,
)
PERSON = PersonRecord(name="alice@example.com", roles=("approver",), token_sha256="0" * 64, revision=2)
CALL = HttpCall(method="GET", url="https://tickets.example.com/tickets")
TOOL = ToolRecord(
    tool=Tool(name="list_tickets", effect="read", arguments={"type": "object"}, http=CALL), version=1, revision=3
)


@pytest.fixture(params=BUCKETS, ids=lambda bucket: str(bucket.name))
def record(request: pytest.FixtureRequest, at: datetime) -> Record:
    """A record of each bucket in turn, and its key."""
    stop = Stop(stop_id="stop_1", scope="env:prod", reason="incident", set_by="alice", set_at=at)
    logins = LoginsRecord(name="ann", logins=("lgn_" + "0" * 32,), revision=1)
    records: dict[str, Record] = {
        "agents": (AGENTS, AGENT.agent_id, AGENT),
        "people": (PEOPLE, PERSON.key, PERSON),
        "logins": (LOGINS, logins.key, logins),
        "tools": (TOOLS, TOOL.tool.name, TOOL),
        "stops": (STOPS, stop.stop_id, stop),
    }
    return records[request.param.name]


def altered(stored: bytes, **changes: Any) -> bytes:
    return json.dumps(json.loads(stored) | changes).encode()


def test_a_record_is_read_as_it_was_written(record: Record, keys: Keys) -> None:
    bucket, key, value = record
    stored = seal(bucket, key, value, keys[bucket.owner])
    assert open_projection(bucket, key, stored, keys.trust, bucket.model) == value


def test_nobody_but_the_owner_can_write_it(record: Record, keys: Keys) -> None:
    bucket, key, value = record
    for service in keys.signing.keys() - {bucket.owner}:
        with pytest.raises(Unverifiable, match=f"of {service} may not sign"):
            open_projection(bucket, key, seal(bucket, key, value, keys[service]), keys.trust, bucket.model)
    stranger = SigningKey(keys[bucket.owner].kid, bucket.owner, SigningKey.generate("x").private)
    with pytest.raises(Unverifiable, match="the signature is not one of key"):
        open_projection(bucket, key, seal(bucket, key, value, stranger), keys.trust, bucket.model)


def test_a_record_counts_under_its_own_key_alone(record: Record, keys: Keys) -> None:
    bucket, key, value = record
    stored = seal(bucket, key, value, keys[bucket.owner])
    with pytest.raises(Unverifiable):
        open_projection(bucket, f"{key}2", stored, keys.trust, bucket.model)


@pytest.mark.parametrize(("written", "read"), [(AGENTS, PEOPLE), (TOOLS, STOPS)])
def test_a_record_counts_in_its_own_bucket_alone(written: Bucket, read: Bucket, keys: Keys) -> None:
    """Though both buckets have the same owner."""
    stored = seal(written, "key", AGENT, keys[written.owner])
    with pytest.raises(Unverifiable):
        open_projection(read, "key", stored, keys.trust, AgentRecord)


def test_an_altered_record_is_refused(record: Record, keys: Keys) -> None:
    bucket, key, value = record
    stored = seal(bucket, key, value, keys[bucket.owner])
    body = json.loads(stored)["body"]
    for other in (body + " ", body.replace('"revision":', '"revision":1'), ""):
        with pytest.raises(Unverifiable):
            open_projection(bucket, key, altered(stored, body=other), keys.trust, bucket.model)


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"keyid":"k","signature":"","body":{}}',
        b'{"keyid":[],"signature":"","body":""}',
        b'{"keyid":"k","signature":7,"body":""}',
    ],
)
def test_what_is_no_record_is_refused(stored: bytes, keys: Keys) -> None:
    with pytest.raises((Malformed, Unverifiable)):
        open_projection(AGENTS, "support-1", stored, keys.trust, AgentRecord)


def test_a_signed_body_that_does_not_fit_is_malformed(keys: Keys) -> None:
    stored = seal(AGENTS, "alice", PERSON, keys["registry"])
    with pytest.raises(Malformed, match="AgentRecord: agent_id"):
        open_projection(AGENTS, "alice", stored, keys.trust, AgentRecord)


def test_a_field_of_a_newer_owner_is_passed_over_where_what_is_known_must_count(record: Record, keys: Keys) -> None:
    bucket, key, value = record
    body = json.loads(value.to_bytes()) | {"of_the_next_version": True}
    for inner in body.values():
        if isinstance(inner, dict):
            inner["of_the_next_version"] = True

    class Newer(Frozen):
        def to_bytes(self) -> bytes:
            return json.dumps(body).encode()

    stored = seal(bucket, key, Newer(), keys[bucket.owner])
    if bucket.strict:
        with pytest.raises(Malformed, match="of_the_next_version"):
            open_projection(bucket, key, stored, keys.trust, bucket.model)
    else:
        assert open_projection(bucket, key, stored, keys.trust, bucket.model) == value
