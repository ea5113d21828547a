"""Finds out what became of unknown outcomes, where the tool declares how: a bounded number of read-only lookups.

A probe decides nothing but what it was declared to: the lookup's own tool says where it goes, with its secrets and
its egress rules. What stays unclear stays ``unknown``, and is left to people.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from countersign_contracts.actions import ActionExecuted, ActionReconciled, ProbeEvidence
from countersign_contracts.catalogue import Probe, ToolRecord
from countersign_contracts.model import now
from countersign_contracts.sensitive import read_marks

from .announcer import Announcer
from .answer import Answer
from .caller import Caller
from .catalogue import ToolCatalogue
from .control_store import ControlStore
from .executions import Executions
from .measures import Measures
from .probe import Found, judge, pause_s, probe_args
from .probe_store import Due, ProbeStore
from .request import Endpoint, InvalidArguments
from .secrets import SecretWithheld
from .slots import Slots

_AT_ONCE = 16


class Inconclusive(Exception):
    """The lookup did not tell."""


class Probing:
    """``run`` belongs to the service's loops."""

    def __init__(
        self,
        store: ProbeStore,
        executions: Executions,
        control: ControlStore,
        announcer: Announcer,
        catalogue: ToolCatalogue,
        caller: Caller,
        slots: Slots,
        measures: Measures,
        *,
        max_probes: int,
        interval_s: float,
        first_pause_s: float,
        max_pause_s: float,
        log: Any,
    ) -> None:
        self._store = store
        self._executions = executions
        self._control = control
        self._announcer = announcer
        self._catalogue = catalogue
        self._caller = caller
        self._slots = slots
        self._measures = measures
        self._max_probes = max_probes
        self._interval_s = interval_s
        self._pause: Callable[[int], float] = lambda probes: pause_s(probes, first_pause_s, max_pause_s)
        self._log = log

    async def run(self) -> None:
        """For ever."""
        while True:
            due = await self._store.due(self._max_probes, _AT_ONCE)
            await asyncio.gather(*(self._one(each) for each in due))
            if len(due) < _AT_ONCE:
                await asyncio.sleep(self._interval_s)

    async def _one(self, due: Due) -> None:
        executed = ActionExecuted.from_bytes(due.event)
        # as it was when it was called: one that was declared since speaks of other calls
        tool = await self._store.tool(executed.action.tool, executed.action.tool_version)
        if tool is None or (probe := tool.probe) is None:
            return await self._store.never(due.request_id)
        early_s = probe.after_s - (now() - due.finished_at).total_seconds()
        if early_s > 0:
            return await self._store.later(due.request_id, due.probes, early_s)
        probes = due.probes + 1
        try:
            lookup, answer = await self._look_up(probe, due.request_id)
            if not isinstance(found := judge(probe, answer), Found):
                raise Inconclusive(found)
        except Exception as error:  # whatever it is, it is not asked for ever
            self._measures.probes.labels("inconclusive").inc()
            self._log.warning(
                "a probe does not tell", request=due.request_id, probes=probes, reason=str(error) or repr(error)
            )
            return await self._store.later(due.request_id, probes, self._pause(probes))
        if read_marks(tool.arguments)[0]:
            # the lookup may show what was sent: by a hash of that a sensitive value could be guessed
            answer = replace(answer, sha256=None)
        await self._reconcile(executed, lookup, answer, found, probes)

    async def _look_up(self, probe: Probe, request_id: str) -> tuple[ToolRecord, Answer]:
        """One lookup; raises :class:`Inconclusive` where no whole answer came."""
        record = self._catalogue.get(probe.tool)
        if record is None or record.tool.effect != "read":
            raise Inconclusive(f"the catalogue has no read tool `{probe.tool}`")
        endpoint = Endpoint.of(record.tool.http)
        try:
            request = endpoint.request(probe_args(probe, request_id))
            headers = self._caller.headers(record.tool, endpoint.host, idempotency_key=None, traceparent=None)
        except (InvalidArguments, SecretWithheld) as error:
            raise Inconclusive(f"`{probe.tool}` cannot be called: {error}") from None
        async with self._slots.one(endpoint.host):
            called = await self._caller.call(record.tool, request, headers, _open)
        last = called.attempts[-1]
        if last.kind != "answered" or last.answer is None:
            raise Inconclusive(f"`{probe.tool}`: {last.failure.message if last.failure else 'no answer'}")
        return record, last.answer

    async def _reconcile(
        self, executed: ActionExecuted, lookup: ToolRecord, answer: Answer, found: Found, probes: int
    ) -> None:
        name = lookup.tool.name
        at = f" with this `{found.path}`" if found.path is not None else ""
        event = ActionReconciled(
            action=executed.action,
            outcome=found.outcome,
            by=f"probe:{name}",
            note=f"`{name}` answered {answer.status}{at}, as declared in `{found.declared}`",
            reconciled_at=now(),
            probe=ProbeEvidence(
                tool=name,
                tool_version=lookup.version,
                status_code=answer.status,
                path=found.path,
                value=found.value,
                response_sha256=answer.sha256,
                probes=probes,
            ),
        )
        async with self._executions.transaction() as connection:
            row = await self._executions.lock_row(connection, event.action.request_id)
            if row is None or row.state != "unknown" or row.reconciled is not None:
                return  # a person was faster
            await self._executions.reconcile(connection, row.request_id, found.outcome, event.to_bytes())
            await self._control.announce(connection, event)
        self._measures.probes.labels("happened" if found.outcome == "succeeded" else "not_happened").inc()
        self._measures.unknown_open.set(await self._executions.unknown_open())
        await self._announcer.tell()


async def _open() -> None:
    """The gate of a lookup: it has no effect."""
