"""What a forger does to a message: every field altered in turn, signed by another, and what came of it on a real bus.

The alterations are read off the message itself and off its model, so a new field is covered the day it appears.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
from nats.aio.client import Client

from countersign_contracts.envelope import Envelope
from countersign_contracts.event import CORE_SERVICES
from countersign_contracts.ids import is_request_id, new_id
from countersign_contracts.topology import CONSUMERS, STREAMS, Consumer
from countersign_ledger import SigningKey

from .stack import Stack

SIGNED_HEADERS = ("ce-id", "ce-type", "ce-source", "ce-subject", "ce-time", "ce-keyid", "ce-signature")
_CORE_STREAMS = tuple(s.name for s in STREAMS if s.account == "CORE")
#: An optional service does not run here, and leaves what it would take.
_CORE_CONSUMERS = tuple(c for c in CONSUMERS if c.stream in _CORE_STREAMS and c.service in CORE_SERVICES)


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a stream as it lies there."""

    stream: str
    seq: int
    subject: str
    headers: dict[str, str]
    body: bytes

    @property
    def service(self) -> str:
        """Who signed it."""
        return self.headers["ce-source"].rsplit("/", 1)[-1]

    @property
    def kind(self) -> str:
        """Its type without prefix and version."""
        return self.headers["ce-type"].removeprefix("countersign.").rsplit(".v", 1)[0]


@dataclass(frozen=True, slots=True)
class Forgery:
    """A message that nobody may believe. ``how`` names it where a test fails."""

    how: str
    subject: str
    headers: dict[str, str]
    body: bytes


def altered(value: Any) -> Any:
    """Another value of the same kind, so that its form gives nothing away."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str() if is_request_id(value):
            return new_id()
        case str() if value.startswith("sha256:"):
            return "sha256:" + ("0" if value[-1] != "0" else "1") * 64
        case str():
            return value[:-1] + ("a" if value[-1:] != "a" else "b")
        case None:
            return "a"
        case _:
            return [*value, "a"] if isinstance(value, list) else {**value, "planted": 1}


def alterations(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every variant of a JSON value with one leaf altered, one member taken away, or one planted."""
    if isinstance(value, dict):
        for name, inner in value.items():
            for where, variant in alterations(inner, f"{path}.{name}"):
                yield where, {**value, name: variant}
            yield f"{path}.{name} taken away", {k: v for k, v in value.items() if k != name}
        yield f"{path or '.'} with a planted member", {**value, "planted": 1}
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            for where, variant in alterations(inner, f"{path}[{i}]"):
                yield where, [*value[:i], variant, *value[i + 1 :]]
        yield f"{path} longer", [*value, "a"]
    else:
        yield f"{path} altered", altered(value)


def altered_in_turn(original: Message) -> Iterator[Forgery]:
    """Each signed header altered and taken away, each field of the body altered; the signature left as it was."""
    for name in SIGNED_HEADERS:
        given = original.headers[name]
        yield Forgery(f"{name} altered", original.subject, {**original.headers, name: altered(given)}, original.body)
        without = {k: v for k, v in original.headers.items() if k != name}
        yield Forgery(f"{name} taken away", original.subject, without, original.body)
    for where, body in alterations(json.loads(original.body)):
        yield Forgery(f"body{where}", original.subject, original.headers, json.dumps(body).encode())
    yield Forgery("body spelled otherwise", original.subject, original.headers, original.body + b" ")


def signed_by_others(original: Message, keys: dict[str, SigningKey]) -> Iterator[Forgery]:
    """The message signed anew by each key but its own service's: as itself, in the other's name, and both mixed."""
    envelope = Envelope.read(original.headers, original.body)
    for service, key in keys.items():
        if service == original.service:
            continue
        own_name = replace(envelope, keyid=key.kid, source=f"/countersign/{service}")
        for how, unsigned in (
            (f"signed by {service} as itself", own_name),
            (f"signed by {service}, said to be from {original.service}", replace(envelope, keyid=key.kid)),
            (f"signed by {service} under the key id of {original.service}", envelope),
        ):
            forged = replace(unsigned, signature=key.sign(unsigned.signing_bytes()))
            yield Forgery(how, original.subject, forged.headers(), forged.body)


class Bench:
    """Looks into the streams as bootstrap, publishes with a service's credentials, and waits until all is handled."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._admin: Client | None = None
        self._lines: dict[str, Client] = {}

    async def api(self, verb: str, body: Any = None) -> dict[str, Any]:
        """A JetStream call in account CORE."""
        if self._admin is None:
            self._admin = await self._stack.client("bootstrap-core")
        request = b"" if body is None else json.dumps(body).encode()
        answer: dict[str, Any] = json.loads((await self._admin.request(f"$JS.API.{verb}", request, timeout=10)).data)
        return answer

    async def messages(self, stream: str, after: int = 0) -> list[Message]:
        """What a stream holds beyond a sequence."""
        last = (await self.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"]
        found = []
        for seq in range(after + 1, last + 1):
            answer = await self.api(f"STREAM.MSG.GET.{stream}", {"seq": seq})
            if "error" in answer:
                continue
            message = answer["message"]
            head = b64decode(message.get("hdrs", "")).decode().split("\r\n")[1:]
            headers = dict(line.split(": ", 1) for line in head if line)
            found.append(Message(stream, seq, message["subject"], headers, b64decode(message.get("data", ""))))
        return found

    async def every_event(self) -> list[Message]:
        """One message of each type there is on the streams."""
        first: dict[str, Message] = {}
        for stream in _CORE_STREAMS:
            for message in await self.messages(stream):
                first.setdefault(message.headers["ce-type"], message)
        return list(first.values())

    async def publish(self, user: str, forgeries: Sequence[Forgery]) -> dict[int, Forgery]:
        """Publish with a service's credentials, past the stream's deduplication; by the sequence each got."""
        if user not in self._lines:
            self._lines[user] = await self._stack.client(f"{user}-core")
        jetstream = self._lines[user].jetstream(timeout=10)
        taken = {}
        for forgery in forgeries:
            headers = {**forgery.headers, "Nats-Msg-Id": new_id()}
            taken[(await jetstream.publish(forgery.subject, forgery.body, headers=headers)).seq] = forgery
        return taken

    async def settled(self, seconds: float = 40) -> None:
        """Every consumer has handled everything there is."""
        async with asyncio.timeout(seconds):
            while not await self._all_handled():
                await asyncio.sleep(0.05)

    async def _all_handled(self) -> bool:
        for consumer in _CORE_CONSUMERS:
            info = await self.api(f"CONSUMER.INFO.{consumer.stream}.{consumer.name}")
            if info["num_pending"] or info["num_ack_pending"]:
                return False
        return True

    async def recorded_as(self, kind: str, stream: str) -> dict[int, dict[str, Any]]:
        """Audit's own entries of a kind (`unverified`, `repeated`) about a stream, by the sequence they are about."""
        connection = await asyncpg.connect(self._stack.superuser_dsn())
        try:
            rows = await connection.fetch(
                "SELECT body FROM audit.entries WHERE type = $1 AND stream = $2",
                f"countersign.audit.{kind}.v1",
                stream,
            )
        finally:
            await connection.close()
        bodies = [json.loads(row["body"]) for row in rows]
        return {body["stream_seq"]: body for body in bodies}

    async def dead_letters(self, consumer: Consumer) -> dict[int, str]:
        """Why a consumer refused messages, by their sequence."""
        subject = f"deadletter.{consumer.stream}.{consumer.name}"
        letters = [json.loads(m.body) for m in await self.messages("DEADLETTER") if m.subject == subject]
        return {letter["stream_seq"]: letter["reason"] for letter in letters}


def consumers_of(subject: str) -> list[Consumer]:
    """Those that act on what stands on a subject; audit records it, which is another matter."""
    return [c for c in _CORE_CONSUMERS if c.service != "audit" and any(matches(f, subject) for f in c.filters)]


def matches(pattern: str, subject: str) -> bool:
    """Whether a NATS subject falls under a pattern."""
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        return len(given) >= len(wanted) and matches(".".join(wanted[:-1]), ".".join(given[: len(wanted) - 1]))
    return len(wanted) == len(given) and all(w in ("*", g) for w, g in zip(wanted, given, strict=True))
