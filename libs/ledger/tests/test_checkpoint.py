from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_ledger import (
    BadSignature,
    Checkpoint,
    InvalidAttribute,
    InvalidCheckpoint,
    NotEntitled,
    UnknownKey,
    WrongDeployment,
)

MADE = {"deployment": "test", "seq": 3, "hash": b"\x0a" * 32, "time": "2026-01-31T10:00:00Z"}


def test_a_checkpoint_by_audit_is_genuine(world: Any) -> None:
    assert Checkpoint.make(world.audit, **MADE).verify(world.bundle).service == "audit"


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": 4},
        {"hash": b"\x0b" * 32},
        {"time": "2026-01-31T10:00:01Z"},
        {"signature": bytes(64)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_changed_checkpoint_is_not(world: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(BadSignature):
        replace(Checkpoint.make(world.audit, **MADE), **changes).verify(world.bundle)


def test_a_checkpoint_by_another_service_is_not(world: Any) -> None:
    with pytest.raises(NotEntitled):
        Checkpoint.make(world.policy, **MADE).verify(world.bundle)
    with pytest.raises(UnknownKey):
        Checkpoint.make(world.stranger, **MADE).verify(world.bundle)
    with pytest.raises(BadSignature):
        replace(Checkpoint.make(world.stranger, **MADE), keyid=world.audit.kid).verify(world.bundle)


def test_a_checkpoint_of_another_deployment_is_not_though_the_key_is_the_same(world: Any) -> None:
    foreign = Checkpoint.make(world.audit, **{**MADE, "deployment": "other"})
    with pytest.raises(WrongDeployment, match="'other', the trust bundle of 'test'"):
        foreign.verify(world.bundle)
    with pytest.raises(BadSignature):
        replace(foreign, deployment="test").verify(world.bundle)


@pytest.mark.parametrize("wrong", [{"seq": -1}, {"seq": 2**64}, {"hash": b"short"}])
def test_an_impossible_checkpoint_is_not_signed(world: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidCheckpoint):
        Checkpoint.make(world.audit, **{**MADE, **wrong})


@pytest.mark.parametrize("seq", [0, 2**64 - 1])
def test_a_checkpoint_may_be_for_any_sequence(world: Any, seq: int) -> None:
    Checkpoint.make(world.audit, **{**MADE, "seq": seq}).verify(world.bundle)


@pytest.mark.parametrize("name", ["deployment", "time"])
def test_a_line_break_is_not_signed(world: Any, name: str) -> None:
    with pytest.raises(InvalidAttribute, match=name):
        Checkpoint.make(world.audit, **{**MADE, name: "a\nb"})


any_text = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20)


@given(
    st.builds(
        Checkpoint,
        deployment=any_text,
        seq=st.integers(0, 2**64 - 1),
        hash=st.binary(min_size=32, max_size=32),
        time=any_text,
        keyid=any_text,
        signature=st.binary(max_size=80),
    )
)
def test_any_checkpoint_survives_its_dictionary_and_json(checkpoint: Checkpoint) -> None:
    assert Checkpoint.from_dict(checkpoint.to_dict()) == checkpoint
    assert Checkpoint.from_dict(json.loads(json.dumps(checkpoint.to_dict()))) == checkpoint


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"deployment": 1}, "deployment: must be a string, not a number"),
        ({"seq": "3"}, "seq: must be a whole number, not a string"),
        ({"seq": 3.0}, "seq: must be a whole number, not a fraction"),
        ({"seq": True}, "seq: must be a whole number, not true or false"),
        ({"seq": -1}, "seq: must be from 0 to"),
        ({"seq": 2**64}, "seq: must be from 0 to"),
        ({"hash": "0A" * 32}, "hash: must be 64 lowercase hexadecimal digits"),
        ({"hash": "0a" * 31}, "hash: must be 64 lowercase hexadecimal digits"),
        ({"hash": " 0a" * 31 + "0a"}, "hash: must be 64 lowercase hexadecimal digits"),
        ({"time": "a\rb"}, r"time: contains the forbidden character U\+000D"),
        ({"signature": "QR=="}, "signature: is not canonical base64 with padding"),
        ({"signature": "QQ"}, "signature: is not base64"),
        ({"signature": "Q Q=="}, "signature: is not canonical base64 with padding"),
        ({"signature": "Zoë="}, "signature: is not base64"),
        ({"more": 1}, "more: is not a known field"),
    ],
)
def test_a_wrong_dictionary_is_refused_by_field(world: Any, changes: dict[str, Any], complaint: str) -> None:
    document = {**Checkpoint.make(world.audit, **MADE).to_dict(), **changes}
    with pytest.raises(InvalidCheckpoint, match=complaint):
        Checkpoint.from_dict(document)


def test_a_missing_field_is_named(world: Any) -> None:
    document = Checkpoint.make(world.audit, **MADE).to_dict()
    for name in list(document):
        with pytest.raises(InvalidCheckpoint, match=f"{name}: is missing"):
            Checkpoint.from_dict({k: v for k, v in document.items() if k != name})
