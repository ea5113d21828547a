"""Projections: what an owner shows of its tables in a key-value bucket, signed, for others to read quickly.

A projection is never the authority: the owner can rebuild it at any time, and it may lag.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import TypeVar

import orjson

from countersign_ledger import SigningKey, TrustBundle, UntrustedError

from .catalogue import ToolRecord
from .control import Stop
from .envelope import Unverifiable
from .errors import Malformed
from .fleet import AgentRecord, PersonRecord
from .logins import LoginsRecord
from .model import Frozen, loads
from .retirement import require_in_force

P = TypeVar("P", bound=Frozen)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A key-value bucket: its owner alone writes it; ``readers`` may read it.

    ``strict`` readers refuse a record with a field that they do not know, and keep the one they have. The others pass
    over the field: while versions change, who was revoked by a newer registry must be so for an older gateway, too.
    """

    name: str
    owner: str
    model: type[Frozen]
    readers: tuple[str, ...]
    strict: bool = False

    @property
    def type(self) -> str:
        """What the owner's key must be entitled to sign."""
        return f"countersign.projection.{self.name}.v1"


AGENTS = Bucket("agents", "registry", AgentRecord, ("gateway", "policy", "executor"))
PEOPLE = Bucket("people", "registry", PersonRecord, ("gateway", "approvals", "slack"))
LOGINS = Bucket("logins", "registry", LoginsRecord, ("gateway",))
# What a tool newly asks of the gateway (a value to seal) an older one would not do: it goes on with the tool's former
# version, which the executor refuses.
TOOLS = Bucket("tools", "executor", ToolRecord, ("gateway", "policy", "approvals"), strict=True)
STOPS = Bucket("stops", "executor", Stop, ("gateway", "policy"))
BUCKETS: tuple[Bucket, ...] = (AGENTS, PEOPLE, LOGINS, TOOLS, STOPS)


def _message(bucket: Bucket, key: str, body: bytes) -> bytes:
    return b"countersign-projection-v1\n" + "\n".join([bucket.name, key, hashlib.sha256(body).hexdigest()]).encode()


def seal_projection(bucket: Bucket, key: str, value: Frozen, signer: SigningKey) -> bytes:
    """The stored value: the body as text, the key id, and the owner's signature over bucket, key and body."""
    body = value.to_bytes()
    signature = urlsafe_b64encode(signer.sign(_message(bucket, key, body))).decode()
    return orjson.dumps({"keyid": signer.kid, "signature": signature, "body": body.decode()})


def open_projection(bucket: Bucket, key: str, stored: bytes, trust: TrustBundle, model: type[P]) -> P:
    """Verify and read; raises :class:`Unverifiable` or :class:`Malformed`."""
    value = loads(stored)
    try:
        body = value["body"].encode()
        message, signature = _message(bucket, key, body), urlsafe_b64decode(value["signature"])
        require_in_force(trust.verify(value["keyid"], bucket.type, message, signature))
    except UntrustedError as error:
        raise Unverifiable(f"projection {bucket.name}/{key}: {error}") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Malformed(f"projection {bucket.name}/{key}: {error}") from None
    return model.from_bytes(body, newer=not bucket.strict)
