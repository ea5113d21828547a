"""An envelope proves who said exactly this: whatever of it is altered, it is refused."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from countersign_contracts.actions import Action, ActionCancelled, ActionRequested
from countersign_contracts.envelope import Envelope, Unverifiable, open_event, seal, seal_event, source_of
from countersign_contracts.errors import Malformed
from countersign_ledger import SigningKey, TrustBundle

if TYPE_CHECKING:
    from .conftest import Keys

#: Of the key whose seed is the bytes 0 to 31; computed with another implementation in another language.
GOLDEN_SIGNATURE = (
    "1261a4e5dc27f2a451ecad78549067e3b3f0e6fe481dce98d30606c028c8c132"
    "b27aba92a1665f04248a0c48e270cb4ac6ddda001bb7eadebe97894bddd56208"
)
REQUESTED = ActionRequested.spec.type
CANCELLED = ActionCancelled.spec.type


@pytest.fixture
def event(action: Action) -> ActionRequested:
    return ActionRequested(action=action, channel="nats", credential_id="nats")


@pytest.fixture
def sealed(event: ActionRequested, keys: Keys, at: datetime) -> Envelope:
    return seal_event(event, time=at, key=keys["gateway"])


def resigned(envelope: Envelope, key: SigningKey, **changes: Any) -> Envelope:
    """An envelope that says something else, and is signed for that."""
    changed = replace(envelope, keyid=key.kid, **changes)
    return replace(changed, signature=key.sign(changed.signing_bytes()))


def test_a_sealed_event_arrives_as_it_was(event: ActionRequested, sealed: Envelope, keys: Keys) -> None:
    arrived = Envelope.read(sealed.headers(), sealed.body)
    assert arrived == sealed
    assert open_event(arrived, keys.trust) == event


def test_the_headers_are_those_of_cloudevents_in_binary_mode(sealed: Envelope, keys: Keys, at: datetime) -> None:
    headers = sealed.headers()
    signature = headers.pop("ce-signature")
    assert len(urlsafe_b64decode(signature)) == 64
    assert headers == {
        "Nats-Msg-Id": "0197a3b2-7c00-7000-8000-000000000001.requested",
        "ce-specversion": "1.0",
        "ce-id": "0197a3b2-7c00-7000-8000-000000000001.requested",
        "ce-type": "countersign.actions.requested.v1",
        "ce-source": "/countersign/gateway",
        "ce-subject": "0197a3b2-7c00-7000-8000-000000000001",
        "ce-time": "2026-01-31T09:30:00.000000Z",
        "ce-keyid": keys["gateway"].kid,
        "content-type": "application/json",
    }


def test_the_signature_is_pinned_and_made_a_second_time_by_other_means(at: datetime) -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    sealed = seal(b'{"a":1}', id="i", type="t", subject="s", time=at, key=SigningKey("gateway-1", "gateway", private))
    lines = [
        "countersign-event-v1",
        "i",
        "t",
        "/countersign/gateway",
        "s",
        "2026-01-31T09:30:00.000000Z",
        "gateway-1",
        hashlib.sha256(b'{"a":1}').hexdigest(),
    ]
    assert sealed.signature == private.sign("\n".join(lines).encode())
    assert sealed.signature.hex() == GOLDEN_SIGNATURE


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("id", "0197a3b2-7c00-7000-8000-000000000002.requested"),
        ("type", CANCELLED),  # which the same key may sign too
        ("source", "/countersign/policy"),
        ("subject", "0197a3b2-7c00-7000-8000-000000000002"),
        ("time", "2026-01-31T09:30:00.000001Z"),
        ("body", b"{}"),
        ("signature", bytes(64)),
        ("signature", b""),
    ],
)
def test_an_altered_attribute_is_refused(sealed: Envelope, keys: Keys, attribute: str, value: Any) -> None:
    sealed.verify(keys.trust)
    with pytest.raises(Unverifiable):
        replace(sealed, **{attribute: value}).verify(keys.trust)


@given(data=st.data())
def test_no_byte_of_what_is_signed_can_change(data: st.DataObject, keys: Keys) -> None:
    at = datetime.fromisoformat("2026-01-31T09:30:00Z")
    sealed = seal(b'{"x":"yz"}', id="i.requested", type=REQUESTED, subject="i", time=at, key=keys["gateway"])
    attribute = data.draw(st.sampled_from(["id", "type", "source", "subject", "time", "keyid", "signature", "body"]))
    value = getattr(sealed, attribute)
    raw = bytearray(value if isinstance(value, bytes) else value.encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 6))
    altered = bytes(raw) if isinstance(value, bytes) else raw.decode()
    with pytest.raises(Unverifiable):
        replace(sealed, **{attribute: altered}).verify(keys.trust)


def test_the_trace_context_may_change_on_the_way(sealed: Envelope, keys: Keys) -> None:
    replace(sealed, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").verify(keys.trust)


def test_a_trace_context_travels(event: ActionRequested, keys: Keys, at: datetime) -> None:
    sealed = seal_event(event, time=at, key=keys["gateway"], traceparent="00-1-2-01")
    assert Envelope.read(sealed.headers(), sealed.body).traceparent == "00-1-2-01"


@pytest.mark.parametrize("service", ["policy", "approvals", "executor", "audit", "registry"])
def test_no_other_service_can_say_it(sealed: Envelope, keys: Keys, service: str) -> None:
    with pytest.raises(Unverifiable, match="may not sign"):
        resigned(sealed, keys[service]).verify(keys.trust)
    with pytest.raises(Unverifiable, match="may not sign"):
        resigned(sealed, keys[service], source=source_of(service)).verify(keys.trust)


def test_a_service_cannot_say_what_it_may_in_another_s_name(keys: Keys, at: datetime) -> None:
    dead = seal(b"{}", id="i", type="countersign.deadletter.v1", subject="s", time=at, key=keys["policy"])
    dead.verify(keys.trust)
    with pytest.raises(Unverifiable, match="says it comes from /countersign/gateway, signed by policy"):
        resigned(dead, keys["policy"], source=source_of("gateway")).verify(keys.trust)


def test_a_stranger_s_key_is_refused_under_its_own_and_under_a_known_id(sealed: Envelope, keys: Keys) -> None:
    stranger = SigningKey.generate("gateway")
    with pytest.raises(Unverifiable, match="holds no key"):
        resigned(sealed, stranger).verify(keys.trust)
    disguised = SigningKey(keys["gateway"].kid, "gateway", stranger.private)
    with pytest.raises(Unverifiable, match="the signature is not one of key"):
        resigned(sealed, disguised).verify(keys.trust)


def test_another_deployment_s_events_are_refused(sealed: Envelope) -> None:
    with pytest.raises(Unverifiable):
        sealed.verify(TrustBundle.of("other", [SigningKey.generate("gateway").trusted({REQUESTED})]))


@pytest.mark.parametrize("attribute", ["id", "type", "source", "subject", "time", "keyid"])
def test_no_control_character_can_move_the_border_between_two_attributes(
    sealed: Envelope, keys: Keys, attribute: str
) -> None:
    with pytest.raises(Unverifiable):
        replace(sealed, **{attribute: f"{getattr(sealed, attribute)}\nx"}).verify(keys.trust)


@pytest.mark.parametrize(
    "header", ["ce-id", "ce-type", "ce-source", "ce-subject", "ce-time", "ce-keyid", "ce-signature"]
)
def test_a_missing_header_is_named(sealed: Envelope, header: str) -> None:
    headers = sealed.headers()
    del headers[header]
    with pytest.raises(Malformed, match=f"'{header}' is missing"):
        Envelope.read(headers, sealed.body)


@pytest.mark.parametrize("headers", [None, {}])
def test_a_message_without_headers_is_malformed(headers: dict[str, str] | None) -> None:
    with pytest.raises(Malformed, match="no CloudEvents headers"):
        Envelope.read(headers, b"{}")


@pytest.mark.parametrize("signature", ["A", "Zoë"])
def test_a_signature_that_is_not_base64_is_malformed(sealed: Envelope, signature: str) -> None:
    with pytest.raises(Malformed, match="ce-signature"):
        Envelope.read(sealed.headers() | {"ce-signature": signature}, sealed.body)


OWN_FAULTS: dict[str, tuple[Callable[[Envelope], dict[str, Any]], str]] = {
    "an id that is not the event's": (lambda sealed: {"id": "other.requested"}, "is not the event's own"),
    "the body of another type": (lambda sealed: {"type": CANCELLED}, "ActionCancelled: "),
    "a body that is no JSON": (lambda sealed: {"body": b"{"}, "ActionRequested: "),
    "a body with an unknown field": (
        lambda sealed: {"body": sealed.body[:-1] + b',"more":1}'},
        "more: extra inputs are not permitted",
    ),
    "a command's type": (lambda sealed: {"type": "countersign.command.executor.set_stop.v1"}, "is unknown"),
}


@pytest.mark.parametrize(("change", "message"), OWN_FAULTS.values(), ids=OWN_FAULTS.keys())
def test_what_its_own_service_signed_wrongly_is_malformed(
    sealed: Envelope, keys: Keys, change: Callable[[Envelope], dict[str, Any]], message: str
) -> None:
    wrong = resigned(sealed, keys["gateway"], **change(sealed))
    wrong.verify(keys.trust)
    with pytest.raises(Malformed, match=message):
        open_event(wrong, keys.trust)


def test_nothing_is_read_of_what_cannot_be_verified(sealed: Envelope, keys: Keys) -> None:
    with pytest.raises(Unverifiable):
        open_event(replace(sealed, body=b"{"), keys.trust)
