"""What is kept of a downstream's answer.

Bounded, hashed whole, free of secrets, and safe for everyone who reads it.

Pure: bytes come in from :mod:`.connector`, an :class:`Answer` goes out. JSON becomes a JSON value; what is
cut, not JSON, or nested deeper than readers on the bus can follow becomes text.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import orjson

from .masking import Masking
from .secrets import Secrets

#: An answer is read to its end for its hash, but not beyond this.
MAX_BODY_BYTES = 64 * 1024 * 1024
#: A result's JSON on the bus: well below the largest message that it carries.
MAX_RESULT_BYTES = 512 * 1024
MAX_DEPTH = 64

_JSON = re.compile(r"application/(?:[a-z0-9!#$&^_.+-]+\+)?json\b", re.IGNORECASE)
_CHARSET = re.compile(r"charset=\"?(iso-8859-1|latin-?1|windows-1252)\"?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it is kept.

    ``sha256`` and ``size`` are of the whole body, None where its end was not seen.
    """

    status: int
    result: Any
    truncated: bool
    sha256: str | None
    size: int | None


class Body:
    """Collects a streamed body: the first ``limit`` bytes are kept, all of it is hashed."""

    def __init__(self, limit: int, cap: int = MAX_BODY_BYTES) -> None:
        self._limit = limit
        self._cap = cap
        self._kept = bytearray()
        self._hash = hashlib.sha256()
        self.size = 0

    def feed(self, chunk: bytes) -> bool:
        """Take the next bytes; False once the cap is reached and reading must end."""
        self._hash.update(chunk)
        self.size += len(chunk)
        if (room := self._limit - len(self._kept)) > 0:
            self._kept += chunk[:room]
        return self.size <= self._cap

    def answer(self, status: int, content_type: str, secrets: Secrets | Masking, *, whole: bool) -> Answer:
        """What is kept; ``whole``: the body's end was seen.

        With sensitive values to mask no hash is kept: they could be guessed by it.
        """
        cut = not whole or self.size > len(self._kept)
        result, cut = _result(bytes(self._kept), content_type, secrets, cut=cut)
        if cut:
            seen = str(self.size) if whole else f"more than {self.size}"
            result = f"{result or ''}\n[cut by countersign: the answer has {seen} bytes]"
        return Answer(
            status=status,
            result=result,
            truncated=cut,
            sha256=self._hash.hexdigest() if whole and isinstance(secrets, Secrets) else None,
            size=self.size if whole else None,
        )


def _result(kept: bytes, content_type: str, secrets: Secrets | Masking, *, cut: bool) -> tuple[Any, bool]:
    if not kept:
        return None, cut
    if not cut and _JSON.match(content_type):
        try:
            value = orjson.loads(kept)
        except orjson.JSONDecodeError:
            pass  # its content type promised too much: it stays text
        else:
            if _depth(value) <= MAX_DEPTH:
                value = _printable(secrets.redact_value(value), rb"\u0000" in kept)
                if len(orjson.dumps(value)) <= MAX_RESULT_BYTES:
                    return value, False
    charset = "cp1252" if _CHARSET.search(content_type) else "utf-8"
    text = secrets.redact(kept.decode(charset, errors="replace").replace("\0", "\ufffd"))
    if cut:
        text = secrets.drop_partial(text)
    if len(orjson.dumps(text)) > MAX_RESULT_BYTES:
        # at most six bytes of JSON for a character
        return secrets.drop_partial(text[: MAX_RESULT_BYTES // 6]), True
    return text, cut


def _depth(value: Any) -> int:
    deepest = 0
    waiting = [(value, 1)]
    while waiting:
        each, level = waiting.pop()
        deepest = max(deepest, level)
        if deepest > MAX_DEPTH:
            break
        if isinstance(each, dict):
            waiting += [(inner, level + 1) for inner in each.values()]
        elif isinstance(each, list):
            waiting += [(inner, level + 1) for inner in each]
    return deepest


def _printable(value: Any, needed: bool) -> Any:
    """Without NUL characters: JSON may hold them, a PostgreSQL ``jsonb`` may not."""
    if not needed:
        return value
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [_printable(each, True) for each in value]
    if isinstance(value, dict):
        return {key.replace("\0", "\ufffd"): _printable(each, True) for key, each in value.items()}
    return value
