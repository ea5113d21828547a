"""Looking for a value everywhere it could rest: every table, every message of every stream, every file, every text.

A value is looked for as it is, JSON-escaped, percent-encoded, in hexadecimal, in base64 at any offset, and as a plain
hash of it, by which a short one could be guessed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import asyncpg
from nats.js.errors import NotFoundError

from countersign_contracts.topology import STREAMS

from .stack import Stack


class Searched:
    """Values, in every form in which they could be read."""

    def __init__(self, *values: str) -> None:
        self._forms = {form: (value, name) for value in values for name, form in _forms(value) if form}

    def found_in(self, content: bytes | str) -> list[tuple[str, str]]:
        """Each value that stands in ``content``, with the form in which it does."""
        raw = content.encode() if isinstance(content, str) else content
        return [what for form, what in self._forms.items() if form in raw]

    def found_among(self, contents: Iterable[tuple[str, bytes | str]]) -> list[tuple[str, str, str]]:
        """The same for many named contents: where, value, form. Raises if there is nothing to look at."""
        seen = [(where, *what) for where, content in contents for what in [("", ""), *self.found_in(content)]]
        assert seen, "nothing was searched"
        return [each for each in seen if each[1]]


async def tables(stack: Stack) -> list[tuple[str, bytes | str]]:
    """Every value of every column of every table of the product's database."""
    connection = await asyncpg.connect(stack.superuser_dsn())
    try:
        columns = await connection.fetch(
            "SELECT table_schema s, table_name t, column_name c, data_type d FROM information_schema.columns"
            " WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
        )
        held: list[tuple[str, bytes | str]] = []
        for s, t, c, d in columns:
            value = f'"{c}"' if d == "bytea" else f'"{c}"::text'
            rows = await connection.fetch(f'SELECT {value} FROM "{s}"."{t}" WHERE "{c}" IS NOT NULL')
            held += [(f"{s}.{t}.{c}", row[0]) for row in rows]
        return held
    finally:
        await connection.close()


async def streams(stack: Stack) -> list[tuple[str, bytes | str]]:
    """Every message of every stream of both accounts, with its headers."""
    held: list[tuple[str, bytes | str]] = []
    for account in ("AGENTS", "CORE"):
        js = (await stack.client(f"bootstrap-{account.lower()}")).jetstream()
        for name in [each.name for each in STREAMS if each.account == account]:
            state = (await js.stream_info(name)).state
            for seq in range(max(state.first_seq, 1), state.last_seq + 1):
                try:
                    message = await js.get_msg(name, seq)
                except NotFoundError:  # deleted: acknowledged, in a work queue
                    continue
                held.append((f"{name}/{seq} {message.subject}", message.data or b""))
                held.append((f"{name}/{seq} headers", json.dumps(message.headers)))
    return held


def files(*folders: Path) -> Iterator[tuple[str, bytes | str]]:
    """Every file under ``folders``: what the servers keep on disk, deleted messages and written-ahead rows included."""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                yield str(path.relative_to(folder)), path.read_bytes()


def _forms(value: str) -> Iterator[tuple[str, bytes]]:
    raw = value.encode()
    yield "as it is", raw
    escaped = json.dumps(value, ensure_ascii=False)[1:-1]
    for name, text in (
        ("JSON", escaped),
        ("JSON in JSON", json.dumps(escaped, ensure_ascii=False)[1:-1]),
        ("JSON in ASCII", json.dumps(value)[1:-1]),
        ("percent-encoded", quote(value, safe="")),
        ("form-encoded", quote_plus(value)),
        ("repr", repr(value)[1:-1]),
        ("hexadecimal", raw.hex()),
    ):
        yield name, text.encode()
    for content in (raw, escaped.encode()):
        for offset in range(3):
            encoded = base64.b64encode(bytes(offset) + content)
            # what neither the bytes before nor those after change
            core = encoded[-(-offset * 8 // 6) : (offset + len(content)) * 8 // 6]
            yield "base64", core
            yield "base64url", core.translate(bytes.maketrans(b"+/", b"-_"))
    for content in (raw, json.dumps(value, ensure_ascii=False).encode()):
        for algorithm in ("sha256", "sha1", "md5"):
            digest = hashlib.new(algorithm, content, usedforsecurity=False)
            yield f"{algorithm} (bytes)", digest.digest()
            yield algorithm, digest.hexdigest().encode()
            yield f"{algorithm} in base64", base64.b64encode(digest.digest()).rstrip(b"=")
