"""Before audit writes: does the ledger in the database still end as the last checkpoints say?

A database that was cut short, restored from an older copy or rewritten is refused with one line that names the
sequence. Not here: the whole chain from its beginning; an export and ``countersign audit verify`` look at that.
"""

from __future__ import annotations

from dataclasses import dataclass

from countersign_contracts.errors import CountersignError
from countersign_ledger.checkpoint import Checkpoint
from countersign_ledger.entry import GENESIS, Entry
from countersign_ledger.errors import InvalidEntry, UntrustedError
from countersign_ledger.trust import TrustBundle

from .store import Head, LedgerStore

#: Entries after the last checkpoint are read in pieces of at most so many, and so many bytes of bodies.
_ROWS, _BYTES = 1000, 8 * 1024 * 1024
_MEND = "Nothing is recorded until that is explained: compare with a backup and with the checkpoints kept elsewhere."


class NotSound(CountersignError):
    """The ledger in the database is not the one that was recorded."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Something that shows that there was an entry ``seq`` with this ``hash``. ``name`` says for people what it is."""

    name: str
    seq: int
    hash: bytes


async def check(
    store: LedgerStore, trust: TrustBundle, outside: Checkpoint | None, outside_name: str, own: Head
) -> tuple[Head, Checkpoint | None]:
    """Compare the ledger's end with the last checkpoint of the table, the last one ``outside``, and one's ``own`` head.

    ``own`` is what this process committed last (0: nothing yet). Returns the head and the later of the two checkpoints.
    Raises :class:`NotSound`.
    """
    head = await store.head()
    proofs = [Proof("what this process committed itself", own.seq, own.hash)]
    latest: Checkpoint | None = None
    for name, checkpoint in ((outside_name, outside), ("the table of checkpoints", await store.last_checkpoint())):
        if checkpoint is not None:
            _require_genuine(checkpoint, trust, name)
            proofs.append(Proof(f"{name} (signed at {checkpoint.time})", checkpoint.seq, checkpoint.hash))
            if latest is None or checkpoint.seq > latest.seq:
                latest = checkpoint
    for proof in proofs:
        entries = await store.entries(proof.seq, proof.seq, rows=1, body_bytes=0) if proof.seq else []
        if (fault := mismatch(proof, entries[0] if entries else None, head.seq)) is not None:
            raise NotSound(f"{fault} {_MEND}")
    await _walk(store, head, latest)
    return head, latest


def mismatch(proof: Proof, entry: Entry | None, head_seq: int) -> str | None:
    """How the ledger contradicts a proof: ``entry`` is what it holds at its sequence. None if it does not."""
    if proof.seq == 0:
        return None
    if entry is None:
        if head_seq < proof.seq:
            return (
                f"the ledger was cut short: it ends with entry {head_seq}, and {proof.name} proves entry {proof.seq}."
            )
        return f"the ledger was changed: entry {proof.seq} is missing, and {proof.name} proves it."
    if entry.hash != proof.hash or _computed(entry) != entry.hash:
        return f"the ledger was rewritten: entry {proof.seq} is not the one that {proof.name} proves."
    return None


def broken_at(previous: Entry | None, entry: Entry) -> str | None:
    """How an entry contradicts itself or the one before it (None: it is the first); None if it does not."""
    seq, hash = (0, GENESIS) if previous is None else (previous.seq, previous.hash)
    if entry.seq != seq + 1:
        return f"the ledger was changed: entry {seq + 1} is missing."
    if entry.prev_hash != hash:
        return f"the ledger was changed: entry {entry.seq} does not continue entry {seq}."
    if _computed(entry) != entry.hash:
        return f"the ledger was changed: entry {entry.seq} is not as it was recorded."
    return None


async def _walk(store: LedgerStore, head: Head, latest: Checkpoint | None) -> None:
    """Follow the chain from the last checkpoint to the end: what no checkpoint covers yet."""
    previous: Entry | None = None
    seq = latest.seq if latest is not None and latest.seq > 0 else 1
    while seq <= head.seq:
        page = await store.entries(seq, head.seq, rows=_ROWS, body_bytes=_BYTES)
        if not page:
            raise NotSound(f"the ledger was changed: entry {seq} is missing. {_MEND}")
        for entry in page:
            starts_here = previous is None and latest is not None and entry.seq == latest.seq
            if not starts_here and (fault := broken_at(previous, entry)) is not None:
                raise NotSound(f"{fault} {_MEND}")
            previous = entry
        seq = page[-1].seq + 1


def _require_genuine(checkpoint: Checkpoint, trust: TrustBundle, name: str) -> None:
    try:
        checkpoint.verify(trust)
    except UntrustedError as error:
        raise NotSound(f"the last checkpoint of {name}, for entry {checkpoint.seq}, proves nothing: {error}.") from None


def _computed(entry: Entry) -> bytes | None:
    try:
        return entry.compute_hash()
    except InvalidEntry:
        return None
