"""What users and accounts may do, and how claims version 2 writes it.

One difference to NATS: there, an empty list of allowed subjects allows all of them; here it allows none.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from .keys import NatsAuthError, require_public_key

UNLIMITED: Final = -1

_PLACEHOLDER: Final = re.compile(r"\{\{[^{}\s]+\}\}")
_TOKEN: Final = re.compile(r"[^\s\x00-\x1f\x7f.*>]+|\*")
_NANOSECONDS: Final = 1_000_000_000


class InvalidClaimError(NatsAuthError):
    """A name, subject, time or limit cannot be written into a claim or a server configuration."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a user may publish and subscribe to; no subjects means nothing at all.

    In the template of a scoped key, `{{name()}}` stands for the user's name.
    """

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    publish_deny: tuple[str, ...] = ()
    subscribe_deny: tuple[str, ...] = ()
    responses: int = 0
    """How many answers it may send to the reply subject of each message it receives; 0 for none.

    The sender names that subject, and the server lets the answer pass even over `publish_deny`: whoever
    answers senders it does not trust has to look at the reply subject first.
    """
    response_ttl_seconds: float = 60.0
    """How long after the message such an answer is let through."""

    def claim(self) -> dict[str, Any]:
        """The fields of a user's claims. Raises InvalidClaimError."""
        claim: dict[str, Any] = {
            "pub": _subjects(self.publish, self.publish_deny),
            "sub": _subjects(self.subscribe, self.subscribe_deny),
        }
        ttl = round(self.response_ttl_seconds * _NANOSECONDS)
        if self.responses < 0 or ttl <= 0:
            raise InvalidClaimError("neither the number of responses nor their time can be negative")
        if self.responses:
            claim["resp"] = {"max": self.responses, "ttl": ttl}
        return claim


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What each connection of a user may use."""

    subscriptions: int = UNLIMITED
    payload_bytes: int = UNLIMITED

    def claim(self) -> dict[str, Any]:
        """The fields of a user's claims. The server enforces no limit called "data"."""
        return {"subs": self.subscriptions, "data": UNLIMITED, "payload": self.payload_bytes}


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """How many connections an account may have, and what each of them may use."""

    connections: int = UNLIMITED
    subscriptions: int = UNLIMITED
    payload_bytes: int = UNLIMITED

    def claim(self) -> dict[str, Any]:
        """The fields of an account's limits: no leaf nodes, imports or exports, and no bearer tokens."""
        return {
            "conn": self.connections,
            "subs": self.subscriptions,
            "data": UNLIMITED,
            "payload": self.payload_bytes,
            "disallow_bearer": True,
        }


@dataclass(frozen=True, slots=True)
class JetStreamLimits:
    """What an account's streams may use. A limit above 0 is reserved on the server when the account loads."""

    disk_bytes: int
    memory_bytes: int = 0
    streams: int = UNLIMITED
    consumers: int = UNLIMITED

    def claim(self) -> dict[str, Any]:
        """The fields of an account's limits that give it JetStream."""
        return {
            "disk_storage": self.disk_bytes,
            "mem_storage": self.memory_bytes,
            "streams": self.streams,
            "consumer": self.consumers,
        }


@dataclass(frozen=True, slots=True)
class ScopedKey:
    """An account's signing key whose users all get this template, and nothing their JWT asks for.

    With `{{name()}}` in it, the holder of the key can be every user of the template: the server also takes
    the name `*`, and so every user at once. It can never be more than the template.
    """

    public: str
    role: str
    template: Permissions
    limits: ConnectionLimits = ConnectionLimits()
    description: str = ""

    def claim(self) -> dict[str, Any]:
        """The entry among an account's signing keys. Raises InvalidClaimError and InvalidKeyError."""
        return {
            "kind": "user_scope",
            "key": require_public_key(self.public, "account"),
            "role": self.role,
            "template": self.template.claim() | self.limits.claim(),
            "description": self.description,
        }


def _subjects(allow: tuple[str, ...], deny: tuple[str, ...]) -> dict[str, list[str]]:
    for subject in (*allow, *deny):
        if not _is_subject(subject):
            raise InvalidClaimError(f"not a subject: {subject!r}")
    if not allow:
        return {"deny": [">"]}
    return {"allow": list(allow), "deny": list(deny)} if deny else {"allow": list(allow)}


def _is_subject(text: str) -> bool:
    # The server takes a misplaced wildcard for a literal: the rule would be there and match nothing.
    *tokens, last = _PLACEHOLDER.sub("x", text).split(".")
    return all(map(_TOKEN.fullmatch, tokens)) and (last == ">" or bool(_TOKEN.fullmatch(last)))
