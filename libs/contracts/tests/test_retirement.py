"""Whatever a service's key signs, it stops counting when the key was retired: whenever the thing says it was signed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from countersign_contracts import access_token, topology, warrant
from countersign_contracts.actions import Action, ActionRequested
from countersign_contracts.control import Stop
from countersign_contracts.envelope import Envelope, Unverifiable, seal_event, signed_anew
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now, rfc3339
from countersign_contracts.projection import STOPS, open_projection, seal_projection
from countersign_contracts.retirement import LEEWAY
from countersign_ledger import SigningKey, TrustBundle

if TYPE_CHECKING:
    from .conftest import Keys

SERVICES = ("gateway", "policy", "registry", "executor")


def rotated(keys: Keys, not_after: datetime) -> tuple[dict[str, SigningKey], TrustBundle]:
    """New keys of these services beside the old ones, which were retired then."""
    new = {service: SigningKey.generate(service) for service in SERVICES}
    old = [keys[service].trusted(topology.emits(service), not_after=rfc3339(not_after)) for service in SERVICES]
    return new, TrustBundle.of("test", [*old, *(key.trusted(topology.emits(key.service)) for key in new.values())])


def stop() -> Stop:
    return Stop(stop_id="stp_1", scope="all", reason="test", set_by="alice", set_at=now())


def an_event(key: SigningKey, action: Action, at: datetime, trust: TrustBundle) -> None:
    event = ActionRequested(action=action, channel="nats", credential_id="nats")
    seal_event(event, time=at - timedelta(hours=2), key=key).verify(trust)


def a_warrant(key: SigningKey, action: Action, at: datetime, trust: TrustBundle) -> None:
    issued = {"policy_version": "v1", "approval_id": None, "at": at - timedelta(hours=2)}
    token = warrant.issue(action, lifetime=timedelta(hours=4), key=key, **issued)
    warrant.verify(token, action, at=at, trust=trust)


def an_access_token(key: SigningKey, action: Action, at: datetime, trust: TrustBundle) -> None:
    began, until = at - timedelta(hours=2), at + timedelta(hours=2)
    access_token.verify(access_token.issue("ann", "lgn_1", 1, at=began, until=until, key=key)[0], at=at, trust=trust)


def a_projection(key: SigningKey, action: Action, at: datetime, trust: TrustBundle) -> None:
    open_projection(STOPS, "stp_1", seal_projection(STOPS, "stp_1", stop(), key), trust, Stop)


BY: list[tuple[str, Callable[[SigningKey, Action, datetime, TrustBundle], None]]] = [
    ("gateway", an_event),
    ("policy", a_warrant),
    ("registry", an_access_token),
    ("executor", a_projection),
]


@pytest.mark.parametrize(("service", "taken"), BY, ids=[service for service, _ in BY])
def test_a_retired_key_s_word_counts_no_more_however_old_it_says_it_is(
    service: str, taken: Callable[[SigningKey, Action, datetime, TrustBundle], None], keys: Keys, action: Action
) -> None:
    at = now()
    new, trust = rotated(keys, at - timedelta(hours=1))
    taken(new[service], action, at, trust)
    with pytest.raises(CountersignError):
        taken(keys[service], action, at, trust)
    _, just_now = rotated(keys, at - LEEWAY / 2)
    taken(keys[service], action, at, just_now)  # it was on its way


def test_what_was_kept_is_signed_anew_and_is_the_same_event(action: Action, keys: Keys, at: datetime) -> None:
    new, trust = rotated(keys, at + timedelta(hours=1))
    event = ActionRequested(action=action, channel="nats", credential_id="nats")
    kept = seal_event(event, time=at, key=keys["gateway"], traceparent="00-1-2-01")
    with pytest.raises(Unverifiable, match="was retired at"):
        kept.verify(trust)
    again = signed_anew(kept, trust, new["gateway"])
    again.verify(trust)
    assert again.keyid == new["gateway"].kid
    changed = {"keyid": "", "signature": b""}
    assert Envelope(**vars_of(again) | changed) == Envelope(**vars_of(kept) | changed)


def test_nothing_else_is_signed_anew(action: Action, keys: Keys, at: datetime) -> None:
    new, trust = rotated(keys, at + timedelta(hours=1))
    event = ActionRequested(action=action, channel="nats", credential_id="nats")
    later = seal_event(event, time=at + timedelta(hours=2), key=keys["gateway"])
    altered = Envelope(**vars_of(seal_event(event, time=at, key=keys["gateway"])) | {"body": b"{}"})
    for kept in (later, altered):
        with pytest.raises(Unverifiable):
            signed_anew(kept, trust, new["gateway"])
    with pytest.raises(Unverifiable, match="not policy's to sign"):
        signed_anew(seal_event(event, time=at, key=keys["gateway"]), trust, new["policy"])


def vars_of(envelope: Envelope) -> dict[str, object]:
    return {name: getattr(envelope, name) for name in Envelope.__slots__}
