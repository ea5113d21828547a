"""Sensitive arguments taken out of what a call leaves: its answer, its error texts. Pure.

Like connector secrets (:mod:`.secrets`), and with them. Found are texts and numbers of at least six characters, as they
were given, JSON-escaped, percent-encoded or in base64. Shorter ones cannot be told from ordinary text, and what a
downstream changed (spelt otherwise, cut, in a code of its own) cannot be found: declare a small
`response_limit_bytes` for a system that answers so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from .secrets import Secrets, forms

MASK = "[sensitive]"
MIN_LENGTH = 6
#: Of a value with more texts than this no answer is kept: looking for all of them would take too long.
MAX_TEXTS = 64


class Masking:
    """The secrets, and ``texts`` beside them."""

    def __init__(self, secrets: Secrets, texts: Sequence[str]) -> None:
        self._secrets = secrets
        self._everything = len(texts) > MAX_TEXTS
        # the longest first, so that a text inside another leaves no rest behind
        self._forms = sorted({form for text in texts[:MAX_TEXTS] for form in forms(text)}, key=len, reverse=True)

    def redact(self, text: str) -> str:
        """``text`` with secrets and sensitive values masked."""
        if self._everything:
            return MASK
        text = self._secrets.redact(text)
        for form in self._forms:
            text = text.replace(form, MASK)
        return text

    def redact_value(self, value: Any) -> Any:
        """A JSON value with secrets and sensitive values masked, in keys too."""
        if self._everything:
            return MASK
        return self._masked(self._secrets.redact_value(value))

    def drop_partial(self, text: str) -> str:
        """``text`` without the beginning of a secret or a sensitive value at its end: for text that was cut there."""
        text = self._secrets.drop_partial(text)
        for form in self._forms:
            size = next((n for n in range(min(len(form) - 1, len(text)), 0, -1) if text.endswith(form[:n])), 0)
            text = text[: len(text) - size]
        return text

    def _masked(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, list):
            return [self._masked(each) for each in value]
        if isinstance(value, dict):
            return {self.redact(key): self._masked(each) for key, each in value.items()}
        if isinstance(value, int | float) and not isinstance(value, bool):
            masked = self.redact(orjson.dumps(value).decode())
            return masked if MASK in masked else value
        return value


def texts_of(value: Any) -> Iterator[str]:
    """The texts and numbers in a JSON value that are long enough to be found again; names of fields are none."""
    if isinstance(value, dict):
        for each in value.values():
            yield from texts_of(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts_of(each)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        if len(text) >= MIN_LENGTH:
            yield text
