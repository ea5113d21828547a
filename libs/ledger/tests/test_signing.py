from __future__ import annotations

import hashlib
import json
import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_ledger import (
    InvalidAttribute,
    InvalidExport,
    InvalidSigningKey,
    SigningKey,
    event_signing_bytes,
)

EVENT = {"id": "i", "type": "t", "source": "s", "subject": "u", "time": "m", "keyid": "k"}


@pytest.mark.parametrize("name", EVENT)
@pytest.mark.parametrize("character", ["\n", "\r", "\0", "\x1f", "\x7f", "\x85", "\ud800"])
def test_no_attribute_may_hold_a_control_character(name: str, character: str) -> None:
    with pytest.raises(InvalidAttribute, match=f"{name} contains the forbidden character U\\+00|U\\+D8") as caught:
        event_signing_bytes(**{**EVENT, name: f"a{character}b"}, body=b"")
    assert isinstance(caught.value, ValueError)
    assert name in str(caught.value)


def test_a_line_break_cannot_move_text_from_one_attribute_to_the_next() -> None:
    one = event_signing_bytes(**EVENT, body=b"")
    with pytest.raises(InvalidAttribute):
        event_signing_bytes(**{**EVENT, "id": "i\nt", "type": ""}, body=b"")
    assert one.count(b"\n") == 7


def test_text_that_is_unusual_but_harmless_is_signed() -> None:
    subject = "Zoë\u00a0\u2028 \U0001f3ab \u200b"
    assert subject.encode() in event_signing_bytes(**{**EVENT, "subject": subject}, body=b"")


@pytest.mark.parametrize("name", [*EVENT, "body"])
def test_every_attribute_and_the_body_are_signed(name: str) -> None:
    changed = {**EVENT, "body": b"body"}
    changed[name] = b"bodz" if name == "body" else "other"
    assert event_signing_bytes(**changed) != event_signing_bytes(**EVENT, body=b"body")


def test_a_generated_key_is_named_by_its_service_and_fingerprint() -> None:
    key = SigningKey.generate("policy")
    assert key.kid == "policy-" + hashlib.sha256(key.public_bytes).hexdigest()[:12]
    assert SigningKey.generate("policy").public_bytes != key.public_bytes


@given(
    service=st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=20),
    message=st.binary(),
)
def test_any_key_survives_json(service: str, message: bytes) -> None:
    key = SigningKey.generate(service)
    back = SigningKey.from_json(key.to_json())
    assert (back.kid, back.service, back.public_bytes) == (key.kid, key.service, key.public_bytes)
    assert back.sign(message) == key.sign(message)
    assert back.private.public_key().public_bytes_raw() == key.public_bytes


def test_no_secret_is_shown() -> None:
    key = SigningKey.generate("policy")
    seed = json.loads(key.to_json())["seed"]
    assert repr(key) == str(key) == f"SigningKey(kid='{key.kid}', service='policy')"
    with pytest.raises(TypeError):
        pickle.dumps(key)
    for wrong in (seed + "=", seed[:-1], seed + "AAAA", seed + "!"):
        with pytest.raises(InvalidSigningKey) as caught:
            SigningKey.from_json(json.dumps({"kid": "k", "service": "s", "seed": wrong}))
        assert seed[:40] not in "".join(traceback.format_exception(caught.value, chain=True, limit=0))
        assert "seed" in str(caught.value)


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({"kid": "k", "service": "s"}, "seed: is missing"),
        ({"kid": "k", "service": "s", "seed": "A" * 43, "x": 1}, "x: is not a known field"),
        ({"kid": "", "service": "s", "seed": "A" * 43}, "kid: is empty"),
        ({"kid": "k", "service": 1, "seed": "A" * 43}, "service: must be a string, not a number"),
        ({"kid": "k", "service": "s", "seed": "AAAA"}, "seed: must be 32 bytes, not 3"),
    ],
)
def test_a_wrong_key_document_is_refused_by_field(document: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidSigningKey, match=complaint):
        SigningKey.from_json(json.dumps(document))


def test_every_error_has_a_message_of_its_own_and_can_be_sent_between_processes() -> None:
    assert str(InvalidAttribute()).endswith("that may not be signed.")
    back = pickle.loads(pickle.dumps(InvalidExport(7, "is empty")))
    assert (str(back), back.line, back.reason) == ("line 7: is empty", 7, "is empty")
