"""Watches that the events of each stream stand on record one after the other: gaps show.

A stream is known by its name and epoch, and may begin at any sequence (an older epoch was wiped, an export
is partial); from there on each event must follow. Sequences are compared only across entries that are
themselves in order and unaltered, so that one deleted entry is not reported a second time as a gap of its
stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from .report import FindingLog
from .text import shown

_MAX_OPEN_GAPS: Final = 100


@dataclass(slots=True)
class _Gap:
    first: int
    last: int
    seq: int  # of the entry after the gap


@dataclass(slots=True)
class _Stream:
    began: int
    last: int
    seq: int  # of the entry that holds `last`
    stretch: int
    gaps: list[_Gap] = field(default_factory=list)


class StreamWatch:
    """Follows the sequences of all streams through the ledger and adds what it finds to `log`."""

    def __init__(self, log: FindingLog) -> None:
        self._log = log
        self._streams: dict[tuple[str, int], _Stream] = {}
        self._stretch = 0

    def interrupt(self) -> None:
        """The ledger itself is not sound here: compare nothing across this place."""
        self._stretch += 1

    def see(self, stream: str, epoch: int, stream_seq: int, seq: int) -> None:
        """Entry `seq` holds event `stream_seq` of this stream."""
        state = self._streams.get((stream, epoch))
        if state is None:
            self._streams[stream, epoch] = _Stream(stream_seq, stream_seq, seq, self._stretch)
            return
        if state.stretch != self._stretch:
            self._report_gaps(stream, epoch, state)
            state.last, state.seq, state.stretch = stream_seq, seq, self._stretch
            return
        if stream_seq <= state.last:
            self._late(stream, epoch, state, stream_seq, seq)
            return
        if stream_seq > state.last + 1:
            if len(state.gaps) == _MAX_OPEN_GAPS:
                self._report_gaps(stream, epoch, state)
            state.gaps.append(_Gap(state.last + 1, stream_seq - 1, seq))
        state.last, state.seq = stream_seq, seq

    def finish(self, *, complete: bool) -> list[str]:
        """Report what is still open; return notes. `complete`: the export begins with the first entry."""
        notes = []
        epochs: dict[str, list[int]] = {}
        for (stream, epoch), state in self._streams.items():
            self._report_gaps(stream, epoch, state)
            epochs.setdefault(stream, []).append(epoch)
            if complete and state.began > 1:
                notes.append(
                    f"Stream {_name(stream, epoch)} is on record from its event {state.began}; what was "
                    "before it is not."
                )
        for stream, seen in epochs.items():
            if len(seen) > 1:
                notes.append(
                    f"Stream {shown(stream)} was created {len(seen)} times: whether the end of a wiped one "
                    "is on record cannot be seen."
                )
        if self._stretch:
            notes.append("Stream sequences were not compared across the places where the ledger itself is not sound.")
        return notes

    def _late(self, stream: str, epoch: int, state: _Stream, stream_seq: int, seq: int) -> None:
        name = _name(stream, epoch)
        for i, gap in enumerate(state.gaps):
            if gap.first <= stream_seq <= gap.last:
                rest = [_Gap(gap.first, stream_seq - 1, gap.seq), _Gap(stream_seq + 1, gap.last, gap.seq)]
                state.gaps[i : i + 1] = [part for part in rest if part.first <= part.last]
                self._log.add(
                    "stream-gap",
                    seq,
                    f"Event {stream_seq} of stream {name} is recorded out of order, in entry {seq}, after "
                    f"event {state.last} in entry {state.seq}.",
                )
                return
        self._log.add(
            "stream-gap",
            seq,
            f"Event {stream_seq} of stream {name} is recorded again in entry {seq}, after event "
            f"{state.last} in entry {state.seq}: it was recorded twice, or its position is false.",
        )

    def _report_gaps(self, stream: str, epoch: int, state: _Stream) -> None:
        for gap in state.gaps:
            one = gap.first == gap.last
            events = f"Event {gap.first} is" if one else f"Events {gap.first} to {gap.last} are"
            self._log.add(
                "stream-gap",
                gap.seq,
                f"{events} not on record before entry {gap.seq}, in stream {_name(stream, epoch)}: never "
                "recorded, or removed and the ledger rewritten.",
            )
        state.gaps.clear()


def _name(stream: str, epoch: int) -> str:
    return f"{shown(stream)} (created at {epoch})"
