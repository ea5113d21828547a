"""Connector secrets.

Read from a private file or folder, filled into headers, and taken out of everything that leaves.

They live in this process alone. What a downstream answers, and every error text, passes
:meth:`Secrets.redact` before it can reach the bus, a table or the log. A downstream that answers with its
secret in a code of its own cannot be caught.
"""

from __future__ import annotations

import re
import stat
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import orjson

from countersign_contracts.errors import CountersignError

MASK = "***"
#: Shorter ones cannot be told from ordinary text, so they could not be taken out of an answer.
MIN_LENGTH = 8

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
#: Ends the name of what lists the hosts that a secret is for.
_HOSTS = ".hosts"
_HOST = re.compile(r"(?:\*\.)?[a-z0-9](?:[a-z0-9._:-]{0,251}[a-z0-9])?|::1")
_REFERENCE = re.compile(r"\$\{secret:([A-Za-z_][A-Za-z0-9_]{0,63})\}")


class SecretsError(CountersignError):
    """The secrets cannot be read as they stand. The text names the secret, never shows it."""


class SecretWithheld(Exception):
    """A header refers to a secret that is not there, or not for where the call goes. The text says which, for people.

    ``code`` is the reason's.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def references(template: str) -> tuple[str, ...]:
    """The secrets that a header's value names."""
    return tuple(_REFERENCE.findall(template))


def stray_reference(template: str) -> bool:
    """Whether a ``${`` stands there that is no ``${secret:NAME}``."""
    return "${" in _REFERENCE.sub("", template)


class Secrets:
    """Named secrets, as they were when read; ``hosts`` are the only ones that a secret is sent to."""

    def __init__(self, values: Mapping[str, str] | None = None, hosts: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})
        for name, value in self._values.items():
            _check(name, value)
        self._hosts = {name: _host_patterns(name, text, self._values) for name, text in (hosts or {}).items()}
        # the longest first, so that a secret inside another leaves no rest behind
        self._forms = sorted({form for value in self._values.values() for form in forms(value)}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._forms))) if self._forms else None

    @property
    def names(self) -> tuple[str, ...]:
        """Every secret's name."""
        return tuple(sorted(self._values))

    def hosts(self, name: str) -> tuple[str, ...]:
        """Where a secret may be sent to; none said: wherever a tool says."""
        return self._hosts.get(name, ())

    def is_for(self, name: str, host: str) -> bool:
        """Whether a secret may be sent to a host."""
        patterns = self.hosts(name)
        return not patterns or any(_covers(pattern, host.lower()) for pattern in patterns)

    def fill(self, template: str, host: str) -> str:
        """The value of a header that goes to ``host``, with its secrets; raises :class:`SecretWithheld`."""

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name not in self._values:
                raise SecretWithheld("secret_missing", f"the executor has no secret `{name}`")
            if not self.is_for(name, host):
                said = ", ".join(self.hosts(name))
                raise SecretWithheld("secret_withheld", f"secret `{name}` is for {said}, not for {host}")
            return self._values[name]

        return _REFERENCE.sub(value, template)

    def redact(self, text: str) -> str:
        """``text`` with every secret masked, also where it is percent-encoded, JSON-escaped or in base64."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def redact_value(self, value: Any) -> Any:
        """A JSON value with every secret masked, in keys too."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, list):
            return [self.redact_value(each) for each in value]
        if isinstance(value, dict):
            return {self.redact(key): self.redact_value(each) for key, each in value.items()}
        if isinstance(value, int | float) and not isinstance(value, bool):
            masked = self.redact(orjson.dumps(value).decode())
            return masked if MASK in masked else value
        return value

    def drop_partial(self, text: str) -> str:
        """``text`` without a secret's beginning at its end: for text that was cut there."""
        longest = max(
            (
                size
                for form in self._forms
                for size in range(min(len(form) - 1, len(text)), 0, -1)
                if text.endswith(form[:size])
            ),
            default=0,
        )
        return text[: len(text) - longest]

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self.names)})"


def read_secrets(path: Path | None) -> Secrets:
    """The secrets under ``path``; none without a path.

    A file holds ``NAME=value`` lines (``#`` begins a comment line) and must be nobody else's to read (mode
    0600). A folder holds one file a secret, named for it, as container platforms mount them. ``NAME.hosts``, a
    line or a file, names the hosts that the secret is for. Raises :class:`SecretsError`.
    """
    if path is None:
        return Secrets()
    try:
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if not p.name.startswith(".") and p.is_file())
            return _secrets({p.name: p.read_text().removesuffix("\n").removesuffix("\r") for p in files})
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise SecretsError(f"others may read the secrets file {path}; make it private: chmod 600 {path}")
        return _secrets(_lines(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SecretsError(f"cannot read the secrets at {path}: {error}") from None


def _secrets(found: Mapping[str, str]) -> Secrets:
    hosts = {name.removesuffix(_HOSTS): text for name, text in found.items() if name.endswith(_HOSTS)}
    return Secrets({name: value for name, value in found.items() if not name.endswith(_HOSTS)}, hosts)


def _host_patterns(name: str, text: str, names: Iterable[str]) -> tuple[str, ...]:
    if name not in names:
        raise SecretsError(f"{name[:64]}{_HOSTS} is there, and no secret {name[:64]}")
    patterns = tuple(text.lower().replace(",", " ").split())
    if not patterns:
        raise SecretsError(f"{name}{_HOSTS} names no host; without it, the secret may go wherever a tool says")
    if odd := [pattern for pattern in patterns if not _HOST.fullmatch(pattern)]:
        raise SecretsError(
            f"{name}{_HOSTS}: {odd[0][:64]!r} is no host; allowed: `api.example.com`, `*.example.com`, an address"
        )
    return patterns


def _covers(pattern: str, host: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _lines(path: Path) -> dict[str, str]:
    values: dict[str, str] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise SecretsError(f"{path}:{number}: a line is NAME=value")
        if name in values:
            raise SecretsError(f"{path}:{number}: secret {name} is there twice")
        values[name] = value
    return values


def _check(name: str, value: str) -> None:
    if not _NAME.fullmatch(name):
        raise SecretsError(f"{name[:64]!r} cannot name a secret: letters, digits and `_`, at most 64, no digit first")
    if len(value) < MIN_LENGTH:
        raise SecretsError(
            f"secret {name} has {len(value)} characters; under {MIN_LENGTH} it could not be masked in answers"
        )
    if not value.isprintable() or not value.isascii() or value != value.strip():
        raise SecretsError(f"secret {name} must be printable ASCII without space around it: it goes into a header")


def forms(value: str) -> set[str]:
    """How a secret may be written in an answer: also JSON-escaped, percent-encoded, in base64."""
    raw = value.encode()
    encoded = {code(raw).decode().rstrip("=") for code in (b64encode, urlsafe_b64encode)}
    escaped = orjson.dumps(value).decode()[1:-1]
    return {
        value,
        escaped,
        escaped.replace("/", "\\/"),
        quote(value, safe=""),
        quote(value),
        quote_plus(value),
    } | encoded
