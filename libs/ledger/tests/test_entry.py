from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from countersign_ledger import GENESIS, MAX_BODY_BYTES, Chain, Entry, InvalidEntry, Record, entry_hash
from countersign_ledger.entry import MAX_ATTRIBUTES_BYTES
from countersign_ledger.export import decode_item, encode_item

RECORD = Record(
    stream="ACTIONS",
    epoch=1,
    stream_seq=2,
    event_id="id",
    type="type",
    source="source",
    subject="subject",
    time="2026-01-31T09:30:00Z",
    keyid="key",
    signature=b"s" * 64,
    recorded_at="2026-01-31T09:30:00.000000Z",
    body=b"body",
)
ARGUMENTS = (
    GENESIS,
    1,
    "ACTIONS",
    1,
    2,
    "id",
    "type",
    "source",
    "subject",
    "time",
    "key",
    b"s",
    "at",
    bytes(32),
)


def test_entries_are_numbered_from_1_and_linked_from_genesis() -> None:
    chain = Chain()
    first, second = chain.append(RECORD), chain.append(RECORD)
    assert (first.seq, first.prev_hash) == (1, GENESIS)
    assert (second.seq, second.prev_hash) == (2, first.hash)
    assert (chain.head_seq, chain.head_hash) == (2, second.hash)
    assert first.hash != second.hash


def test_an_entry_is_its_record_and_three_fields() -> None:
    entry = Chain().append(RECORD)
    for field in fields(Record):
        assert getattr(entry, field.name) == getattr(RECORD, field.name)
    assert [field.name for field in fields(Entry)] == [
        "seq",
        *(field.name for field in fields(Record)),
        "prev_hash",
        "hash",
    ]


def test_a_chain_continues_where_another_ended() -> None:
    whole, before = Chain(), Chain()
    expected = [whole.append(replace(RECORD, stream_seq=n)) for n in range(4)]
    for n in range(2):
        before.append(replace(RECORD, stream_seq=n))
    after = Chain(before.head_seq, before.head_hash)
    assert [after.append(replace(RECORD, stream_seq=n)) for n in (2, 3)] == expected[2:]


def other(value: Any) -> Any:
    """The least different value of the same type."""
    if isinstance(value, int):
        return value + 1
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    return value[:-1] + chr(ord(value[-1]) ^ 1)


@pytest.mark.parametrize("index", range(len(ARGUMENTS)))
def test_the_hash_covers_every_argument(index: int) -> None:
    changed = list(ARGUMENTS)
    changed[index] = other(changed[index])
    assert entry_hash(*changed) != entry_hash(*ARGUMENTS)


@pytest.mark.parametrize("index", [5, 6, 7, 8, 9])
def test_text_cannot_move_from_one_argument_to_the_next(index: int) -> None:
    changed: list[Any] = list(ARGUMENTS)
    changed[index], changed[index + 1] = changed[index] + changed[index + 1][0], changed[index + 1][1:]
    assert entry_hash(*changed) != entry_hash(*ARGUMENTS)


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0, b"short"),
        (0, bytes(33)),
        (1, -1),
        (1, 2**64),
        (3, 2**64),
        (4, -1),
        (2, "\ud800"),
        (8, "x" * 70_000),
        (13, b"short"),
    ],
)
def test_what_does_not_fit_the_hashed_form_is_refused(index: int, value: Any) -> None:
    arguments = list(ARGUMENTS)
    arguments[index] = value
    with pytest.raises(InvalidEntry, match="cannot be hashed"):
        entry_hash(*arguments)


def test_the_largest_entry_is_recorded() -> None:
    largest = replace(RECORD, source="", body=bytes(MAX_BODY_BYTES))
    texts = (largest.stream, largest.event_id, largest.type, largest.subject, largest.time, largest.keyid)
    # 28 bytes of tag, 32 of prev_hash, 3 numbers of 8, 10 lengths of 4, the body's hash
    used = 28 + 32 + 3 * 8 + 10 * 4 + 32 + len("".join(texts)) + len(largest.signature) + len(largest.recorded_at)
    largest = replace(largest, source="s" * (MAX_ATTRIBUTES_BYTES - used))
    entry = Chain().append(largest)
    assert decode_item(encode_item(entry), 2) == entry
    with pytest.raises(InvalidEntry, match="attributes exceed 65536 bytes"):
        Chain().append(replace(largest, source=largest.source + "s"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"recorded_at": "2026-01-31T09:30:00Z"},
        {"recorded_at": "2026-01-31T09:30:00.000000+00:00"},
        {"recorded_at": "2026-01-31T09:30:00.000000000Z"},
        {"recorded_at": "2026-02-30T09:30:00.000000Z"},
        {"subject": "a\nb"},
        {"stream": "a\0b"},
        {"time": "\ud800"},
        {"epoch": -1},
        {"stream_seq": 2**64},
        {"source": "x" * 70_000},
        {"body": bytes(MAX_BODY_BYTES + 1)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_record_that_no_verifier_would_take_is_refused_and_the_chain_unchanged(
    wrong: dict[str, Any],
) -> None:
    chain = Chain()
    chain.append(RECORD)
    head = (chain.head_seq, chain.head_hash)
    with pytest.raises(InvalidEntry, match="entry 2"):
        chain.append(replace(RECORD, **wrong))
    assert (chain.head_seq, chain.head_hash) == head


@pytest.mark.parametrize("head", [(-1, GENESIS), (0, b"\1" * 32), (1, GENESIS), (1, b"short"), (2**64 - 1, b"\1" * 32)])
def test_a_chain_has_a_possible_head(head: tuple[int, bytes]) -> None:
    with pytest.raises(InvalidEntry):
        Chain(*head)
