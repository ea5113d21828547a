"""What a verification found, in words for people and kinds for programs.

`FindingLog` keeps the first findings of each kind and counts the rest, so that one cause cannot bury
another. Not here: how anything is found (`verify`), or how it is printed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

Kind = Literal[
    "header",  # the first line is missing, unreadable or contradicts the lines below
    "wrong-deployment",  # the export is of another deployment than the trust bundle
    "malformed",  # a line cannot be read
    "missing",  # entries between the first and the last are not there
    "truncated",  # entries after the last are not there
    "uncovered",  # entries stand after the last checkpoint: nothing signed covers them
    "reordered",  # entries stand in another place than their sequence says
    "duplicate",  # entries stand there more than once
    "altered",  # an entry's content does not give its hash
    "broken-link",  # an entry does not continue the one before it
    "replaced",  # as broken-link, and a checkpoint shows that the earlier entry is the false one
    "bad-signature",  # the event's signature does not match the event
    "unknown-key",  # the event is signed by a key that the trust bundle does not hold
    "not-entitled",  # the event is signed by a key that may not sign this type, or not at this time
    "checkpoint-mismatch",  # a genuine checkpoint has another hash than the export
    "checkpoint-untrusted",  # a checkpoint is not signed by a key that may sign it
    "checkpoint-misplaced",  # a checkpoint does not stand after the entry it is for
    "stream-gap",  # the events of one stream were not recorded one after the other
]

MAX_FINDINGS_PER_KIND: Final = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `seq` is the entry's, the first's of several, None if it is of no entry."""

    seq: int | None
    kind: Kind
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a verification.

    `entries` and `checkpoints` count the lines that could be read. `first_seq` and `last_seq` are the
    lowest and highest sequence among the entries, 0 if there are none. `notes` say what the result does not
    cover and what is worth knowing without being wrong. `left_out` is how many findings are counted in the
    notes instead of listed.
    """

    entries: int
    first_seq: int
    last_seq: int
    checkpoints: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    left_out: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


class _Group(NamedTuple):
    finding: int
    more: int
    last: int | None


class FindingLog:
    """Collects findings, bounded."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []
        self._kept: Counter[Kind] = Counter()
        self._left_out: Counter[Kind] = Counter()
        self._groups: dict[Hashable, _Group] = {}

    def add(self, kind: Kind, seq: int | None, message: str, *, same_cause: Hashable = None) -> None:
        """Add a finding. Of those with one `same_cause` the first is kept, and says how many followed."""
        if same_cause is not None and (group := self._groups.get(same_cause)) is not None:
            self._groups[same_cause] = _Group(group.finding, group.more + 1, seq)
            return
        if self._kept[kind] >= MAX_FINDINGS_PER_KIND:
            self._left_out[kind] += 1
            return
        if same_cause is not None:
            self._groups[same_cause] = _Group(len(self._findings), 0, None)
        self._kept[kind] += 1
        self._findings.append(Finding(seq, kind, message))

    @property
    def left_out(self) -> int:
        """How many findings were counted and not kept."""
        return self._left_out.total()

    def findings(self) -> tuple[Finding, ...]:
        """Those kept: of the export as a whole first, then by sequence."""
        findings = list(self._findings)
        for group in self._groups.values():
            if group.more:
                first = findings[group.finding]
                message = f"{first.message} The same holds for {group.more} more, up to entry {group.last}."
                findings[group.finding] = replace(first, message=message)
        return tuple(sorted(findings, key=lambda finding: (finding.seq is not None, finding.seq or 0)))

    def notes(self) -> list[str]:
        """One sentence for each kind of which findings were left out."""
        return [f"{count} more findings of the kind {kind} were left out." for kind, count in self._left_out.items()]
