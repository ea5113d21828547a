"""Declared changes of profiles and policies: validated first, then applied in one transaction, then told."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

import orjson

from countersign_chassis import Bus
from countersign_contracts.commands import ChangePlan, CommitPolicies, PreparePolicies
from countersign_contracts.control import DeclaredChange, PoliciesChanged
from countersign_contracts.envelope import seal_event
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now
from countersign_ledger.signing import SigningKey

from .declarations import Change, Declarations, Loaded
from .known import Known
from .plan import Plan, plan_change

#: The ledger records events of up to 640 KiB as they are; beyond this, digests stand for what changed.
_MOST_EVENT_BYTES = 600_000


class Changes:
    """Answers the two steps of a change, and publishes what is committed until the stream has it."""

    def __init__(
        self, bus: Bus, declarations: Declarations, known: Known, key: SigningKey, publish_interval_s: float
    ) -> None:
        self._bus = bus
        self._declarations = declarations
        self._known = known
        self._key = key
        self._interval_s = publish_interval_s

    async def prepare(self, command: PreparePolicies) -> ChangePlan:
        """What the documents would change, or every error in them."""
        loaded = await self._declarations.load()
        plan = await self._plan(command, loaded)
        return ChangePlan(errors=plan.errors, changes=plan.changes, base=loaded.version)

    async def commit(self, command: CommitPolicies) -> ChangePlan:
        """Apply the documents; again is harmless. Raises ``stale`` if somebody else changed the policies first."""
        done = await self._declarations.change(command.change_id)
        if done is not None:
            base, event = done
            await self.publish()
            return ChangePlan(changes=event.changes, base=base)
        loaded = await self._declarations.load()
        if loaded.version != command.base:
            raise _stale(command.base, loaded.version)
        plan = await self._plan(command, loaded)
        if plan.policy_set is None or not plan.items:
            return ChangePlan(errors=plan.errors, changes=plan.changes, base=loaded.version)
        at = now()
        event = PoliciesChanged(
            change_id=command.change_id,
            by=command.by,
            at=at,
            changes=_fitting(plan.changes),
            policy_version=plan.policy_set.version,
        )
        moved = await self._declarations.commit(
            Change(
                change_id=command.change_id,
                base=command.base,
                version=plan.policy_set.version,
                by=command.by,
                at=at,
                items=plan.items,
                envelope=seal_event(event, time=at, key=self._key),
            )
        )
        if moved is not None:
            raise _stale(command.base, moved)
        await self._known.reload()
        await self.publish()
        return ChangePlan(changes=plan.changes, base=loaded.version)

    async def publish(self) -> None:
        """Publish the events of changes that the stream has not got. Twice is harmless: their ids are their own."""
        envelopes = await self._declarations.unpublished()
        if envelopes:
            spec = PoliciesChanged.spec
            await self._bus.publish_sealed([(spec.subject, spec.stream, e) for e in envelopes])
            await self._declarations.published([e.subject for e in envelopes], now())

    async def publishing(self) -> None:
        """The loop that catches up on a publication that a crash or an outage prevented."""
        while True:
            await self.publish()
            await asyncio.sleep(self._interval_s)

    async def _plan(self, command: PreparePolicies | CommitPolicies, loaded: Loaded) -> Plan:
        # parsing and validating a large change takes long enough to hold up decisions
        return await asyncio.to_thread(plan_change, command.documents, loaded.items, self._known.tools())


def _stale(base: str, present: str) -> CountersignError:
    message = "the policies were changed by somebody else since this change was prepared; prepare it again"
    return CountersignError(message, code="stale", base=base, present=present)


def _fitting(changes: Sequence[DeclaredChange]) -> tuple[DeclaredChange, ...]:
    """The changes without those that change nothing, and with digests if the event would be too large."""
    real = tuple(change for change in changes if change.action != "unchanged")
    if sum(len(change.to_bytes()) for change in real) <= _MOST_EVENT_BYTES:
        return real
    return tuple(
        change.model_copy(update={"before": _digests(change.before), "after": _digests(change.after)})
        for change in real
    )


def _digests(shown: dict[str, object] | None) -> dict[str, object] | None:
    if shown is None:
        return None
    return {"sha256": hashlib.sha256(orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)).hexdigest()}
