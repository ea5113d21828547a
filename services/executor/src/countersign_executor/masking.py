"""Sensitive arguments taken out of what a call leaves: its answer, its error texts. Pure.

Like connector secrets (:mod:`.secrets`), and with them. Texts and numbers are found as they were given, JSON-escaped,
percent-encoded or in base64; those of fewer than six characters where they stand alone, between characters that are
no letters or digits, so that a PIN of 12 is masked and the 12 within 3125 is not. What a downstream changed (spelt
otherwise, cut, in a code of its own) cannot be found: declare a small `response_limit_bytes` for a system that answers
so. True, false and null are not looked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from .secrets import Secrets, forms

MASK = "[sensitive]"
#: Shorter ones are looked for where they stand alone.
MIN_LENGTH = 6
#: Of values with more texts, or with longer ones together, no answer is kept: looking for them would take too long.
MAX_TEXTS = 64
MAX_TOTAL = 16_384


class Masking:
    """The secrets, and ``texts`` beside them."""

    def __init__(self, secrets: Secrets, texts: Sequence[str]) -> None:
        self._secrets = secrets
        self._everything = len(texts) > MAX_TEXTS or sum(map(len, texts)) > MAX_TOTAL
        known = () if self._everything else texts
        self._long = _longest_first(form for text in known if len(text) >= MIN_LENGTH for form in _forms(text))
        self._short = _longest_first(form for text in known if len(text) < MIN_LENGTH for form in _forms(text))
        either = "|".join(map(re.escape, self._short))
        self._alone = re.compile(rf"(?<![^\W_])(?:{either})(?![^\W_])") if either else None

    def redact(self, text: str) -> str:
        """``text`` with secrets and sensitive values masked."""
        if self._everything:
            return MASK
        text = self._secrets.redact(text)
        for form in self._long:  # linear whatever the form, as an alternation of them is not
            text = text.replace(form, MASK)
        return text if self._alone is None else self._alone.sub(MASK, text)

    def redact_value(self, value: Any) -> Any:
        """A JSON value with secrets and sensitive values masked, in keys too."""
        return MASK if self._everything else self._masked(value)

    def drop_partial(self, text: str) -> str:
        """``text`` without the beginning of a secret or a sensitive value at its end: for text that was cut there."""
        text = self._secrets.drop_partial(text)
        return text[: len(text) - max((_begun(text, form) for form in (*self._long, *self._short)), default=0)]

    def _masked(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, list):
            return [self._masked(each) for each in value]
        if isinstance(value, dict):
            return {self.redact(key): self._masked(each) for key, each in value.items()}
        if isinstance(value, int | float) and not isinstance(value, bool):
            shown = orjson.dumps(value).decode()
            masked = self.redact(shown)
            return value if masked == shown else masked
        return value


def texts_of(value: Any) -> Iterator[str]:
    """The texts and numbers in a JSON value; names of fields are none."""
    if isinstance(value, dict):
        for each in value.values():
            yield from texts_of(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts_of(each)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        if text.strip():
            yield text


def _begun(text: str, form: str) -> int:
    """How many characters at the end of ``text`` are a beginning of ``form``."""
    at = text.find(form[0], max(0, len(text) - len(form) + 1))
    while at >= 0 and not form.startswith(text[at:]):
        at = text.find(form[0], at + 1)
    return len(text) - at if at >= 0 else 0


def _longest_first(found: Iterable[str]) -> list[str]:
    """Without a rest of one left behind by another inside it."""
    return sorted(set(found), key=len, reverse=True)


def _forms(text: str) -> set[str]:
    # as ASCII too: how JSON is often written, and what is left of it where an answer was cut and is kept as text; in
    # text NUL characters are replaced before it comes here
    return forms(text) | {json.dumps(text)[1:-1], text.replace("\0", "\ufffd")}
