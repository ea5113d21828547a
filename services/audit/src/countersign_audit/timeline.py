"""The timeline: who, what, why, when, who approved, what ran, read from the ledger's entries."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson

from countersign_contracts.commands import ReadTimeline, Timeline, TimelineEntry

from .arrival import kind_of
from .store import LedgerStore, TimelineRow

#: A larger body is left out of the timeline (an export has it), and a page ends before it would exceed what one
#: message of the bus carries, 1 MiB.
MAX_SHOWN_BYTES = 128 * 1024
MAX_PAGE_BYTES = 600 * 1024


async def read(store: LedgerStore, asked: ReadTimeline) -> Timeline:
    """One page of what is asked for."""
    page = await store.timeline(asked, shown_bytes=MAX_SHOWN_BYTES, page_bytes=MAX_PAGE_BYTES)
    return Timeline(items=tuple(entry(row) for row in page.rows), next=page.rows[-1].seq if page.more else None)


def entry(row: TimelineRow) -> TimelineEntry:
    """A row as a person reads it. It is shown as the database has it: whether that is sound, `audit verify` says."""
    return TimelineEntry(
        seq=row.seq,
        at=row.at,
        recorded_at=_time(row.recorded_at, row.at),
        kind=kind_of(row.type),
        event_id=row.event_id,
        source=row.source,
        agent_id=row.agent_id,
        session_id=row.session_id,
        request_id=row.request_id,
        body=_body(row),
        hash=row.hash.hex(),
    )


def _body(row: TimelineRow) -> dict[str, Any]:
    if row.body is None:
        return {"left_out": "too large to show", "bytes": row.body_bytes, "sha256": row.body_sha256.hex()}
    try:
        body = orjson.loads(row.body)
    except orjson.JSONDecodeError:
        body = None
    return body if isinstance(body, dict) else {"left_out": "not a JSON object", "bytes": row.body_bytes}


def _time(text: str, otherwise: datetime) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return otherwise
    return moment if moment.tzinfo else otherwise
