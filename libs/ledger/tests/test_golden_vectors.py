"""The hashes and signed bytes of the format, pinned, and computed a second time by other means.

The second implementation uses nothing of this library, and reads like the README: if the two differ,
strangers' verifiers would differ.
"""

from __future__ import annotations

import base64
import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from countersign_ledger import GENESIS, Chain, Checkpoint, Record, SigningKey, entry_hash, event_signing_bytes

SEED = bytes(range(32))
ENTRY_HASH = "eaf00b91a8d66e79d9d5a08e81f1fca4e13b6723df5165fd99b123875d401c73"
EVENT_SIGNATURE = (
    "374d2fb6d131f0c78d408076777d27ab9bd9c0407eca6bfbebdf97c48fa2ed59"
    "0f33a777e5891bd4b420f02ca3b4d1a9b1de69de6b89e86f025bddb5df43f408"
)
CHECKPOINT_SIGNATURE = (
    "b9314aaf132531a0236adc966e41da6ca6950c5116c81cc1b2f4a47d62c68208"
    "1ce8d58c7ec00a030379746092b754f9d31feb811e4b13457bec7430f1915b00"
)
EVENT_BYTES = (
    b"countersign-event-v1\n"
    b"0197a3b2-7c00-7000-8000-000000000001.granted\n"
    b"countersign.actions.granted.v1\n"
    b"/policy\n"
    b"0197a3b2-7c00-7000-8000-000000000001\n"
    b"2026-01-31T09:30:00.000001Z\n"
    b"policy-56475aa75463\n"
    b"e1d8f9f6a21be51bbf8ddac755ef69f0d43a0acd7c2f492c56fd60dfd6c24892"
)
CHECKPOINT_BYTES = (
    b"countersign-checkpoint-v1\n"
    b"production\n"
    b"7\n"
    b"eaf00b91a8d66e79d9d5a08e81f1fca4e13b6723df5165fd99b123875d401c73\n"
    b"2026-01-31T09:31:00Z\n"
    b"policy-56475aa75463"
)


def golden_key() -> SigningKey:
    return SigningKey("policy-56475aa75463", "policy", Ed25519PrivateKey.from_private_bytes(SEED))


def golden_record() -> Record:
    key = golden_key()
    event = {
        "type": "countersign.actions.granted.v1",
        "source": "/policy",
        "subject": "0197a3b2-7c00-7000-8000-000000000001",
        "time": "2026-01-31T09:30:00.000001Z",
        "keyid": key.kid,
        "body": '{"reason":"Zoë asked"}'.encode(),
    }
    id = "0197a3b2-7c00-7000-8000-000000000001.granted"
    return Record(
        stream="ACTIONS",
        epoch=1_769_850_000,
        stream_seq=42,
        event_id=id,
        signature=key.sign(event_signing_bytes(id=id, **event)),
        recorded_at="2026-01-31T09:30:00.250000Z",
        **event,
    )


def second_entry_hash(prev_hash: bytes, seq: int, record: Record) -> bytes:
    """Written from the README alone: no struct, one growing hash."""
    digest = hashlib.new("sha256")
    digest.update(b"countersign-ledger-entry-v1")
    digest.update(b"\0")
    digest.update(prev_hash)

    def number(value: int) -> None:
        digest.update(value.to_bytes(8, "big"))

    def sized(value: bytes) -> None:
        digest.update(len(value).to_bytes(4, "big"))
        digest.update(value)

    number(seq)
    sized(bytes(record.stream, "utf-8"))
    number(record.epoch)
    number(record.stream_seq)
    sized(bytes(record.event_id, "utf-8"))
    sized(bytes(record.type, "utf-8"))
    sized(bytes(record.source, "utf-8"))
    sized(bytes(record.subject, "utf-8"))
    sized(bytes(record.time, "utf-8"))
    sized(bytes(record.keyid, "utf-8"))
    sized(record.signature)
    sized(bytes(record.recorded_at, "utf-8"))
    sized(hashlib.new("sha256", record.body).digest())
    return digest.digest()


def test_entry_hash_is_as_published() -> None:
    record = golden_record()
    second = Chain(1, bytes.fromhex("11" * 32))
    assert Chain().append(record).hash.hex() == ENTRY_HASH
    assert second_entry_hash(bytes(32), 1, record).hex() == ENTRY_HASH
    assert second.append(record).hash == second_entry_hash(bytes.fromhex("11" * 32), 2, record)


def test_event_signing_bytes_are_as_published() -> None:
    entry = Chain().append(golden_record())
    assert entry.signing_bytes() == EVENT_BYTES
    assert entry.signature.hex() == EVENT_SIGNATURE
    body_hash = hashlib.new("sha256", entry.body).hexdigest().encode()
    assert EVENT_BYTES.split(b"\n")[7] == body_hash


def test_checkpoint_is_as_published() -> None:
    checkpoint = Checkpoint.make(
        golden_key(),
        deployment="production",
        seq=7,
        hash=bytes.fromhex(ENTRY_HASH),
        time="2026-01-31T09:31:00Z",
    )
    assert checkpoint.signing_bytes() == CHECKPOINT_BYTES
    assert checkpoint.signature.hex() == CHECKPOINT_SIGNATURE
    assert checkpoint.to_dict() == {
        "deployment": "production",
        "seq": 7,
        "hash": ENTRY_HASH,
        "time": "2026-01-31T09:31:00Z",
        "keyid": "policy-56475aa75463",
        "signature": base64.b64encode(bytes.fromhex(CHECKPOINT_SIGNATURE)).decode(),
    }


def test_genesis_is_32_zero_bytes() -> None:
    assert GENESIS.hex() == "0" * 64


any_text = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20)
any_number = st.integers(0, 2**64 - 1)


@given(
    prev_hash=st.binary(min_size=32, max_size=32),
    seq=any_number,
    record=st.builds(
        Record,
        stream=any_text,
        epoch=any_number,
        stream_seq=any_number,
        event_id=any_text,
        type=any_text,
        source=any_text,
        subject=any_text,
        time=any_text,
        keyid=any_text,
        signature=st.binary(max_size=80),
        recorded_at=any_text,
        body=st.binary(max_size=80),
    ),
)
def test_both_implementations_agree_on_any_entry(prev_hash: bytes, seq: int, record: Record) -> None:
    r = record
    ours = entry_hash(
        *(prev_hash, seq, r.stream, r.epoch, r.stream_seq, r.event_id, r.type, r.source, r.subject, r.time),
        *(r.keyid, r.signature, r.recorded_at, hashlib.sha256(r.body).digest()),
    )
    assert ours == second_entry_hash(prev_hash, seq, record)


@given(values=st.lists(any_text, min_size=6, max_size=6), body=st.binary(max_size=80))
def test_both_implementations_agree_on_any_event(values: list[str], body: bytes) -> None:
    names = ("id", "type", "source", "subject", "time", "keyid")
    expected = "countersign-event-v1"
    for value in values:
        expected = expected + "\n" + value
    expected += "\n" + hashlib.new("sha256", body).hexdigest()
    assert event_signing_bytes(**dict(zip(names, values, strict=True)), body=body) == expected.encode("utf-8")
