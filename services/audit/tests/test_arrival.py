"""What audit believes of a message, and what it is found by."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_audit.arrival import MAX_BODY_BYTES, Believed, Doubted, examine
from countersign_contracts.approvals import ApprovalRequested
from countersign_contracts.command import COMMANDS
from countersign_contracts.control import Checkpointed, DeadLettered, Stop, StopSet
from countersign_contracts.envelope import seal, seal_event
from countersign_contracts.event import Event
from countersign_contracts.fleet import AgentStatusChanged, PersonChanged
from countersign_ledger import SigningKey, TrustBundle, event_signing_bytes

AT = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def doubt(message: Any, trust: TrustBundle) -> tuple[str, str]:
    """The code and the reason for which this is not believed."""
    arrival = examine(message, trust)
    assert isinstance(arrival, Doubted), "it was believed"
    return arrival.doubt.code, arrival.doubt.reason


def test_a_signed_event_is_believed(make: Any, keys: Any) -> None:
    event = make.granted()
    arrival = examine(keys.message(event, "policy"), keys.trust)
    assert isinstance(arrival, Believed)
    assert arrival.envelope.id == f"{event.action.request_id}.granted"
    found = arrival.found
    assert (found.agent_id, found.session_id) == ("agent-1", "run-1")
    assert found.request_id == event.action.request_id
    assert found.at == make.at


def test_an_altered_body_is_not_believed(make: Any, keys: Any) -> None:
    message = keys.message(make.granted(), "policy")
    altered = replace(message, body=message.body.replace(b"update_ticket", b"delete_ticket"))
    assert doubt(altered, keys.trust)[0] == "unverifiable"


@pytest.mark.parametrize("header", ["ce_id", "ce_type", "ce_source", "ce_subject", "ce_time", "ce_keyid"])
def test_no_attribute_can_be_changed(make: Any, keys: Any, header: str) -> None:
    message = keys.message(make.granted(), "policy")
    value = message.headers[header.replace("_", "-")]
    assert doubt(message.with_headers(**{header: value + "x"}), keys.trust)[0] == "unverifiable"


@pytest.mark.parametrize("header", ["ce_id", "ce_type", "ce_signature", "ce_time"])
def test_a_missing_attribute_is_named(make: Any, keys: Any, header: str) -> None:
    code, reason = doubt(keys.message(make.granted(), "policy").with_headers(**{header: None}), keys.trust)
    assert code == "malformed"
    assert header.replace("_", "-") in reason


def test_a_key_may_sign_only_what_its_service_emits(make: Any, keys: Any) -> None:
    code, reason = doubt(keys.message(make.granted(), "executor"), keys.trust)
    assert code == "unverifiable"
    assert "may not sign" in reason


def test_a_key_of_nobody_is_not_believed(make: Any, keys: Any) -> None:
    strangers = type(keys)()
    assert doubt(strangers.message(make.granted(), "policy"), keys.trust)[0] == "unverifiable"


def test_a_service_cannot_speak_as_another(make: Any, keys: Any) -> None:
    event, key = make.granted(), keys.keys["policy"]
    envelope = replace(seal_event(event, time=AT, key=key), source="/countersign/gateway")
    envelope = replace(envelope, signature=key.sign(envelope.signing_bytes()))
    code, reason = doubt(keys.stored(envelope, event.nats_subject()), keys.trust)
    assert code == "unverifiable"
    assert "policy signed it" in reason


def test_a_key_that_is_not_valid_any_more_is_not_believed(make: Any, keys: Any) -> None:
    old = keys.keys["policy"].trusted({"countersign.actions.granted.v1"}, not_after="2026-01-01T00:00:00Z")
    code, reason = doubt(keys.message(make.granted(), "policy"), TrustBundle.of("test", [old]))
    assert code == "unverifiable"
    assert "was valid until" in reason


def test_an_event_on_another_subject_is_not_believed(make: Any, keys: Any) -> None:
    message = replace(keys.message(make.granted(), "policy"), subject="actions.denied.agent-1")
    assert doubt(message, keys.trust) == (
        "unverifiable",
        "countersign.actions.granted.v1 does not belong on actions.denied.agent-1",
    )


def test_a_command_is_no_event(keys: Any) -> None:
    command = next(c for c in COMMANDS.values() if c.rpc.service == "audit" and "gateway" in c.rpc.callers)
    envelope = seal(b"{}", id="1", type=command.rpc.type, subject="x", time=AT, key=keys.keys["gateway"])
    assert doubt(keys.stored(envelope, "actions.requested.agent-1"), keys.trust)[0] == "unverifiable"


def test_an_event_cannot_take_the_id_of_another_action(make: Any, keys: Any) -> None:
    event, other = make.granted(), make.granted()
    envelope = seal(
        event.to_bytes(),
        id=other.event_id(),
        type=event.spec.type,
        subject=event.about(),
        time=AT,
        key=keys.keys["policy"],
    )
    code, reason = doubt(keys.stored(envelope, event.nats_subject()), keys.trust)
    assert code == "malformed"
    assert "is not the id of this event" in reason


def test_no_other_event_can_take_the_id_of_a_grant(make: Any, keys: Any) -> None:
    """Otherwise a receipt for the grant could be had without the grant."""
    change = _paused("agent-1")
    envelope = seal(
        change.to_bytes(),
        id=make.granted().event_id(),
        type=change.spec.type,
        subject="agent-1",
        time=AT,
        key=keys.keys["registry"],
    )
    assert doubt(keys.stored(envelope, change.nats_subject()), keys.trust)[0] == "malformed"


def test_a_body_too_large_for_an_export_is_not_recorded_as_it_is(make: Any, keys: Any) -> None:
    code, reason = doubt(keys.message(make.granted(warrant="w" * MAX_BODY_BYTES), "policy"), keys.trust)
    assert code == "too_large"
    assert str(MAX_BODY_BYTES) in reason


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 5000])
def test_a_body_that_is_no_object_is_not_believed(keys: Any, body: bytes) -> None:
    envelope = seal(
        body, id="x.stop_set", type="countersign.control.stop_set.v1", subject="x", time=AT, key=keys.keys["executor"]
    )
    assert doubt(keys.stored(envelope, "control.stop_set"), keys.trust)[0] == "malformed"


def _stop(scope: str) -> StopSet:
    return StopSet(stop=Stop(stop_id="stop_1", scope=scope, reason="r", set_by="ann", set_at=AT))


def _paused(agent_id: str) -> AgentStatusChanged:
    return AgentStatusChanged(agent_id=agent_id, by="x", at=AT, before="active", status="paused", reason="r")


@pytest.mark.parametrize(
    ("event", "by", "agent", "session"),
    [
        (_stop("agent:agent-7"), "executor", "agent-7", None),
        (_stop("session:run-7"), "executor", None, "run-7"),
        (_stop("all"), "executor", None, None),
        (Checkpointed(seq=4, checkpoint={}), "audit", None, None),
        (_paused("a-1"), "registry", "a-1", None),
        (PersonChanged(person="ann", roles=("admin",), status="active", by="x", at=AT), "registry", None, None),
    ],
    ids=["stop of an agent", "stop of a session", "stop of all", "checkpoint", "agent", "person"],
)  # fmt: skip
def test_every_event_is_found_by_what_it_is_about(
    keys: Any, event: Event, by: str, agent: str | None, session: str | None
) -> None:
    arrival = examine(keys.message(event, by), keys.trust)
    assert isinstance(arrival, Believed)
    assert (arrival.found.agent_id, arrival.found.session_id, arrival.found.request_id) == (agent, session, None)


def test_an_approval_and_a_dead_letter_are_found_by_their_request(make: Any, keys: Any) -> None:
    action = make.action()
    asked = ApprovalRequested(approval_id="apr_1", action=action.ref(), requested_at=AT, deadline=AT)
    dead = DeadLettered(
        stream="ACTIONS",
        consumer="policy-actions",
        stream_seq=1,
        subject="actions.requested.agent-1",
        headers={"ce-subject": action.request_id},
        body="",
        tries=8,
        reason="r",
        at=AT,
    )
    for event, by in ((asked, "approvals"), (dead, "policy")):
        arrival = examine(keys.message(event, by), keys.trust)
        assert isinstance(arrival, Believed)
        assert arrival.found.request_id == action.request_id


_TEXT = st.text(max_size=30) | st.text("\x00\udc80\n é", max_size=5)


@given(
    headers=st.dictionaries(
        st.sampled_from(["ce-id", "ce-type", "ce-source", "ce-subject", "ce-time", "ce-keyid", "ce-signature", "x"]),
        _TEXT,
    ),
    subject=_TEXT,
    body=st.binary(max_size=100),
)
def test_whatever_arrives_is_judged_and_never_raises(headers: dict[str, str], subject: str, body: bytes) -> None:
    key = SigningKey.generate("policy")
    trust = TrustBundle.of("test", [key.trusted({"countersign.actions.granted.v1"})])
    message: Any = _Stored(subject, headers | {"ce-keyid": key.kid}, body)
    assert isinstance(examine(message, trust), Doubted)


@given(
    body=st.dictionaries(
        st.sampled_from(["action", "agent_id", "stop", "request_id"]),
        st.recursive(
            st.none() | st.text(max_size=8) | st.integers(),
            lambda inner: st.dictionaries(
                st.sampled_from(["agent_id", "session_id", "request_id", "scope"]), inner, max_size=3
            ),
            max_leaves=5,
        ),
    ),
    time=st.sampled_from(
        ["2026-01-31T12:00:00Z", "2026-01-31", "0001-01-01T00:00:00+14:00", "soon", "9999-12-31T23:59:59-14:00"]
    ),
)
def test_whatever_a_service_signs_is_judged_and_never_raises(body: dict[str, Any], time: str) -> None:
    key = SigningKey.generate("executor")
    trust = TrustBundle.of("test", [key.trusted({"countersign.control.stop_set.v1"})])
    raw = json.dumps(body).encode()
    attributes = {
        "id": "x.stop_set",
        "type": "countersign.control.stop_set.v1",
        "source": "/countersign/executor",
        "subject": "x",
        "time": time,
        "keyid": key.kid,
    }
    signature = key.sign(event_signing_bytes(**attributes, body=raw))
    headers = {f"ce-{k}": v for k, v in attributes.items()} | {"ce-signature": urlsafe_b64encode(signature).decode()}
    message: Any = _Stored("control.stop_set", headers, raw)
    assert isinstance(examine(message, trust), Believed if "T" in time else Doubted)


class _Stored:
    stream, epoch, stream_seq, tries, stored_at = "CONTROL", 1, 1, 1, AT

    def __init__(self, subject: str, headers: dict[str, str], body: bytes) -> None:
        self.subject, self.headers, self.body = subject, headers, body
