"""Pages of logs and metrics, written straight from the rows: what the models would write, many times sooner.

What is in the database was checked when it came in; the reader checks the page by the model.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import orjson
from pydantic import PrivateAttr

from countersign_contracts.model import rfc3339
from countersign_contracts.telemetry import LEVELS, LogPage, MetricsPage, MetricsSummary

from .telemetry_store import REPORT_COLUMNS, fields_of

_COUNTS = tuple(column for column in REPORT_COLUMNS if column != "at")


class WrittenLogs(LogPage):
    """A page whose bytes are there already; its fields are left empty."""

    _bytes: bytes = PrivateAttr()

    @classmethod
    def of(cls, items: Sequence[bytes], following: str | None) -> WrittenLogs:
        """The page of these records, each as :func:`written_log` has it."""
        page = cls(items=())
        page._bytes = b"{" + _items(items) + _next(following) + b"}"
        return page

    def to_bytes(self) -> bytes:
        return self._bytes


class WrittenMetrics(MetricsPage):
    """Likewise."""

    _bytes: bytes = PrivateAttr()

    @classmethod
    def of(cls, items: Sequence[bytes], following: str | None, summary: MetricsSummary) -> WrittenMetrics:
        """The page of these reports, each as :func:`written_report` has it."""
        page = cls(items=(), summary=summary)
        page._bytes = b"{" + _items(items) + b',"summary":' + summary.to_bytes() + _next(following) + b"}"
        return page

    def to_bytes(self) -> bytes:
        return self._bytes


def written_log(row: asyncpg.Record) -> bytes:
    """One record as a ``StoredLog`` is written."""
    record = {
        "id": f"{row['batch']}.{row['place']}",
        "at": rfc3339(row["at"]),
        "received_at": rfc3339(row["received_at"]),
        "level": LEVELS[row["severity"]],
        **fields_of(row, ("text", "logger", "request_id")),
    }
    if row["fields"] is not None:
        record["fields"] = orjson.Fragment(row["fields"])
    return orjson.dumps(record, default=str)


def written_report(row: asyncpg.Record) -> bytes:
    """One report as a ``StoredMetrics`` is written."""
    report = {
        "at": rfc3339(row["at"]),
        "received_at": rfc3339(row["received_at"]),
        **fields_of(row, _COUNTS),
    }
    if row["own"] is not None:
        report["values"] = orjson.Fragment(row["own"])
    return orjson.dumps(report)


def _items(items: Sequence[bytes]) -> bytes:
    return b'"items":[' + b",".join(items) + b"]"


def _next(following: str | None) -> bytes:
    return b"" if following is None else b',"next":' + orjson.dumps(following)
