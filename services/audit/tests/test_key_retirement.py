"""A retired key: what it signed before is on record for ever, and nothing that comes later is believed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from countersign_audit.arrival import Believed, Doubted, examine
from countersign_cli.bootstrap.event_keys import EventKey, add, retire, use
from countersign_contracts import retirement
from countersign_contracts.envelope import seal_event
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import rfc3339
from countersign_ledger import SigningKey, TrustBundle

if TYPE_CHECKING:
    from countersign_chassis import Bus
    from countersign_harness.stack import Stack

    from .conftest import Asking, Keys, Make

RETIRED = datetime.fromisoformat("2026-01-31T10:00:00+00:00")
BEFORE, AFTER = RETIRED - timedelta(hours=1), RETIRED + timedelta(hours=1)


@pytest.mark.parametrize(
    ("signed", "stored", "by_the_new_key", "says"),
    [
        (BEFORE, BEFORE, False, None),
        (BEFORE, RETIRED + timedelta(seconds=30), False, None),  # it was on its way
        (BEFORE, AFTER, False, "was retired at"),  # whoever has the key says that it was long ago
        (AFTER, AFTER, False, "was valid until"),
        (AFTER, BEFORE, False, "was valid until"),
        (AFTER, AFTER, True, None),
        (BEFORE, AFTER, True, None),  # sent again
    ],
)
def test_what_arrives_after_its_key_was_retired_is_not_believed(
    keys: Keys, make: Make, signed: datetime, stored: datetime, by_the_new_key: bool, says: str | None
) -> None:
    old, new = keys.keys["policy"], SigningKey.generate("policy")
    entitled = keys.trust.keys[old.kid].emits
    trust = TrustBundle.of("test", [old.trusted(entitled, not_after=rfc3339(RETIRED)), new.trusted(entitled)])
    event = make.granted()
    message = keys.stored(seal_event(event, time=signed, key=new if by_the_new_key else old), event.nats_subject())
    arrival = examine(replace(message, stored_at=stored), trust)
    if says is None:
        assert isinstance(arrival, Believed)
    else:
        assert isinstance(arrival, Doubted)
        assert arrival.doubt.code == "unverifiable"
        assert says in arrival.doubt.reason


def old_key(bus: Bus) -> SigningKey:
    """What the thief of it has."""
    return bus._key


async def test_a_rotated_key_s_history_verifies_and_nothing_new_comes_from_it(
    stack: Stack, asking: Asking, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retirement, "LEEWAY", timedelta(0))
    rotated = [EventKey("policy"), EventKey("executor")]
    audit = await stack.service("audit")
    old = await stack.bus("policy")
    first, second, kept, late, backdated = (make.granted() for _ in range(5))
    await old.publish(first)
    stored = old.seal(kept)  # and not sent yet
    assert (await asking.receipt(first.event_id())).event_ids

    for key in rotated:
        add(stack.layout, key)
        use(stack.layout, key)
    await stack.prepare()  # as the next start does
    await audit.stop()
    audit = await stack.service("audit")
    new = await stack.bus("policy")
    assert (await asking.receipt(first.event_id())).event_ids  # asked with the executor's old key, which still counts
    await old.publish(second)

    signed_once = stack.key("policy")
    for key in rotated:
        retire(stack.layout, key)
    await audit.stop()
    await stack.service("audit")
    with pytest.raises(CountersignError, match="was valid until"):
        await asking.receipt(first.event_id())
    asking_anew = type(asking)(stack)
    await old.publish(late)
    earlier = seal_event(backdated, time=stored.signed_at, key=old_key(old))
    await old.publish_sealed([(backdated.nats_subject(), backdated.spec.stream, earlier)])
    await new.publish_sealed([(kept.nats_subject(), kept.spec.stream, stored)])
    assert (await asking_anew.receipt(second.event_id(), kept.event_id())).event_ids == (
        second.event_id(),
        kept.event_id(),
    )
    found = await asking_anew.sql("SELECT event_id, keyid FROM entries WHERE source = '/countersign/policy'")
    assert {row["event_id"]: row["keyid"] for row in found} == {
        first.event_id(): stored.keyid,
        second.event_id(): stored.keyid,
        kept.event_id(): signed_once.kid,
    }
    report = await asking_anew.verified()
    assert report.findings == ()
    assert any("not verifiable on arrival: 2" in note for note in report.notes), report.notes
