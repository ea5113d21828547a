"""What people and services ask of executions: look one up, reconcile an unknown one, look facts up."""

from __future__ import annotations

from countersign_contracts.actions import ActionExecuted, ActionReconciled
from countersign_contracts.commands import (
    ExecutionView,
    GetExecution,
    LookUpFacts,
    ReconcileAction,
)
from countersign_contracts.commands import (
    Facts as FactsView,
)
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.model import now

from .announcer import Announcer
from .catalogue import ToolCatalogue
from .control_store import ControlStore
from .executions import Executions
from .facts import Facts
from .measures import Measures
from .recovery import ExecutionRow


class Queries:
    """Answers to commands about single actions."""

    def __init__(
        self,
        executions: Executions,
        control: ControlStore,
        announcer: Announcer,
        catalogue: ToolCatalogue,
        facts: Facts,
        measures: Measures,
    ) -> None:
        self._executions = executions
        self._control = control
        self._announcer = announcer
        self._catalogue = catalogue
        self._facts = facts
        self._measures = measures

    async def get_execution(self, command: GetExecution) -> ExecutionView:
        """The execution as its row has it; raises `not_found`."""
        row = await self._executions.get(command.request_id)
        if row is None:
            raise _not_found(command.request_id)
        return view(row)

    async def reconcile(self, command: ReconcileAction) -> ExecutionView:
        """Write what was found out about an unknown outcome.

        The same again is harmless; another raises `already_final`.
        """
        async with self._executions.transaction() as connection:
            row = await self._executions.lock_row(connection, command.request_id)
            if row is None:
                raise _not_found(command.request_id)
            if row.state != "unknown" or row.event is None:
                raise CountersignError(
                    f"the execution is {row.state}; only an unknown outcome can be reconciled",
                    code="conflict",
                )
            if row.reconciled is not None and row.reconciled != command.outcome:
                raise CountersignError(f"it was reconciled as {row.reconciled} already", code="already_final")
            if row.reconciled is None:
                event = ActionReconciled(
                    action=ActionExecuted.from_bytes(row.event).action,
                    outcome=command.outcome,
                    by=command.by,
                    note=command.note,
                    reconciled_at=now(),
                )
                await self._executions.reconcile(connection, row.request_id, command.outcome, event.to_bytes())
                await self._control.announce(connection, event)
        self._measures.unknown_open.set(await self._executions.unknown_open())
        await self._announcer.tell()
        return await self.get_execution(GetExecution(request_id=command.request_id))

    async def look_up_facts(self, command: LookUpFacts) -> FactsView:
        """The denials; raises :class:`Unavailable` where a fact cannot be known, so that the asker denies."""
        record = await self._catalogue.find(command.tool, command.tool_version)
        if record is None or record.version != command.tool_version:
            raise Unavailable(f"`{command.tool}` is not in the catalogue at version {command.tool_version}")
        return FactsView(denials=await self._facts.look_up(record.tool, command.args))


def view(row: ExecutionRow) -> ExecutionView:
    """A row as it is shown."""
    execution = None
    if row.event is not None and row.state != "refused":
        execution = ActionExecuted.from_bytes(row.event).execution
    return ExecutionView(
        request_id=row.request_id,
        state=row.state,
        fence=row.fence,
        execution=execution,
        reconciled=row.reconciled,
    )


def _not_found(request_id: str) -> CountersignError:
    return CountersignError(
        f"the executor has nothing of action {request_id}: it was not granted (yet)", code="not_found"
    )
