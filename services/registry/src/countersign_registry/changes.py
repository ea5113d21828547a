"""Declared agents, roles and alert rules: the steps of a change that `countersign apply` drives through its owners."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from countersign_chassis import Connection
from countersign_contracts.alerts import AlertRulesChanged
from countersign_contracts.commands import ChangePlan, CommitAgents, PrepareAgents
from countersign_contracts.custom_roles import Role
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import PersonRecord
from countersign_contracts.model import now

from . import declarations, role_declarations
from .aftermath import Aftermath
from .alert_declarations import base_of, plan_rules
from .alert_store import AlertStore
from .declarations import Declared
from .outbox import Outbox
from .people_store import PeopleStore
from .role_store import RoleStore
from .roles import RoleChanges
from .store import Lock, Store

_COMMITTED = "SELECT plan FROM declared_change WHERE change_id = $1"
_COMMIT = "INSERT INTO declared_change (change_id, plan, committed_at) VALUES ($1, $2, $3)"


class Changes:
    """Answers PrepareAgents and CommitAgents."""

    def __init__(
        self,
        store: Store,
        alerts: AlertStore,
        people: PeopleStore,
        roles: RoleStore,
        role_changes: RoleChanges,
        outbox: Outbox,
        aftermath: Aftermath,
    ) -> None:
        self._store = store
        self._alerts = alerts
        self._people = people
        self._roles = roles
        self._role_changes = role_changes
        self._outbox = outbox
        self._aftermath = aftermath

    async def prepare(self, command: PrepareAgents) -> ChangePlan:
        """What the change would do, or every error in its files. Changes nothing."""
        declared = declarations.read(command.documents)
        async with self._store.transaction() as connection:
            present = await self._store.present(connection, declared.agent_ids, now())
            roles = await self._roles.present(connection, declared.roles)
            actor = None if command.by is None else await self._people.find(connection, command.by)
            plan = _with_roles(declarations.plan(declared, present), declared, roles, command.by, actor)
            return await self._with_rules(connection, declared, plan)

    async def commit(self, command: CommitAgents) -> ChangePlan:
        """Apply the change in one transaction; again answers the same.

        Raises `stale` if what is declared is not any more as it was when the change was prepared, or who
        declares it may not any more.
        """
        declared = declarations.read(command.documents)
        people: list[str] = []
        async with self._store.transaction() as connection:
            await self._store.within(connection, Lock.DECLARE)
            done = await connection.fetchval(_COMMITTED, command.change_id)
            if done is not None:
                plan = ChangePlan.from_bytes(done.encode())
            else:
                at = now()
                present = await self._store.lock(connection, declared.agent_ids, at)
                roles = await self._roles.lock(connection, declared.roles)
                actor = await self._people.find(connection, command.by) if declared.roles else None
                if declared.rules:
                    await self._store.within(connection, Lock.ALERTS)
                plan = _with_roles(declarations.plan(declared, present), declared, roles, command.by, actor)
                plan = await self._with_rules(connection, declared, plan)
                if plan.errors or plan.base != command.base:
                    raise _stale(command)
                created, changed = declarations.changes(declared, present, command.by, at, command.change_id)
                for change in created:
                    if not await self._store.create(connection, change, command.by, at):
                        raise _stale(command)
                for change in changed:
                    await self._store.save(connection, change, command.by, at)
                by_id = sorted((*created, *changed), key=lambda change: change.record.agent_id)
                await self._outbox.add(connection, [event for change in by_id for event in change.events])
                if new := role_declarations.changed(declared.roles, roles):
                    people = await self._role_changes.write(connection, new, roles, command.by, at, command.change_id)
                await self._commit_rules(connection, command, declared, plan, at)
                await connection.execute(_COMMIT, command.change_id, plan.to_bytes().decode(), at)
        touched = [change.name for change in plan.changes if change.kind == "agent" and change.action != "unchanged"]
        await self._aftermath.of(within_s=command.rpc.timeout_s - 1, agents=touched, people=people)
        return plan

    async def _with_rules(self, connection: Connection, declared: Declared, plan: ChangePlan) -> ChangePlan:
        """The plan with what becomes of alert rules; as it is, where the change declares none."""
        if not declared.rules:
            return plan
        present = {name: row.rule for name, row in (await self._alerts.rules(connection)).items()}
        changes = () if plan.errors else (*plan.changes, *plan_rules(declared.rules, present))
        return plan.model_copy(update={"changes": changes, "base": f"{plan.base} {base_of(declared.rules, present)}"})

    async def _commit_rules(
        self,
        connection: Connection,
        command: CommitAgents,
        declared: Declared,
        plan: ChangePlan,
        at: datetime,
    ) -> None:
        changed = tuple(c for c in plan.changes if c.kind == "alert_rule" and c.action != "unchanged")
        names = {change.name for change in changed}
        for rule in declared.rules:
            if rule.name in names:
                await self._alerts.put(connection, rule, command.by, at)
        if changed:
            event = AlertRulesChanged(change_id=command.change_id, by=command.by, at=at, changes=changed)
            await self._outbox.add(connection, [event])


def _with_roles(
    plan: ChangePlan, declared: Declared, present: Mapping[str, Role], by: str | None, actor: PersonRecord | None
) -> ChangePlan:
    errors = (*plan.errors, *role_declarations.errors(declared.roles, present, by, actor))
    changes = (*plan.changes, *role_declarations.changes(declared.roles, present))
    base = role_declarations.base(plan.base, declared.roles, present)
    return ChangePlan(errors=errors, changes=() if errors else changes, base=base)


def _stale(command: CommitAgents) -> CountersignError:
    return CountersignError(
        f"an agent, a role or an alert rule that change {command.change_id} declares was changed meanwhile, or what you"
        " may; apply the files again",
        code="stale",
    )
