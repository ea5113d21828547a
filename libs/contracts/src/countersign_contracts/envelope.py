"""The envelope: CloudEvents 1.0 in binary mode over NATS headers, signed by the emitting service.

The body is kept as the bytes received: what was signed is never serialised again.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from countersign_ledger import SigningKey, TrustBundle, UntrustedError, event_signing_bytes

from .errors import Malformed, Refused, Unreadable
from .event import EVENTS, Event
from .model import rfc3339
from .retirement import require_in_force

CONTENT_TYPE = "application/json"
_REQUIRED = ("ce-id", "ce-type", "ce-source", "ce-subject", "ce-time", "ce-keyid", "ce-signature")


class Unverifiable(Refused):
    """A message whose signature does not hold, or whose signer may not say such a thing."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One signed message: an event on a stream, or a command to a service."""

    id: str
    type: str
    source: str
    subject: str
    time: str
    keyid: str
    signature: bytes
    body: bytes
    traceparent: str | None = None

    def headers(self) -> dict[str, str]:
        """The NATS headers. ``Nats-Msg-Id`` equals the id, so the stream drops repeats."""
        headers = {
            "Nats-Msg-Id": self.id,
            "ce-specversion": "1.0",
            "ce-id": self.id,
            "ce-type": self.type,
            "ce-source": self.source,
            "ce-subject": self.subject,
            "ce-time": self.time,
            "ce-keyid": self.keyid,
            "ce-signature": urlsafe_b64encode(self.signature).decode(),
            "content-type": CONTENT_TYPE,
        }
        if self.traceparent:
            headers["traceparent"] = self.traceparent
        return headers

    @property
    def signed_at(self) -> datetime:
        """When it was signed, as it says itself; raises :class:`Malformed`."""
        try:
            return datetime.fromisoformat(self.time)
        except ValueError as error:
            raise Malformed(f"header 'ce-time': {error}") from None

    def signing_bytes(self) -> bytes:
        """What the signature covers."""
        return event_signing_bytes(
            id=self.id,
            type=self.type,
            source=self.source,
            subject=self.subject,
            time=self.time,
            keyid=self.keyid,
            body=self.body,
        )

    def verify(self, trust: TrustBundle, arrived: datetime | None = None) -> None:
        """Raises :class:`Unverifiable` unless a key entitled to this type signed exactly this, and was not retired.

        ``arrived`` is when a stream stored it; without it, it arrives now.
        """
        try:
            key = trust.verify(self.keyid, self.type, self.signing_bytes(), self.signature, at=self.time)
            require_in_force(key, arrived)
        except UntrustedError as error:
            raise Unverifiable(f"{self.type} {self.id}: {error}") from None
        except ValueError as error:
            raise Unverifiable(f"{self.type} {self.id}: {error}") from None
        if self.source != source_of(key.service):
            raise Unverifiable(f"{self.type} {self.id}: says it comes from {self.source}, signed by {key.service}")

    @classmethod
    def read(cls, headers: Mapping[str, str] | None, body: bytes) -> Envelope:
        """The envelope of a received message; raises :class:`Malformed` naming the missing header."""
        if not headers:
            raise Malformed("the message has no CloudEvents headers")
        try:
            return cls(
                id=headers["ce-id"],
                type=headers["ce-type"],
                source=headers["ce-source"],
                subject=headers["ce-subject"],
                time=headers["ce-time"],
                keyid=headers["ce-keyid"],
                signature=urlsafe_b64decode(headers["ce-signature"]),
                body=body,
                traceparent=headers.get("traceparent"),
            )
        except KeyError as missing:
            raise Malformed(f"header {missing} is missing; needed: {', '.join(_REQUIRED)}") from None
        except (binascii.Error, ValueError):
            raise Malformed("header 'ce-signature' is not base64url") from None


def source_of(service: str) -> str:
    """The ``ce-source`` of a service."""
    return f"/countersign/{service}"


def seal(
    body: bytes,
    *,
    id: str,
    type: str,
    subject: str,
    time: datetime,
    key: SigningKey,
    traceparent: str | None = None,
) -> Envelope:
    """Sign ``body`` as ``type`` with the service's key."""
    unsigned = Envelope(
        id=id,
        type=type,
        source=source_of(key.service),
        subject=subject,
        time=rfc3339(time),
        keyid=key.kid,
        signature=b"",
        body=body,
        traceparent=traceparent,
    )
    return Envelope(
        id=unsigned.id,
        type=unsigned.type,
        source=unsigned.source,
        subject=unsigned.subject,
        time=unsigned.time,
        keyid=unsigned.keyid,
        signature=key.sign(unsigned.signing_bytes()),
        body=body,
        traceparent=traceparent,
    )


def seal_event(event: Event, *, time: datetime, key: SigningKey, traceparent: str | None = None) -> Envelope:
    """Sign an event under the id and type that its class gives it."""
    return seal(
        event.to_bytes(),
        id=event.event_id(),
        type=event.spec.type,
        subject=event.about(),
        time=time,
        key=key,
        traceparent=traceparent,
    )


def signed_anew(envelope: Envelope, trust: TrustBundle, key: SigningKey) -> Envelope:
    """What an older key of the service signed and kept, as ``key`` signs it: the same event, for sending it again.

    Raises :class:`Unverifiable` if no key of the service signed it.
    """
    envelope.verify(trust, envelope.signed_at)
    if envelope.source != source_of(key.service):
        raise Unverifiable(f"{envelope.type} {envelope.id} is {envelope.source}'s, not {key.service}'s to sign")
    unsigned = replace(envelope, keyid=key.kid)
    return replace(unsigned, signature=key.sign(unsigned.signing_bytes()))


def open_event(envelope: Envelope, trust: TrustBundle, arrived: datetime | None = None) -> Event:
    """Verify the envelope, then read its event; ``arrived`` as for :meth:`Envelope.verify`.

    Raises :class:`Unverifiable` for a bad signature, :class:`Unreadable` for a type or a body that this version does
    not know, and :class:`Malformed` for an id that is not the one this event has.
    """
    envelope.verify(trust, arrived)
    kind = EVENTS.get(envelope.type)
    if kind is None:
        raise Unreadable(f"event type {envelope.type!r} is unknown to this version")
    try:
        event = kind.from_bytes(envelope.body)
    except Malformed as error:
        raise Unreadable(error.detail) from None
    if event.event_id() != envelope.id:
        raise Malformed(f"{envelope.type}: id {envelope.id!r} is not the event's own, {event.event_id()!r}")
    return event
