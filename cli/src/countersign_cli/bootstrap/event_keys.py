"""Rotating a service's event key: what it signs events, commands and records with, as the trust bundle lists it.

In three steps, as the keys of NATS (``signing_keys``). A retired key stays in the bundle, with the time until which it
counted: what it signed before is verified for ever, and nothing that comes later is believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from countersign_contracts import topology
from countersign_contracts.errors import CountersignError
from countersign_contracts.event import SERVICES
from countersign_contracts.ids import new_id
from countersign_contracts.model import now, rfc3339
from countersign_ledger import InvalidSigningKey, SigningKey, TrustBundle, TrustedKey

from ..embedded.datadir import write_secret
from .layout import Layout

_SUFFIX = "-events"


@dataclass(frozen=True, slots=True)
class EventKey:
    """The event key of one service, to be rotated."""

    service: str

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.service}{_SUFFIX}"

    @property
    def signs(self) -> str:
        """What it signs, in words."""
        also = {"policy": ", warrants", "audit": ", checkpoints", "registry": ", access tokens"}
        return f"what {self.service} says: events, commands{also.get(self.service, '')}"


EVENT_KEYS: tuple[EventKey, ...] = tuple(EventKey(service) for service in SERVICES)


def event_key(name: str) -> EventKey | None:
    """The event key of that name, if it is one."""
    return next((key for key in EVENT_KEYS if key.name == name), None)


def held(layout: Layout, key: EventKey) -> list[SigningKey]:
    """The keys of a service that are not retired, the one that signs first. Raises for a file that holds none."""
    paths = (layout.signing_key(key.service), layout.other_signing_key(key.service))
    found: list[SigningKey] = []
    for path in paths:
        if not path.exists():
            continue
        try:
            read = SigningKey.from_json(path.read_text())
        except InvalidSigningKey as error:
            raise CountersignError(f"{path}: {error}") from None
        if read.service != key.service:
            raise CountersignError(f"{path} holds a key of the {read.service} service, not of {key.service}")
        # one key twice: a rotation was interrupted, and goes on from here
        if all(read.kid != each.kid for each in found):
            found.append(read)
    return found


def add(layout: Layout, key: EventKey) -> str:
    """Make another key: trusted from now on, and signing nothing yet. Gives its id; `conflict` if one waits already."""
    if len(held(layout, key)) > 1:
        raise CountersignError(
            f"{key.name} has 2 keys already; finish that rotation first: `countersign keys use {key.name}`, then"
            f" `countersign keys retire {key.name}`",
            code="conflict",
        )
    made = SigningKey.generate(key.service)
    write_secret(layout.other_signing_key(key.service), made.to_json())
    write_trust(layout)
    return made.kid


def use(layout: Layout, key: EventKey) -> str:
    """Let the other key sign from now on; the older one stays trusted. Gives its id; `conflict` without another."""
    older, newest = _both(layout, key)
    # in this order: interrupted in between, the older one goes on
    write_secret(layout.other_signing_key(key.service), older.to_json())
    write_secret(layout.signing_key(key.service), newest.to_json())
    return newest.kid


def retire(layout: Layout, key: EventKey) -> str:
    """Believe nothing that comes from the other key any more, and destroy it. Gives its id; `conflict` without one."""
    _, other = _both(layout, key)
    layout.other_signing_key(key.service).unlink()
    write_trust(layout)
    return other.kid


def write_trust(layout: Layout) -> str:
    """Write the trust bundle of the keys as they are, making what is missing; the deployment's id.

    Raises `conflict` for a service whose own key is one that was retired.
    """
    known = TrustBundle.from_json(layout.trust.read_text()) if layout.trust.exists() else None
    holding: list[SigningKey] = []
    for key in EVENT_KEYS:
        path = layout.signing_key(key.service)
        if not path.exists():
            write_secret(path, SigningKey.generate(key.service).to_json())
        holding += held(layout, key)
    keys = trusted(known.keys if known else {}, holding, now())
    bundle = TrustBundle.of(known.deployment if known else new_id(), keys)
    write_secret(layout.trust, bundle.to_json())
    layout.trust.chmod(0o644)
    return bundle.deployment


def trusted(known: Mapping[str, TrustedKey], holding: Sequence[SigningKey], at: datetime) -> list[TrustedKey]:
    """Every key there ever was: those held now, and those of before, which count until they were held no more.

    Raises `conflict` for one that is held though it was retired.
    """
    present = {key.kid: key.trusted(topology.emits(key.service)) for key in holding}
    for kid in present:
        if (before := known.get(kid)) is not None and before.not_after is not None:
            raise CountersignError(
                f"the {before.service} service holds key {kid}, which was retired at {before.not_after}: nothing that"
                f" it signs is believed. Put its present key back into keys/{before.service}.json, or remove that file:"
                " another one is made then",
                code="conflict",
            )
    past = [
        key if key.not_after is not None else replace(key, not_after=rfc3339(at))
        for kid, key in known.items()
        if kid not in present
    ]
    return [*past, *present.values()]


def _both(layout: Layout, key: EventKey) -> tuple[SigningKey, SigningKey]:
    found = held(layout, key)
    if len(found) < 2:
        raise CountersignError(
            f"{key.name} has one key alone; make another first: `countersign keys add {key.name}`", code="conflict"
        )
    return found[0], found[1]
