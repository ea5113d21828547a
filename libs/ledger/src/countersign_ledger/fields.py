"""Read JSON objects exactly: these fields and no others, of these types, in their one canonical spelling.

Errors name the field. Not a schema language: each document's reader asks for its own fields.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Set as AbstractSet
from typing import Final

from .text import forbidden_character, shown

U64_MAX: Final = 2**64 - 1
_JSON_NAMES: Final = {str: "a string", bool: "true or false", int: "a number", float: "a number"} | {
    type(None): "null",
    list: "an array",
    dict: "an object",
}


class FieldError(ValueError):
    """A JSON document has a field that is missing, unknown, of the wrong type or wrongly spelt."""


def parse_object(text: str | bytes) -> dict[str, object]:
    """Parse one JSON object. Refuses invalid UTF-8, a byte order mark, a repeated name, NaN and Infinity."""
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FieldError(f"is not UTF-8 (byte {error.start})") from None
    if text.startswith("\ufeff"):
        raise FieldError("begins with a byte order mark")
    if not text or text.isspace():
        raise FieldError("is empty")
    try:
        value = _DECODE(text)
    except json.JSONDecodeError as error:
        raise FieldError(f"is not JSON ({error.msg}, column {error.colno})") from None
    except FieldError:
        raise
    except RecursionError:
        raise FieldError("is nested too deeply") from None
    except ValueError:  # an integer of more digits than Python converts
        raise FieldError("contains a number that is too large") from None
    if type(value) is not dict:
        raise FieldError(f"must be a JSON object, not {json_name(value)}")
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):  # two parsers could read such an object differently
        names = [name for name, _ in pairs]
        twice = next(name for name in value if names.count(name) > 1)
        raise FieldError(f"has the field {shown(twice)} twice")
    return value


def _constant(name: str) -> object:
    raise FieldError(f"contains {name}, which is not JSON")


_DECODE: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant).decode


def json_name(value: object) -> str:
    """What JSON calls this value, with its article."""
    return _JSON_NAMES.get(type(value), type(value).__name__)


def to_base64url(raw: bytes) -> str:
    """Base64url without padding (RFC 4648 section 5)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def to_base64(raw: bytes) -> str:
    """Base64 with padding (RFC 4648 section 4)."""
    return binascii.b2a_base64(raw, newline=False).decode()


class Fields:
    """One JSON object whose fields are exactly `required`, and perhaps some of `optional`.

    `path` is what stands before a field's name in errors (`keys[2].`). Every method raises FieldError.
    """

    __slots__ = ("_path", "_values")

    def __init__(
        self,
        value: object,
        required: AbstractSet[str],
        *,
        path: str = "",
        optional: AbstractSet[str] = frozenset(),
    ) -> None:
        if not isinstance(value, dict):
            raise FieldError(f"{path.rstrip('.') or 'the document'}: must be an object, not {json_name(value)}")
        if value.keys() != required:
            for name in sorted(required - value.keys()):
                raise FieldError(f"{path}{name}: is missing")
            for name in value.keys() - required - optional:
                raise FieldError(f"{path}{name if name.isidentifier() else shown(name)}: is not a known field")
        self._values: dict[str, object] = value
        self._path = path

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def raw(self, name: str) -> object:
        """The value as it is."""
        return self._values[name]

    def text(self, name: str) -> str:
        """A string under the rule of `text.forbidden_character`."""
        value = self._values[name]
        if type(value) is not str:
            raise self.wrong(name, f"must be a string, not {json_name(value)}")
        if (forbidden := forbidden_character(value)) is not None:
            raise self.wrong(name, f"contains the forbidden character {forbidden}")
        return value

    def number(self, name: str, at_least: int = 0) -> int:
        """An integer from `at_least` to 2**64 - 1."""
        value = self._values[name]
        if type(value) is not int:
            kind = "a fraction" if type(value) is float else json_name(value)
            raise self.wrong(name, f"must be a whole number, not {kind}")
        if not at_least <= value <= U64_MAX:
            raise self.wrong(name, f"must be from {at_least} to {U64_MAX}")
        return value

    def array(self, name: str) -> list[object]:
        """A JSON array."""
        value = self._values[name]
        if not isinstance(value, list):
            raise self.wrong(name, f"must be an array, not {json_name(value)}")
        return value

    def digest(self, name: str) -> bytes:
        """32 bytes as 64 lowercase hexadecimal digits."""
        value = self.text(name)
        try:
            raw = bytes.fromhex(value)
        except ValueError:
            raw = b""
        if len(raw) != 32 or raw.hex() != value:
            raise self.wrong(name, "must be 64 lowercase hexadecimal digits")
        return raw

    def base64(self, name: str) -> bytes:
        """Bytes as padded base64, in the one spelling an encoder writes (stray trailing bits are refused)."""
        value = self.text(name)
        try:
            raw = binascii.a2b_base64(value)
        except ValueError:
            raise self.wrong(name, "is not base64") from None
        if to_base64(raw) != value:
            raise self.wrong(name, "is not canonical base64 with padding")
        return raw

    def base64url(self, name: str, size: int) -> bytes:
        """Exactly `size` bytes as unpadded base64url. The value is never shown: it may be a secret."""
        value = self.text(name)
        try:
            raw = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
        except ValueError:
            raise self.wrong(name, "is not base64url") from None
        if to_base64url(raw) != value:
            raise self.wrong(name, "is not canonical base64url without padding")
        if len(raw) != size:
            raise self.wrong(name, f"must be {size} bytes, not {len(raw)}")
        return raw

    def wrong(self, name: str, reason: str) -> FieldError:
        """The error for one field, to be raised by the caller."""
        return FieldError(f"{self._path}{name}: {reason}")
