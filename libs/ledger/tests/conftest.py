"""A small deployment with fixed keys, and ledgers of it to verify and to tamper with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from countersign_ledger import (
    CHECKPOINT_TYPE,
    UNVERIFIED_TYPE,
    Chain,
    Checkpoint,
    Entry,
    ExportHeader,
    Record,
    SigningKey,
    TrustBundle,
    verify_export,
    write_export,
)

REQUESTED = "countersign.actions.requested.v1"
GRANTED = "countersign.actions.granted.v1"
EVERY = 10  # entries from one checkpoint to the next

Line = dict[str, Any]


class World:
    """The deployment `test`: gateway, policy and audit with their keys, and what they put on record."""

    def __init__(self) -> None:
        self.gateway = _key("gateway", 1)
        self.policy = _key("policy", 2)
        self.audit = _key("audit", 3)
        self.stranger = _key("stranger", 4)
        self.bundle = TrustBundle.of(
            "test",
            [
                self.gateway.trusted({REQUESTED}),
                self.policy.trusted({GRANTED}),
                self.audit.trusted({UNVERIFIED_TYPE, CHECKPOINT_TYPE}),
            ],
        )

    def record(self, number: int, **changes: Any) -> Record:
        """The `number`th event, from 1: gateway's and policy's in turn, each in a stream of its own."""
        stream, key, type = ("ACTIONS", self.gateway, REQUESTED) if number % 2 else ("GRANTS", self.policy, GRANTED)
        record = Record(
            stream=stream,
            epoch=1_700_000_000,
            stream_seq=(number + 1) // 2,
            event_id=f"request-{number}.event",
            type=type,
            source=f"/{key.service}",
            subject=f"request-{number}",
            time=f"2026-01-31T09:{number // 60 % 60:02}:{number % 60:02}Z",
            keyid=key.kid,
            signature=b"",
            recorded_at=f"2026-01-31T09:{number // 60 % 60:02}:{number % 60:02}.250000Z",
            body=json.dumps({"number": number, "to": "Zoë"}).encode(),
        )
        return self.sign(replace(record, **changes))

    def sign(self, record: Record, key: SigningKey | None = None) -> Record:
        """Sign the record's event with the key it names, or with another."""
        named = {k.kid: k for k in (self.gateway, self.policy, self.audit, self.stranger)}
        unsigned = Chain().append(record)
        return replace(record, signature=(key or named[record.keyid]).sign(unsigned.signing_bytes()))

    def entries(self, records: Iterable[Record]) -> list[Entry]:
        chain = Chain()
        return [chain.append(record) for record in records]

    def ledger(self, count: int) -> list[Entry]:
        return self.entries(self.record(number) for number in range(1, count + 1))

    def checkpoint(self, entry: Entry, key: SigningKey | None = None, deployment: str = "test") -> Checkpoint:
        return Checkpoint.make(
            key or self.audit,
            deployment=deployment,
            seq=entry.seq,
            hash=entry.hash,
            time="2026-01-31T10:00:00Z",
        )

    def export(self, entries: Sequence[Entry], every: int = EVERY, head: Checkpoint | None = None) -> list[bytes]:
        """The lines of an export of these entries, with a checkpoint after every tenth."""
        head = head or self.checkpoint(entries[-1])
        header = ExportHeader(head.deployment, entries[0].seq, head.seq, "2026-01-31T10:00:01Z", head)
        items: list[Entry | Checkpoint] = []
        for entry in entries:
            items.append(entry)
            if entry.seq % every == 0:
                items.append(self.checkpoint(entry))
        return list(write_export(header, items))

    def rehash(self, entries: Sequence[Entry], start: int, **changes: Any) -> list[Entry]:
        """What one can do who has the database but no key: change entry `start`, rehash the rest."""
        result = list(entries[: start - 1])
        prev_hash = entries[start - 1].prev_hash
        for entry in entries[start - 1 :]:
            entry = replace(entry, prev_hash=prev_hash, **(changes if entry.seq == start else {}))
            result.append(replace(entry, hash=entry.compute_hash()))
            prev_hash = result[-1].hash
        return result

    @staticmethod
    def line_of(lines: Sequence[bytes], seq: int) -> int:
        """Where in an export this entry stands."""
        return next(i for i, line in enumerate(lines) if line.startswith(b'{"entry":{"seq":%d,' % seq))

    @staticmethod
    def changed(line: bytes, name: str, change: Callable[[Any], Any]) -> bytes:
        """A line with one field of its entry, checkpoint or header changed, and nothing else."""
        document = json.loads(line)
        part = document.get("entry") or document.get("checkpoint") or document
        part[name] = change(part[name])
        return json.dumps(document).encode()

    @staticmethod
    def other(value: Any) -> Any:
        """Another value of the same form: the next number, a text with one other digit or letter."""
        if isinstance(value, int):
            return value + 1
        at = len(value) // 2
        while not value[at].isalnum():
            at += 1
        return value[:at] + ("0" if value[at] != "0" else "1") + value[at + 1 :]


def _key(service: str, seed: int) -> SigningKey:
    return SigningKey(f"{service}-1", service, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


@pytest.fixture(scope="session")
def world() -> World:
    return World()


@pytest.fixture(scope="session")
def lines_of(world: World) -> Callable[[int], list[bytes]]:
    """Exports of sound ledgers by length; made once, so copy before changing."""
    made: dict[int, list[bytes]] = {}

    def lines(count: int) -> list[bytes]:
        if count not in made:
            made[count] = world.export(world.ledger(count))
        return list(made[count])

    return lines


@pytest.fixture
def lines(lines_of: Callable[[int], list[bytes]]) -> list[bytes]:
    """An export of 25 entries, to tamper with: checkpoints after 10 and 20, the header's for 25."""
    return lines_of(25)


@pytest.fixture(scope="session")
def verify(world: World) -> Callable[..., list[tuple[int | None, str]]]:
    """The sequence and kind of each finding in these lines."""

    def run(lines: Iterable[bytes | str], known: Iterable[Checkpoint] = ()) -> list[tuple[int | None, str]]:
        return [(finding.seq, finding.kind) for finding in verify_export(lines, world.bundle, known).findings]

    return run
