"""Follows the hashes from entry to entry; genuine checkpoints tell which side of a broken link is false.

A link breaks when an entry's `prev_hash` is not the hash of the entry before. Alone that does not say which
of the two was replaced. A checkpoint that agrees further on proves every entry from the break up to it, so
the false one is before the break. Not here: whether a checkpoint is genuine, and whether an entry's own
hash fits its content (`verify`).
"""

from __future__ import annotations

from .checkpoint import Checkpoint
from .report import FindingLog


class Links:
    """The state between two entries. What it finds it adds to `log`."""

    def __init__(self, log: FindingLog) -> None:
        self._log = log
        self._previous: tuple[int, bytes, bytes] | None = None
        self._breaks: list[int] = []
        self._confirmed: int | None = None
        self._contradicted = False  # since the last checkpoint that agreed
        self.more_contradictions = 0

    def start(self, seq: int, hash: bytes) -> None:
        """Begin after entry `seq`, at first or after a gap. `hash` is believed to be that entry's."""
        self._settle()
        self._previous = (seq, hash, hash)
        if self._confirmed is None:
            self._confirmed = seq

    @property
    def previous_hash(self) -> bytes | None:
        """The hash the entry before says it has; None before `start`."""
        return None if self._previous is None else self._previous[1]

    def follow(self, seq: int, prev_hash: bytes, stated: bytes, computed: bytes) -> None:
        """Take the next entry. `stated` is the hash it says it has, `computed` the one its content gives.

        An altered entry is a finding already; either of its hashes continues the chain, whichever was left
        as it was.
        """
        if self._previous is not None and stated == computed and prev_hash not in self._previous[1:]:
            self._breaks.append(seq)
        self._previous = (seq, stated, computed)

    def meet(self, checkpoint: Checkpoint, origin: str) -> None:
        """Compare a genuine checkpoint with the entry taken last. `origin` says where it stands."""
        if self._previous is not None and checkpoint.hash in self._previous[1:]:
            self._confirm(checkpoint.seq)
        else:
            self._contradict(checkpoint, origin)

    def finish(self) -> None:
        """No more entries."""
        self._settle()

    def _confirm(self, seq: int) -> None:
        if self._breaks and self._breaks[-1] > 1:
            broken = self._breaks.pop()
            if self._breaks and self._breaks[-1] == broken - 1:  # one entry, broken from both its neighbours
                self._breaks.pop()
            proven = f"entry {broken}" if broken == seq else f"entries {broken} to {seq}"
            self._log.add(
                "replaced",
                broken - 1,
                f"Entry {broken - 1} is not the one that was recorded: entry {broken} continues an entry of "
                f"another hash, and a checkpoint proves {proven}.",
            )
        self._settle()
        self._confirmed = seq
        self._contradicted = False

    def _contradict(self, checkpoint: Checkpoint, origin: str) -> None:
        self._settle()
        if self._contradicted:
            self.more_contradictions += 1
            return
        self._contradicted = True
        start = min((self._confirmed or 0) + 1, checkpoint.seq)
        extent = (
            f"entry {start} is"
            if start == checkpoint.seq
            else f"of entries {start} to {checkpoint.seq} at least one is"
        )
        self._log.add(
            "checkpoint-mismatch",
            checkpoint.seq,
            f"{origin}, signed at {checkpoint.time}, has another hash for entry {checkpoint.seq} than this "
            f"export: {extent} not what was on record when it was signed. The ledger was rewritten.",
        )

    def _settle(self) -> None:
        for seq in self._breaks:
            message = (
                f"Entry {seq} does not continue entry {seq - 1}: its prev_hash is not that entry's hash. "
                "One of the two was replaced, or entries were taken out and the rest renumbered."
            )
            if seq == 1:
                message = "Entry 1 does not begin the chain: its prev_hash is not the genesis hash of zeros."
            self._log.add("broken-link", seq, message)
        self._breaks.clear()
