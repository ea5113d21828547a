"""Before audit writes: does the ledger in the database still end as the last checkpoints say?

A database that was cut short, restored from an older copy or rewritten is refused with one line that names the sequence.
Not here: the whole chain from its beginning; that is what an export and ``countersign audit verify`` are for.
"""

from __future__ import annotations

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


async def check(
    store: LedgerStore, trust: TrustBundle, outside: Checkpoint | None, outside_name: str
) -> tuple[Head, Checkpoint | None]:
    """Compare the ledger's end with the last checkpoint of the table and the last one ``outside``.

    Returns the head and the later of the two checkpoints. Raises :class:`NotSound`.
    """
    head = await store.head()
    inside = await store.last_checkpoint()
    proofs = [(outside_name, outside), ("the table of checkpoints", inside)]
    latest: Checkpoint | None = None
    for name, checkpoint in proofs:
        if checkpoint is None:
            continue
        _require_genuine(checkpoint, trust, name)
        at = await store.entries(checkpoint.seq, checkpoint.seq, rows=1, body_bytes=0)
        if (fault := mismatch(checkpoint, at[0] if at else None, head.seq, name)) is not None:
            raise NotSound(f"{fault} {_MEND}")
        if latest is None or checkpoint.seq > latest.seq:
            latest = checkpoint
    await _walk(store, head, latest)
    return head, latest


def mismatch(checkpoint: Checkpoint, entry: Entry | None, head_seq: int, name: str) -> str | None:
    """How the ledger contradicts a checkpoint: ``entry`` is what it holds at its sequence. None if it does not."""
    if checkpoint.seq == 0:
        return None
    if entry is None:
        return (
            f"the ledger was cut short: {name} proves an entry {checkpoint.seq} (signed at {checkpoint.time}), and the"
            f" database ends with entry {head_seq}."
            if head_seq < checkpoint.seq
            else f"the ledger was changed: {name} proves an entry {checkpoint.seq}, and the database holds none."
        )
    if entry.hash != checkpoint.hash or _computed(entry) != entry.hash:
        return (
            f"the ledger was rewritten: entry {checkpoint.seq} in the database is not the one that {name} proves"
            f" (signed at {checkpoint.time})."
        )
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
