"""What arrived from a stream, and whether audit believes it: pure, no I/O and no clock.

An event is believed when a key entitled to its type signed exactly it, on the subject that its type has, under an id
that is its own. Whether its body makes sense is the matter of whoever acts on it: audit records what was said.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, Protocol

import orjson

from countersign_contracts.envelope import Envelope, source_of
from countersign_contracts.errors import Malformed
from countersign_contracts.event import TYPE_PREFIX
from countersign_contracts.ids import is_request_id
from countersign_contracts.retirement import require_in_force
from countersign_ledger.errors import UntrustedError
from countersign_ledger.trust import TrustBundle

#: A larger body is not recorded as it is: its line of an export would not fit into one message of the bus (1 MiB).
MAX_BODY_BYTES = 640 * 1024
#: Longer ids are nobody's of ours, and would not fit into the index.
MAX_ID_CHARACTERS = 512
_MAX_NAME_CHARACTERS = 256

DoubtCode = Literal["unverifiable", "malformed", "conflict", "too_large", "unstorable"]


class Message(Protocol):
    """What is read of a message of a stream (``countersign_chassis.RawDelivery`` is one).

    ``tries`` is above 1 where it may have been delivered before.
    """

    @property
    def stream(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def stream_seq(self) -> int: ...
    @property
    def tries(self) -> int: ...
    @property
    def subject(self) -> str: ...
    @property
    def headers(self) -> dict[str, str]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def stored_at(self) -> datetime: ...


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a message cannot go on record as the event it says it is. ``reason`` is for people."""

    code: DoubtCode
    reason: str


@dataclass(frozen=True, slots=True)
class Findable:
    """What an entry is found by, read out of the event. ``at``: when it happened."""

    at: datetime
    agent_id: str | None = None
    session_id: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Believed:
    """A message that is the event it says it is."""

    message: Message
    envelope: Envelope
    found: Findable


@dataclass(frozen=True, slots=True)
class Doubted:
    """A message that cannot go on record as the event it says it is. ``claimed_id``: the event id it bears, if any."""

    message: Message
    claimed_id: str | None
    doubt: Doubt


Arrival = Believed | Doubted


def place_of(message: Message) -> str:
    """Where it stood, as text: no two messages ever share it."""
    return f"{message.stream}.{message.epoch}.{message.stream_seq}"


def examine(message: Message, trust: TrustBundle) -> Arrival:
    """Read and verify one message. Never raises for what is in it."""
    try:
        envelope = Envelope.read(message.headers, message.body)
    except Malformed as error:
        return Doubted(message, None, Doubt("malformed", error.detail))
    found = _distrust(envelope, trust, message.stored_at) or _misplaced(envelope, message.subject) or find(envelope)
    if isinstance(found, Findable):
        return Believed(message, envelope, found)
    return Doubted(message, envelope.id if len(envelope.id) <= MAX_ID_CHARACTERS else None, found)


def find(envelope: Envelope) -> Findable | Doubt:
    """What the entry of this event will be found by; a doubt if it cannot be read or says another's id."""
    try:
        at = datetime.fromisoformat(envelope.time)
        body = orjson.loads(envelope.body)
    except ValueError as error:
        return Doubt("malformed", f"{envelope.type} {envelope.id}: {error}")
    if at.tzinfo is None:
        return Doubt("malformed", f"{envelope.type} {envelope.id}: its time has no zone")
    if type(body) is not dict:
        return Doubt("malformed", f"{envelope.type} {envelope.id}: its body is not a JSON object")
    found = _findable(at, envelope.subject, body)
    if not _is_own_id(envelope.id, kind_of(envelope.type), found.request_id):
        return Doubt("malformed", f"{envelope.type}: {envelope.id!r} is not the id of this event")
    return found


@lru_cache(maxsize=256)
def kind_of(type: str) -> str:
    """An event type without prefix and version: ``actions.granted`` of ``countersign.actions.granted.v1``."""
    return type.removeprefix(TYPE_PREFIX).rsplit(".v", 1)[0]


def _distrust(envelope: Envelope, trust: TrustBundle, stored_at: datetime) -> Doubt | None:
    try:
        key = trust.verify(
            envelope.keyid, envelope.type, envelope.signing_bytes(), envelope.signature, at=envelope.time
        )
        require_in_force(key, stored_at)
    except UntrustedError as error:
        return Doubt("unverifiable", str(error))
    except ValueError as error:
        return Doubt("malformed", str(error))
    if envelope.source != source_of(key.service):
        return Doubt("unverifiable", f"it says it comes from {envelope.source!r}, and {key.service} signed it")
    return None


def _misplaced(envelope: Envelope, subject: str) -> Doubt | None:
    kind = kind_of(envelope.type)
    if not (subject == kind or subject.startswith(f"{kind}.")):
        return Doubt("unverifiable", f"{envelope.type} does not belong on {subject}")
    if len(envelope.id) > MAX_ID_CHARACTERS:
        return Doubt("malformed", f"its id has {len(envelope.id)} characters; at most {MAX_ID_CHARACTERS} count")
    if len(envelope.body) > MAX_BODY_BYTES:
        return Doubt("too_large", f"its body has {len(envelope.body)} bytes; at most {MAX_BODY_BYTES} are recorded")
    return None


def _findable(at: datetime, subject: str, body: dict[str, Any]) -> Findable:
    action = body.get("action")
    if type(action) is dict:
        return Findable(
            at,
            _name(action.get("agent_id")),
            _name(action.get("session_id")),
            _request(action.get("request_id")),
        )
    agent, session = _name(body.get("agent_id")), None
    stop = body.get("stop")
    if type(stop) is dict and type(scope := stop.get("scope")) is str:
        agent = _name(scope.removeprefix("agent:")) if scope.startswith("agent:") else agent
        session = _name(scope.removeprefix("session:")) if scope.startswith("session:") else None
    return Findable(at, agent, session, _request(subject))


def _name(value: object) -> str | None:
    return value if type(value) is str and len(value) <= _MAX_NAME_CHARACTERS and value.isprintable() else None


def _request(value: object) -> str | None:
    return value if type(value) is str and is_request_id(value) else None


def _is_own_id(event_id: str, kind: str, request_id: str | None) -> bool:
    """Receipts are given for the ids of action events, so no other event may take one: not even a service's own."""
    family, _, name = kind.rpartition(".")
    if family == "actions":
        own = f"{request_id}.{name}"
        return request_id is not None and (event_id == own or event_id.startswith(f"{own}."))
    return not (event_id[36:37] == "." and is_request_id(event_id[:36]))
