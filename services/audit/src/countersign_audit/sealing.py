"""From arrivals to chained entries: what is recorded as it is, what is wrapped, what is there already. Pure.

A message that comes from its own place again (the server never heard the ack) is on record, and nothing is added. The
same event from another place (it was published again) is recorded as a repeat, another one under its id as a conflict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Literal

from countersign_contracts.envelope import Envelope
from countersign_contracts.model import rfc3339
from countersign_ledger.entry import Chain, Entry, Record
from countersign_ledger.errors import InvalidEntry
from countersign_ledger.signing import SigningKey

from .arrival import Arrival, Believed, Doubt, Doubted, Findable, Message, place_of
from .wrapped import Known, repeated, repeated_id, unverified, unverified_id

Verdict = Literal["verified", "repeated", "unverified"]


@dataclass(frozen=True, slots=True)
class Sealed:
    """An entry ready to be written, and what it is found by. Only a ``verified`` one confirms a receipt."""

    entry: Entry
    found: Findable
    verdict: Verdict
    doubt: Doubt | None = None


def ids_of(arrivals: Iterable[Arrival]) -> list[str]:
    """Every event id under which these could be on record already."""
    ids: list[str] = []
    for arrival in arrivals:
        if (claimed := _claimed_id(arrival)) is not None:
            ids.append(claimed)
        ids += (unverified_id(arrival.message), repeated_id(arrival.message))
    return ids


def seal_all(
    chain: Chain, arrivals: Iterable[Arrival], known: Mapping[str, Known], *, key: SigningKey, at: datetime
) -> list[Sealed]:
    """Append to ``chain`` what is not on record yet, in the order of arrival.

    ``known`` is what the ledger holds under :func:`ids_of` these arrivals, or nothing where none can be a repeat.
    """
    press = _Press(chain, known, key, at)
    for arrival in arrivals:
        press.take(arrival)
    return list(press.sealed.values())


class _Press:
    """Seals arrival by arrival, and remembers those of its own batch: a repeat may follow at once."""

    def __init__(self, chain: Chain, known: Mapping[str, Known], key: SigningKey, at: datetime) -> None:
        self._chain = chain
        self._known = known
        self._key = key
        self._at = at
        self._recorded_at = rfc3339(at)
        self.sealed: dict[str, Sealed] = {}

    def take(self, arrival: Arrival) -> None:
        first = None if (claimed := _claimed_id(arrival)) is None else self._first(claimed)
        if first is not None and first.place == place_of(arrival.message):
            return
        if isinstance(arrival, Doubted):
            self._wrap(arrival.message, arrival.doubt)
        elif first is None:
            self._record(arrival)
        elif first.type == arrival.envelope.type and first.body_sha256 == sha256(arrival.envelope.body).digest():
            self._repeat(arrival, first)
        else:
            doubt = Doubt("conflict", f"{arrival.envelope.id} is on record in entry {first.seq} with another content")
            self._wrap(arrival.message, doubt)

    def _record(self, arrival: Believed) -> None:
        found = arrival.found
        if found.at > self._at:
            # nothing happens after it was recorded: a clock that runs ahead must not hide it from a search by time
            found = replace(found, at=self._at)
        try:
            self._append(arrival.message, arrival.envelope, found, "verified")
        except InvalidEntry as error:
            self._wrap(arrival.message, Doubt("unstorable", str(error)))

    def _repeat(self, arrival: Believed, first: Known) -> None:
        if self._first(repeated_id(arrival.message)) is None:
            envelope = repeated(arrival, first, key=self._key, at=self._at)
            self._append(arrival.message, envelope, replace(arrival.found, at=self._at), "repeated")

    def _wrap(self, message: Message, doubt: Doubt) -> None:
        if self._first(unverified_id(message)) is None:
            envelope = unverified(message, doubt, key=self._key, at=self._at)
            self._append(message, envelope, Findable(self._at), "unverified", doubt)

    def _append(
        self,
        message: Message,
        envelope: Envelope,
        found: Findable,
        verdict: Verdict,
        doubt: Doubt | None = None,
    ) -> None:
        entry = self._chain.append(
            Record(
                message.stream,
                message.epoch,
                message.stream_seq,
                envelope.id,
                envelope.type,
                envelope.source,
                envelope.subject,
                envelope.time,
                envelope.keyid,
                envelope.signature,
                self._recorded_at,
                envelope.body,
            )
        )
        self.sealed[entry.event_id] = Sealed(entry, found, verdict, doubt)

    def _first(self, event_id: str) -> Known | None:
        if (known := self._known.get(event_id)) is not None:
            return known
        if (sealed := self.sealed.get(event_id)) is None:
            return None
        entry = sealed.entry
        place = f"{entry.stream}.{entry.epoch}.{entry.stream_seq}"
        return Known(entry.seq, entry.type, sha256(entry.body).digest(), place)


def _claimed_id(arrival: Arrival) -> str | None:
    return arrival.envelope.id if isinstance(arrival, Believed) else arrival.claimed_id
