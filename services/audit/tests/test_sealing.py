"""From messages to chained entries: every message has one, once, and only what is believed counts as the event."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from countersign_audit.arrival import Believed, examine
from countersign_audit.sealing import Sealed, ids_of, seal_all
from countersign_audit.wrapped import MAX_WRAPPED_BODY_BYTES, Known
from countersign_contracts.envelope import seal_event
from countersign_contracts.topology import REPEATED_TYPE, UNVERIFIED_TYPE
from countersign_ledger import Chain


class Ledger:
    """A ledger in memory, written batch by batch as the appender does."""

    def __init__(self, keys: Any, at: Any) -> None:
        self.keys, self.at = keys, at
        self.trust = keys.trust
        self.entries: list[Sealed] = []

    def record(self, *messages: Any) -> list[Sealed]:
        arrivals = [examine(m, self.trust) for m in messages]
        wanted = set(ids_of(arrivals))
        known = {
            s.entry.event_id: Known(
                s.entry.seq,
                s.entry.type,
                sha256(s.entry.body).digest(),
                f"{s.entry.stream}.{s.entry.epoch}.{s.entry.stream_seq}",
            )
            for s in self.entries
            if s.entry.event_id in wanted
        }
        chain = Chain(self.entries[-1].entry.seq, self.entries[-1].entry.hash) if self.entries else Chain()
        sealed = seal_all(chain, arrivals, known, key=self.keys.keys["audit"], at=self.at)
        self.entries += sealed
        return sealed

    def check(self) -> None:
        """The chain is whole, every signature holds, and no id stands twice."""
        chain = Chain()
        for sealed in self.entries:
            entry = sealed.entry
            assert (entry.seq, entry.prev_hash) == (chain.head_seq + 1, chain.head_hash)
            assert entry.compute_hash() == entry.hash
            self.trust.verify(entry.keyid, entry.type, entry.signing_bytes(), entry.signature, at=entry.time)
            chain = Chain(entry.seq, entry.hash)
        assert len({s.entry.event_id for s in self.entries}) == len(self.entries)


def test_an_event_is_recorded_as_it_was_received(make: Any, keys: Any) -> None:
    message = keys.message(make.granted(), "policy", 17)
    (sealed,) = Ledger(keys, make.at).record(message)
    entry = sealed.entry
    assert sealed.verdict == "verified"
    assert (entry.stream, entry.epoch, entry.stream_seq) == ("ACTIONS", message.epoch, 17)
    assert entry.body is message.body
    assert entry.event_id == message.headers["ce-id"]
    assert entry.recorded_at == "2026-01-31T12:00:00.250000Z"


def test_a_message_delivered_again_is_not_recorded_again(make: Any, keys: Any) -> None:
    ledger = Ledger(keys, make.at)
    message = keys.message(make.granted(), "policy")
    assert len(ledger.record(message, message)) == 1
    assert ledger.record(replace(message, tries=2)) == []


def test_an_event_published_again_is_recorded_as_a_repeat(make: Any, keys: Any) -> None:
    """Every message of a stream has its entry: otherwise a repeat would look like a gap."""
    ledger = Ledger(keys, make.at)
    event = make.granted()
    ledger.record(keys.message(event, "policy", 1))
    later = keys.message(event, "policy", 5, at=make.at + timedelta(minutes=3))
    (repeat,) = ledger.record(later)
    assert (repeat.verdict, repeat.entry.type, repeat.entry.stream_seq) == ("repeated", REPEATED_TYPE, 5)
    assert repeat.found.request_id == event.action.request_id
    body = orjson.loads(repeat.entry.body)
    assert (body["event_id"], body["first_seq"]) == (event.event_id(), 1)
    assert ledger.record(later) == []
    ledger.check()


def test_another_content_under_the_same_id_is_recorded_as_unverified(make: Any, keys: Any) -> None:
    ledger = Ledger(keys, make.at)
    event = make.granted()
    ledger.record(keys.message(event, "policy", 1))
    other = keys.message(event.model_copy(update={"warrant": "another"}), "policy", 2)
    (conflict,) = ledger.record(other)
    assert (conflict.verdict, conflict.entry.type) == ("unverified", UNVERIFIED_TYPE)
    assert conflict.doubt is not None and conflict.doubt.code == "conflict"
    assert conflict.found.request_id is None, "what it claims is not a fact"
    assert b64decode(orjson.loads(conflict.entry.body)["body"]) == other.body
    assert ledger.record(other) == []
    ledger.check()


def test_both_are_told_apart_within_one_batch(make: Any, keys: Any) -> None:
    ledger = Ledger(keys, make.at)
    event = make.granted()
    same, other = keys.message(event, "policy", 2), event.model_copy(update={"warrant": "another"})
    sealed = ledger.record(keys.message(event, "policy", 1), same, keys.message(other, "policy", 3), same)
    assert [s.verdict for s in sealed] == ["verified", "repeated", "unverified"]
    ledger.check()


def test_what_is_not_believed_is_kept_whole(make: Any, keys: Any) -> None:
    ledger = Ledger(keys, make.at)
    message = keys.message(make.granted(), "policy", 9)
    forged = replace(message, body=message.body + b" ")
    (sealed,) = ledger.record(forged)
    body = orjson.loads(sealed.entry.body)
    assert sealed.verdict == "unverified"
    assert sealed.entry.source == "/countersign/audit"
    assert sealed.entry.event_id == f"ACTIONS.{message.epoch}.9.unverified"
    assert (body["stream"], body["stream_seq"], body["subject"]) == ("ACTIONS", 9, forged.subject)
    assert body["headers"] == forged.headers
    assert b64decode(body["body"]) == forged.body
    assert (body["body_sha256"], body["truncated"]) == (sha256(forged.body).hexdigest(), False)
    assert ledger.record(replace(forged, tries=2)) == []
    ledger.check()


def test_of_a_huge_message_the_beginning_and_the_hash_are_kept(keys: Any, make: Any) -> None:
    body = bytes(range(256)) * 4000
    message = replace(keys.message(make.granted(), "policy"), body=body, headers={"x": "\udcff" * 3000, "y": "z"})
    (sealed,) = Ledger(keys, make.at).record(message)
    wrapped = orjson.loads(sealed.entry.body)
    assert b64decode(wrapped["body"]) == body[:MAX_WRAPPED_BODY_BYTES]
    assert (wrapped["body_bytes"], wrapped["truncated"]) == (len(body), True)
    assert wrapped["body_sha256"] == sha256(body).hexdigest()
    assert wrapped["headers"] == {"x": r"\udcff" * 1024, "y": "z"}


def test_an_attribute_that_cannot_be_chained_is_recorded_as_unverified(make: Any, keys: Any) -> None:
    event = make.granted()
    envelope = replace(seal_event(event, time=make.at, key=keys.keys["policy"]), subject="s" * 70_000)
    envelope = replace(envelope, signature=keys.keys["policy"].sign(envelope.signing_bytes()))
    ledger = Ledger(keys, make.at)
    (sealed,) = ledger.record(keys.stored(envelope, event.nats_subject()))
    assert sealed.doubt is not None and sealed.doubt.code == "unstorable"
    ledger.check()


def test_a_clock_that_runs_ahead_does_not_hide_an_event(make: Any, keys: Any) -> None:
    message = keys.message(make.granted(), "policy", at=make.at + timedelta(hours=2))
    (sealed,) = Ledger(keys, make.at).record(message)
    assert sealed.found.at == make.at
    assert sealed.entry.time == "2026-01-31T14:00:00.250000Z"


_PLACES = st.integers(1, 12)
_DELIVERIES = st.lists(st.lists(st.tuples(_PLACES, st.integers(1, 3)), min_size=1, max_size=8), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    batches=_DELIVERIES,
    contents=st.lists(st.tuples(st.integers(0, 3), st.sampled_from("aab!")), min_size=12, max_size=12),
)
def test_every_message_has_one_entry_whatever_is_delivered_how_often(
    make: Any, keys: Any, batches: list[list[tuple[int, int]]], contents: list[tuple[int, str]]
) -> None:
    """Twelve places of a stream hold four events, some with two contents and some forged, delivered in any order."""
    events = [make.granted() for _ in range(4)]
    messages = {}
    for place, (which, content) in enumerate(contents, start=1):
        message = keys.message(events[which].model_copy(update={"warrant": content}), "policy", place)
        messages[place] = replace(message, body=message.body + b"!") if content == "!" else message
    ledger = Ledger(keys, make.at)
    for batch in batches:
        ledger.record(*(replace(messages[place], tries=tries) for place, tries in batch))
    ledger.check()
    delivered = {place for batch in batches for place, _ in batch}
    assert sorted(s.entry.stream_seq for s in ledger.entries) == sorted(delivered)
    for sealed in ledger.entries:
        message = messages[sealed.entry.stream_seq]
        assert (sealed.verdict == "verified") == (sealed.entry.body == message.body)
        if sealed.verdict == "verified":
            assert isinstance(examine(message, ledger.trust), Believed)
