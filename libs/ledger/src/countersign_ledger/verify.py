"""Verifies an export offline, from the export and the trust bundle alone.

One pass in constant memory. Each entry is checked by itself (its hash, its event's signature), against its
neighbours (its sequence, its link, its stream) and against every genuine checkpoint for it: the header's,
those between the entries, and those kept outside. After something false the walk goes on from what the
lines themselves say, and reports a cause once.

Not here: reading files, printing, exit codes (the CLI), and what may be wrong with the events as events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Final

from .anchors import Anchors
from .checkpoint import Checkpoint
from .completeness import Completeness
from .entry import GENESIS, Entry
from .errors import BadSignature, InvalidEntry, InvalidExport, NotEntitled, UnknownKey, UntrustedError
from .export import ExportHeader, bounded_lines, decode_header, decode_item
from .links import Links
from .report import FindingLog, Kind, Report
from .streams import StreamWatch
from .text import shown
from .trust import UNVERIFIED_TYPE, TrustBundle

_PROGRESS_EVERY: Final = 1000
_MAX_LISTED: Final = 10
_KINDS: Final[dict[type[UntrustedError], Kind]] = {
    UnknownKey: "unknown-key",
    NotEntitled: "not-entitled",
    BadSignature: "bad-signature",
}


def verify_export(
    lines: Iterable[bytes | str],
    bundle: TrustBundle,
    known_checkpoints: Iterable[Checkpoint] = (),
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Verify an export against a trust bundle, and against checkpoints kept outside the ledger.

    `lines` are the export's lines, or a binary stream of it, which is then read in lines of bounded length.
    A key's validity is judged at the time that its signer states. `progress` is called with the number of
    entries so far, after every thousand and at the end. Whatever the lines contain, the result is a report;
    nothing is raised but what the given iterables and `progress` raise.
    """
    numbered: Iterator[tuple[int, bytes | str]] = enumerate(bounded_lines(lines), start=1)
    walk = _Walk(bundle, progress)
    _, first = next(numbered, (1, b""))
    if not walk.begin(first):
        numbered = chain([(1, first)], numbered)
    for checkpoint in known_checkpoints:
        walk.expect(checkpoint, "a checkpoint kept outside")
        walk.outside += 1
    for number, line in numbered:
        walk.take(line, number)
    return walk.end()


class _Walk:
    """One pass over an export: `begin` with its first line, `expect` checkpoints, `take` its lines, `end`."""

    def __init__(self, bundle: TrustBundle, progress: Callable[[int], None] | None) -> None:
        self._bundle = bundle
        self._progress = progress
        self._log = FindingLog()
        self._links = Links(self._log)
        self._anchors = Anchors(bundle, self._log, self._links)
        self._streams = StreamWatch(self._log)
        self._completeness = Completeness(self._log)
        self._header: ExportHeader | None = None
        self._head_genuine = False
        self._same_deployment = True
        self._entries = 0
        self._checkpoints = 0
        self._wrapped = 0
        self._wrapped_listed: list[int] = []
        self.outside = 0

    def begin(self, line: bytes | str) -> bool:
        """Take the first line; False if it is no header but should be taken as one of the others."""
        try:
            header = self._header = decode_header(line)
        except InvalidExport as error:
            self._log.add(
                "header",
                None,
                f"The first line cannot be read as a header: {error.reason}. Without the checkpoint in it, "
                "the end of the export is not proven.",
            )
            try:
                decode_item(line, 1)
            except InvalidExport:
                return True
            return False
        if header.deployment != self._bundle.deployment:
            self._same_deployment = False
            self._log.add(
                "wrong-deployment",
                None,
                f"This is an export of deployment {shown(header.deployment)}, and the trust bundle is of "
                f"{shown(self._bundle.deployment)}: no signature can be checked.",
            )
        self._completeness.begin_at(header.first_seq)
        self._completeness.exists(header.last_seq, f"its header says that it ends with entry {header.last_seq}")
        self._head_genuine = self.expect(header.head, "the header's checkpoint")
        return True

    def expect(self, checkpoint: Checkpoint, origin: str) -> bool:
        """Compare this checkpoint with its entry when that comes; False if the checkpoint is not genuine."""
        if not self._is_genuine(checkpoint, origin):
            return False
        self._anchors.expect(checkpoint, origin)
        return True

    def take(self, line: bytes | str, number: int) -> None:
        """Take a line after the first."""
        try:
            item = decode_item(line, number)
            if isinstance(item, Entry):
                self._take_entry(item)
            else:
                self._take_checkpoint(item, number)
        except InvalidExport as error:
            self._completeness.cannot_read(number, error.reason)
        except InvalidEntry as error:
            self._completeness.cannot_read(number, f"is not an entry ({error})")

    def end(self) -> Report:
        """Say what can only be said at the end, and report."""
        if self._progress is not None:
            self._progress(self._entries)
        first, last = self._completeness.lowest, self._completeness.highest
        if first is None and self._completeness.next_seq == 1:
            self._links.start(0, GENESIS)
            self._anchors.reach(0)
        self._links.finish()
        self._completeness.finish()
        self._anchors.finish()
        self._judge_header(first, last)
        notes = [
            *self._streams.finish(complete=first == 1),
            *self._other_notes(first, last),
            *self._log.notes(),
        ]
        return Report(
            entries=self._entries,
            first_seq=first or 0,
            last_seq=last or 0,
            checkpoints=self._checkpoints,
            findings=self._log.findings(),
            notes=tuple(notes),
            left_out=self._log.left_out,
        )

    def _take_entry(self, entry: Entry) -> None:
        computed = entry.compute_hash()
        intact = computed == entry.hash
        distrust = self._distrust(entry)
        seq = entry.seq
        if not intact:
            seq = self._altered(entry, distrust)
        elif distrust is not None:
            self._untrusted(entry, distrust)
        follows = self._completeness.take(seq)
        if not follows:
            self._streams.interrupt()
        if not follows or self._links.previous_hash is None:
            self._links.start(seq - 1, GENESIS if seq == 1 else entry.prev_hash)
            if intact:
                self._anchors.reach(seq - 1)
        self._links.follow(seq, entry.prev_hash, entry.hash, computed)
        self._anchors.reach(seq)
        if intact:
            self._streams.see(entry.stream, entry.epoch, entry.stream_seq, seq)
        else:
            self._streams.interrupt()
        if entry.type == UNVERIFIED_TYPE:
            self._wrapped += 1
            if len(self._wrapped_listed) < _MAX_LISTED:
                self._wrapped_listed.append(seq)
        self._entries += 1
        if self._progress is not None and self._entries % _PROGRESS_EVERY == 0:
            self._progress(self._entries)

    def _take_checkpoint(self, checkpoint: Checkpoint, number: int) -> None:
        self._checkpoints += 1
        origin = f"the checkpoint in line {number}"
        if not self._is_genuine(checkpoint, origin):
            return
        due = self._completeness.next_seq - 1
        if checkpoint.seq == self._completeness.last:
            self._anchors.meet(checkpoint, origin)
        elif checkpoint.seq >= due:
            self._anchors.expect(checkpoint, origin)
        if checkpoint.seq != due:
            self._completeness.misplaced(number, checkpoint.seq)

    def _is_genuine(self, checkpoint: Checkpoint, origin: str) -> bool:
        if not self._same_deployment or not self._anchors.is_genuine(checkpoint, origin):
            return False
        self._completeness.exists(checkpoint.seq, f"{origin} proves that there was an entry {checkpoint.seq}")
        return True

    def _distrust(self, entry: Entry) -> UntrustedError | None:
        """Why the event's signature is not to be believed; None if it holds, or cannot be checked at all."""
        if self._same_deployment:
            try:
                self._bundle.verify(entry.keyid, entry.type, entry.signing_bytes(), entry.signature, at=entry.time)
            except UntrustedError as error:
                return error
        return None

    def _untrusted(self, entry: Entry, error: UntrustedError) -> None:
        kind = _KINDS[type(error)]
        self._log.add(
            kind,
            entry.seq,
            f"The event in entry {entry.seq} ({shown(entry.type)}, {shown(entry.event_id)}) proves nothing: "
            f"{error}. It was forged or changed before the entry was hashed.",
            same_cause=None if kind == "bad-signature" else (kind, entry.keyid, entry.type),
        )

    def _altered(self, entry: Entry, distrust: UntrustedError | None) -> int:
        """Say what was altered, as exactly as can be told. Returns the sequence it was recorded with."""
        seq = entry.seq
        expected, previous = self._completeness.next_seq, self._links.previous_hash
        if seq != expected and replace(entry, seq=expected).compute_hash() == entry.hash:
            what = f"its seq was {expected} and is now {seq}"
            seq = expected
        elif previous is not None and replace(entry, prev_hash=previous).compute_hash() == entry.hash:
            what = "its prev_hash was changed, and nothing else"
        elif distrust is not None:
            what = f"the event itself was changed, for {distrust}"
        elif self._same_deployment:
            what = "the event is as signed, so what audit added to it was changed, or one of the hashes"
        else:
            what = "its content does not give its hash"
        self._log.add("altered", seq, f"Entry {seq} was altered after it was recorded: {what}.")
        return seq

    def _judge_header(self, first: int | None, last: int | None) -> None:
        header = self._header
        if header is None:
            return
        if first is None or last is None:
            if header.last_seq < header.first_seq and (header.first_seq, header.last_seq) != (1, 0):
                self._header_wrong(f"there are no entries from {header.first_seq} to {header.last_seq}")
            return
        if first < header.first_seq:
            self._header_wrong(f"it says that the first entry is {header.first_seq}, and that is {first}")
        if last > header.last_seq:
            self._header_wrong(f"it says that the last entry is {header.last_seq}, and that is {last}")
        if self._head_genuine and last > self._anchors.covered:
            start = self._anchors.covered + 1
            self._log.add(
                "uncovered",
                start,
                f"No checkpoint is for entry {last} or a later one: from entry {start} on, entries could be "
                "changed or cut off.",
            )
        elif self._head_genuine and header.head.seq < header.last_seq <= last:
            self._header_wrong(f"its checkpoint is for entry {header.head.seq}, not for {header.last_seq}")

    def _header_wrong(self, what: str) -> None:
        self._log.add("header", None, f"The header is wrong: {what}.")

    def _other_notes(self, first: int | None, last: int | None) -> list[str]:
        notes = []
        if first is not None and first > 1:
            notes.append(f"This is a partial export: what was recorded before entry {first} is not verified.")
            if before := self._anchors.count_before(first):
                notes.append(f"Checkpoints for entries before this export were not compared: {before}.")
        if self._wrapped:
            first_few = ", ".join(map(str, self._wrapped_listed))
            more = ", ..." if self._wrapped > _MAX_LISTED else ""
            notes.append(f"Events not verifiable on arrival: {self._wrapped}, in entries {first_few}{more}.")
        if later := self._links.more_contradictions:
            notes.append(f"Later checkpoints that have other hashes too, as follows from the first: {later}.")
        if not self.outside and self._same_deployment:
            end = f"goes on after entry {last}" if last else "has entries"
            notes.append(f"No checkpoint kept outside was given: that the ledger {end} cannot be ruled out.")
        return notes
