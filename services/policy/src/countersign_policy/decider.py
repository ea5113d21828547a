"""Decides batches: gather what is known, let pure code decide, write decision and usage in one transaction.

The life of a decision: *examined* in memory, *concluded* under the counters' locks, *sealed*, and *written* under the
policy version it was made with; so that every later repeat publishes the very same bytes. No network in here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import get_args

from countersign_chassis import Connection, Failpoints, Metrics
from countersign_chassis.metrics import example
from countersign_contracts.actions import Action, ActionHeld, Decision, Reason
from countersign_contracts.approvals import ApprovalResolved
from countersign_contracts.catalogue import GuardrailKind
from countersign_contracts.model import now

from .conclude import amendment_of, approved_by, conclude, denied_by, refusal
from .examine import Examined, examine
from .guardrails import Count
from .issuer import Issuer
from .known import Known, PolicyMoved
from .store import Decisions, Row, Stored


@dataclass(frozen=True, slots=True)
class Job:
    """An action to be decided. ``facts``: the denials that its facts gave; None before they are looked up."""

    action: Action
    facts: tuple[Reason, ...] | None = None


@dataclass(frozen=True, slots=True)
class Resolving:
    """A held action whose approval ended."""

    held: ActionHeld
    resolved: ApprovalResolved
    facts: tuple[Reason, ...] | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """What a batch came to. ``repeated``: decided before; ``needing_facts``: not decided, facts come first."""

    stored: Mapping[str, Stored]
    repeated: frozenset[str] = frozenset()
    needing_facts: frozenset[str] = frozenset()


class Decider:
    """The shell around :mod:`.examine` and :mod:`.conclude`."""

    def __init__(
        self, known: Known, decisions: Decisions, issuer: Issuer, metrics: Metrics, failpoints: Failpoints
    ) -> None:
        self._known = known
        self._decisions = decisions
        self._issuer = issuer
        self._failpoints = failpoints
        self._outcomes = metrics.counter(
            "countersign_decisions", "Decisions by outcome and first reason", ["outcome", "reason"]
        )
        self._hits = metrics.counter("countersign_guardrail_hits", "Guardrail limits that denied an action", ["kind"])
        for kind in get_args(GuardrailKind):
            self._hits.labels(kind)  # shown from now on, with nothing counted yet
        self._seconds = metrics.histogram(
            "countersign_decision_seconds", "From taking a batch of actions to its commit"
        )
        self._latency = metrics.histogram(
            "countersign_decision_latency_seconds", "From the acceptance of an action to its first decision, per action"
        )

    async def decide(self, jobs: Sequence[Job]) -> Decided:
        """Decide each action once; one that was decided before keeps what it got. The request ids are distinct.

        Raises :class:`~countersign_contracts.errors.Unavailable` if a bucket cannot be read or the policies do not
        settle.
        """
        began = time.perf_counter()
        await self._known.reach([job.action for job in jobs])
        decided = await self._known.under_one_version(lambda: self._decide(jobs))
        self._seconds.observe(time.perf_counter() - began)
        at = now()
        for job in jobs:
            if job.action.request_id in decided.stored and job.action.request_id not in decided.repeated:
                waited_s = max(0.0, (at - job.action.requested_at).total_seconds())
                self._latency.observe(waited_s, example(job.action.request_id))
        return decided

    async def resolve(self, job: Resolving) -> Decided:
        """Finish a held action by what became of its approval; one that is no longer held keeps what it got."""
        await self._known.reach([job.held.action])
        return await self._known.under_one_version(lambda: self._resolve(job))

    # --- new actions ------------------------------------------------------------------------------

    async def _decide(self, jobs: Sequence[Job]) -> Decided:
        at, world = now(), self._known.world()
        examined = [(job, examine(job.action, world, at)) for job in jobs]
        ready = [(job, each) for job, each in examined if job.facts is not None or not each.needs_facts]
        waiting = frozenset(job.action.request_id for job in jobs) - {job.action.request_id for job, _ in ready}
        if any(each.counts for _, each in ready):
            rows, inserted = await self._write_counted(ready, self._known.version, at)
        else:
            rows, inserted = await self._write(ready, self._known.version, at)
        stored = {row.envelope.subject: _stored(row) for row in rows if row.envelope.subject in inserted}
        repeated = frozenset(job.action.request_id for job, _ in ready) - inserted
        if repeated:
            stored |= await self._decisions.find(repeated)
        return Decided(stored, repeated, waiting)

    async def _write(
        self, ready: Sequence[tuple[Job, Examined]], version: str, at: datetime
    ) -> tuple[list[Row], frozenset[str]]:
        """Nothing to count: one statement."""
        rows, made = self._concluded(ready, {}, version, at)
        await self._failpoints.hit("policy.before_commit")
        return rows, await self._insert(rows, made, version, None)

    async def _write_counted(
        self, ready: Sequence[tuple[Job, Examined]], version: str, at: datetime
    ) -> tuple[list[Row], frozenset[str]]:
        """Lock the counters, read them, conclude one action after the other, write, commit."""
        windows = {count.key: count.window_s for _, each in ready for count in each.counts}
        ids = [job.action.request_id for job, _ in ready]
        async with self._decisions.transaction() as connection:
            present = await self._decisions.begin_decisions(connection, ids, windows, at)
            if present.version != version:
                raise PolicyMoved
            used = dict(zip(windows, present.used, strict=True))
            # what is decided already must not use up a limit a second time
            fresh = [(job, each) for job, each in ready if job.action.request_id not in present.known]
            rows, made = self._concluded(fresh, used, version, at)
            inserted = await self._insert(rows, made, version, connection)
            await self._failpoints.hit("policy.before_commit")
        return rows, inserted

    def _concluded(
        self, ready: Iterable[tuple[Job, Examined]], used: dict[str, Decimal], version: str, at: datetime
    ) -> tuple[list[Row], list[Decision]]:
        """Decide in order; each action that is not denied uses up its part of ``used`` for those after it."""
        rows: list[Row] = []
        made: list[Decision] = []
        for job, each in ready:
            decision = conclude(each, used=used, facts=job.facts or (), approved=None, policy_version=version, at=at)
            if decision.outcome != "deny":
                for count in each.counts:
                    used[count.key] += count.amount
            rows.append(self._issuer.row(each, decision))
            made.append(decision)
        return rows, made

    async def _insert(
        self, rows: Sequence[Row], made: Sequence[Decision], version: str, connection: Connection | None
    ) -> frozenset[str]:
        if not rows:
            return frozenset()
        in_force, inserted = await self._decisions.insert(rows, version, connection)
        if in_force != version:
            raise PolicyMoved
        for row, decision in zip(rows, made, strict=True):
            if row.envelope.subject in inserted:
                self._observe(decision)
        return inserted

    # --- held actions -----------------------------------------------------------------------------

    async def _resolve(self, job: Resolving) -> Decided:
        at, version, action = now(), self._known.version, job.held.action
        refused = refusal(job.held, job.resolved)
        examined: Examined | None = None
        counts: tuple[Count, ...] = ()
        if not refused:
            examined = examine(action, self._known.world(), at)
            counts = examined.counts
            if examined.needs_facts and job.facts is None:
                return Decided({}, needing_facts=frozenset([action.request_id]))
        row: Row | None = None
        async with self._decisions.transaction() as connection:
            present = await self._decisions.begin_resolution(connection, action.request_id, counts, at)
            if present.version != version:
                raise PolicyMoved
            if present.held:
                if examined is None:
                    decision = denied_by(job.held, refused, at)
                    row = self._issuer.refusal(job.held, decision, amendment_of(job.held, job.resolved))
                else:
                    used = {count.key: u for count, u in zip(counts, present.used, strict=True)}
                    decision = conclude(
                        examined,
                        used=used,
                        facts=job.facts or (),
                        approved=approved_by(job.held, job.resolved),
                        policy_version=version,
                        at=at,
                    )
                    row = self._issuer.row(examined, decision)
                await self._decisions.resolve(connection, row)
                self._observe(decision)
            await self._failpoints.hit("policy.before_commit")
        if row is None:
            repeated = frozenset([action.request_id])
            return Decided(await self._decisions.find(repeated), repeated)
        return Decided({action.request_id: _stored(row)})

    def _observe(self, decision: Decision) -> None:
        self._outcomes.labels(decision.outcome, decision.reasons[0].code).inc()
        for use in decision.guardrails:
            if use.exceeded:
                self._hits.labels(use.kind).inc()


def _stored(row: Row) -> Stored:
    return Stored(row.envelope.subject, row.agent_id, row.outcome, row.envelope)
