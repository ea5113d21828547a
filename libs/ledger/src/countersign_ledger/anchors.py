"""The genuine checkpoints, wherever they come from, each to be compared with the entry it is for.

A checkpoint may come before its entry (the header's, those kept outside) or right after it. One that its
key may not have signed proves nothing, and is a finding instead.
"""

from __future__ import annotations

from .checkpoint import Checkpoint
from .errors import BadSignature, LedgerError
from .links import Links
from .report import FindingLog
from .trust import TrustBundle


class Anchors:
    """Judges checkpoints and holds the genuine ones until their entry comes. Adds what it finds to `log`."""

    def __init__(self, bundle: TrustBundle, log: FindingLog, links: Links) -> None:
        self._bundle = bundle
        self._log = log
        self._links = links
        self._expected: dict[int, list[tuple[Checkpoint, str]]] = {}
        self.covered = 0
        """The highest sequence that a genuine checkpoint is for."""

    def is_genuine(self, checkpoint: Checkpoint, origin: str) -> bool:
        """Whether a key signed it that may. `origin` says where it stands: "the header's checkpoint"."""
        try:
            checkpoint.verify(self._bundle)
        except LedgerError as error:
            self._log.add(
                "checkpoint-untrusted",
                checkpoint.seq,
                f"{_sentence(origin)}, for entry {checkpoint.seq}, proves nothing: {error}.",
                same_cause=None if isinstance(error, BadSignature) else (type(error), checkpoint.keyid),
            )
            return False
        self.covered = max(self.covered, checkpoint.seq)
        return True

    def expect(self, checkpoint: Checkpoint, origin: str) -> None:
        """Hold this genuine checkpoint until its entry comes."""
        self._expected.setdefault(checkpoint.seq, []).append((checkpoint, origin))

    def meet(self, checkpoint: Checkpoint, origin: str) -> None:
        """Compare this genuine checkpoint with the entry that came last."""
        self._links.meet(checkpoint, _sentence(origin))

    def reach(self, seq: int) -> None:
        """The entry `seq` came: compare it with what was held for it."""
        for checkpoint, origin in self._expected.pop(seq, ()):
            self.meet(checkpoint, origin)

    def count_before(self, seq: int) -> int:
        """How many are held for entries before `seq`."""
        return sum(len(held) for at, held in self._expected.items() if at < seq)

    def finish(self) -> None:
        """Compare those whose entry did not come with each other."""
        for seq, held in self._expected.items():
            if len({checkpoint.hash for checkpoint, _ in held}) > 1:
                self._log.add(
                    "checkpoint-mismatch",
                    seq,
                    f"Genuine checkpoints for entry {seq} have different hashes: the ledger was rewritten.",
                )


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]
