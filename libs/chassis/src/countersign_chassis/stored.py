"""Messages read from a stream by their sequence, and removed: for a user that may (topology)."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import nats.errors
import orjson

from countersign_contracts.errors import Unavailable

from .connection import NatsConnection

_TIMEOUT_S = 5.0
#: No message found; and what a deletion says of a sequence that is not there.
_NO_MESSAGE, _NOT_THERE = 10037, 10057


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as its stream has it."""

    seq: int
    at: datetime
    subject: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class StreamState:
    """How many messages a stream has of each subject, and since when the oldest of all is there."""

    messages: dict[str, int]
    oldest_at: datetime | None


class StoredMessages:
    """One stream. Everything raises :class:`Unavailable` while the server does not answer."""

    def __init__(self, connection: NatsConnection, stream: str) -> None:
        self._connection = connection
        self._stream = stream

    async def get(self, seq: int) -> StoredMessage | None:
        """The message at ``seq``, if it is there."""
        return self._read(await self._ask("STREAM.MSG.GET", {"seq": seq}))

    async def next(self, seq: int, subject: str) -> StoredMessage | None:
        """The first message from ``seq`` on whose subject matches."""
        return self._read(await self._ask("STREAM.MSG.GET", {"seq": seq, "next_by_subj": subject}))

    async def last(self, subject: str) -> StoredMessage | None:
        """The newest message of a subject."""
        return self._read(await self._ask("STREAM.MSG.GET", {"last_by_subj": subject}))

    async def delete(self, seq: int) -> None:
        """Remove the message; harmless if it is gone."""
        await self._ask("STREAM.MSG.DELETE", {"seq": seq, "no_erase": True})

    async def state(self) -> StreamState:
        """What the stream holds now."""
        state = (await self._ask("STREAM.INFO", {"subjects_filter": ">"}))["state"]
        oldest = read_time(state["first_ts"]) if state["messages"] else None
        return StreamState(state.get("subjects") or {}, oldest)

    async def _ask(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        subject = f"$JS.API.{verb}.{self._stream}"
        try:
            reply = await self._connection.request(subject, orjson.dumps(body), {}, _TIMEOUT_S)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise Unavailable(
                f"nats-server does not answer for stream {self._stream}: {str(error) or 'timeout'}"
            ) from None
        answer: dict[str, Any] = orjson.loads(reply.data)
        refusal = answer.get("error")
        if refusal is not None and refusal.get("err_code") not in (_NO_MESSAGE, _NOT_THERE):
            raise Unavailable(f"{subject}: {refusal.get('description')}")
        return answer

    @staticmethod
    def _read(answer: dict[str, Any]) -> StoredMessage | None:
        if (message := answer.get("message")) is None:
            return None
        return StoredMessage(
            seq=int(message["seq"]),
            at=read_time(message["time"]),
            subject=message["subject"],
            headers=read_headers(b64decode(message.get("hdrs", ""))),
            body=b64decode(message.get("data", "")),
        )


def read_time(text: str) -> datetime:
    """A server's time, to the second."""
    return datetime.fromisoformat(text[:19] + "+00:00")


def read_headers(block: bytes) -> dict[str, str]:
    """The headers in their wire form (ADR-4): a version line, then ``Name: value`` lines. As the client reads them."""
    headers: dict[str, str] = {}
    for line in block.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            headers[name.strip().decode("ascii", "replace")] = value.strip().decode("utf-8", "replace")
    return headers
