"""A second verifier, written from the README alone, and held against the first on the same exports.

It says only yes or no. It shares nothing with the library: plain `json`, `hashlib` and `int.to_bytes`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from countersign_ledger import verify_export
from countersign_ledger.export import encode_item

TEXTS = ("event_id", "type", "source", "subject", "time", "keyid")


def second_verifier(lines: Iterable[bytes], bundle_json: str) -> None:
    """Assert that this is a sound and whole export of the bundle's deployment."""
    bundle = json.loads(bundle_json)
    keys = {key["kid"]: key for key in bundle["keys"]}

    def check(kid: str, type: str, message: str, signature: str) -> None:
        assert type in keys[kid]["emits"]
        public = base64.urlsafe_b64decode(keys[kid]["public_key"] + "=")
        Ed25519PublicKey.from_public_bytes(public).verify(b64(signature), message.encode())

    def check_checkpoint(c: dict[str, Any], entry_hash: str) -> None:
        assert c["hash"] == entry_hash and c["deployment"] == bundle["deployment"]
        parts = (
            "countersign-checkpoint-v1",
            c["deployment"],
            str(c["seq"]),
            c["hash"],
            c["time"],
            c["keyid"],
        )
        check(c["keyid"], "countersign.checkpoint.v1", "\n".join(parts), c["signature"])

    documents = [json.loads(line) for line in lines]
    header = documents.pop(0)
    assert (header["format"], header["version"]) == ("countersign-ledger-export", 1)
    seq, prev = 0, "0" * 64
    streams: dict[tuple[str, int], int] = {}
    for document in documents:
        if "checkpoint" in document:
            assert document["checkpoint"]["seq"] == seq
            check_checkpoint(document["checkpoint"], prev)
            continue
        entry = document["entry"]
        body_hash = hashlib.sha256(b64(entry["body"]))
        assert (entry["seq"], entry["prev_hash"]) == (seq + 1, prev)
        key = (entry["stream"], entry["epoch"])
        assert entry["stream_seq"] == streams.get(key, entry["stream_seq"] - 1) + 1
        form = b"countersign-ledger-entry-v1\0" + bytes.fromhex(prev) + u64(entry["seq"])
        form += sized(entry["stream"].encode()) + u64(entry["epoch"]) + u64(entry["stream_seq"])
        for name in TEXTS:
            form += sized(entry[name].encode())
        form += sized(b64(entry["signature"])) + sized(entry["recorded_at"].encode()) + sized(body_hash.digest())
        assert hashlib.sha256(form).hexdigest() == entry["hash"]
        signed = "\n".join(["countersign-event-v1", *(entry[name] for name in TEXTS), body_hash.hexdigest()])
        check(entry["keyid"], entry["type"], signed, entry["signature"])
        seq, prev = entry["seq"], entry["hash"]
        streams[key] = entry["stream_seq"]
    assert header["head"]["seq"] == header["last_seq"] == seq
    check_checkpoint(header["head"], prev)


def u64(number: int) -> bytes:
    return number.to_bytes(8, "big")


def sized(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def b64(text: str) -> bytes:
    raw = base64.b64decode(text, validate=True)
    assert base64.b64encode(raw).decode() == text
    return raw


def second_says(lines: Iterable[bytes], bundle_json: str) -> bool:
    try:
        second_verifier(lines, bundle_json)
    except (AssertionError, KeyError, ValueError, InvalidSignature):
        return False
    return True


def test_both_accept_a_sound_export(world: Any, lines_of: Callable[[int], list[bytes]]) -> None:
    second_verifier(lines_of(25), world.bundle.to_json())
    assert verify_export(lines_of(25), world.bundle).ok


@pytest.mark.parametrize("at", range(26))
@pytest.mark.parametrize("how", ["delete", "repeat", "swap", "cut", "field"])
def test_both_refuse_the_same(how: str, at: int, world: Any, lines_of: Callable[[int], list[bytes]]) -> None:
    lines = lines_of(25)
    match how:
        case "delete":
            del lines[at]
        case "repeat":
            lines.insert(at, lines[at])
        case "swap":
            lines[at], lines[at + 1] = lines[at + 1], lines[at]
        case "cut":
            del lines[at + 1 :]
        case "field":
            document = json.loads(lines[at])
            part = document.get("entry") or document.get("checkpoint") or document["head"]
            name = sorted(part)[at % len(part)]
            part[name] = part[name] + (1 if isinstance(part[name], int) else "0")
            lines[at] = json.dumps(document).encode()
    ours = verify_export(lines, world.bundle).ok
    assert second_says(lines, world.bundle.to_json()) == ours
    harmless = how in ("delete", "repeat") and lines_of(25)[at].startswith(b'{"checkpoint"')
    assert ours == harmless


def test_both_refuse_what_was_rehashed(world: Any) -> None:
    entries = world.ledger(12)
    for rewritten in (
        world.rehash(entries, 4, body=b"other"),
        world.rehash(entries, 4, recorded_at="2026-01-31T11:00:00.000000Z"),
        world.rehash(entries, 4, stream_seq=9),
    ):
        lines = world.export(rewritten, every=100, head=world.checkpoint(entries[-1]))
        assert not second_says(lines, world.bundle.to_json())
        assert not verify_export(lines, world.bundle).ok


def test_what_is_written_is_what_the_second_reads(world: Any) -> None:
    (entry,) = world.entries([world.record(1, subject='Zoë "🎫"', body=bytes(range(256)))])
    document = json.loads(encode_item(entry))["entry"]
    assert b64(document["body"]) == entry.body and document["subject"] == entry.subject
    assert replace(entry, hash=bytes.fromhex(document["hash"])) == entry
