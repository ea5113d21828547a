"""Declared changes: validated by every owner first, then committed by each, all or nothing.

A change that one owner has committed is finished with the others, whatever happens: it is a row here, and is re-driven.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from countersign_chassis import Bus, Database, Mirror
from countersign_contracts.approval_commands import CommitApprovalRules, PrepareApprovalRules
from countersign_contracts.catalogue import Document, FileError, ToolRecord
from countersign_contracts.commands import (
    ChangePlan,
    CommitAgents,
    CommitCatalogue,
    CommitChange,
    CommitPolicies,
    PrepareAgents,
    PrepareCatalogue,
    PrepareChange,
    PreparePolicies,
)
from countersign_contracts.control import DeclaredChange
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.fleet import AgentRecord, PersonRecord
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now

#: In the order of commitment: what is referred to comes before what refers to it.
OWNERS: dict[str, tuple[type[PrepareChange], type[CommitChange]]] = {
    "executor": (PrepareCatalogue, CommitCatalogue),
    "approvals": (PrepareApprovalRules, CommitApprovalRules),
    "policy": (PreparePolicies, CommitPolicies),
    "registry": (PrepareAgents, CommitAgents),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `apply` did or would do."""

    change_id: str | None
    applied: bool
    errors: tuple[FileError, ...]
    changes: tuple[DeclaredChange, ...]


class Changes:
    """Drives declared changes through their owners."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        tools: Mirror[ToolRecord],
        agents: Mirror[AgentRecord],
        people: Mirror[PersonRecord],
        log: Any,
    ) -> None:
        self._db = db
        self._bus = bus
        self._tools = tools
        self._agents = agents
        self._people = people
        self._log = log
        self._one_at_a_time = asyncio.Lock()

    async def apply(self, documents: Sequence[Document], *, by: str, dry_run: bool) -> Outcome:
        """Validate with all owners; without errors and dry run, commit with all.

        Raises `stale` if somebody else changed things between the two, :class:`Unavailable` if an owner is down
        (before anything was committed).
        """
        async with self._one_at_a_time:
            await self.redrive()
            change_id = prefixed("chg")
            plans = await self._prepare(change_id, by, tuple(documents))
            errors = _merged(plans)
            changes = tuple(change for plan in plans.values() for change in plan.changes)
            changed = [owner for owner, plan in plans.items() if any(c.action != "unchanged" for c in plan.changes)]
            if errors or dry_run or not changed:
                return Outcome(None, False, errors, changes)
            bases = {owner: plans[owner].base for owner in changed}
            await self._db.pool.execute(
                "INSERT INTO change (change_id, by, documents, bases, pending, created_at)"
                " VALUES ($1, $2, $3, $4, $5, $6)",
                change_id,
                by,
                orjson.dumps([d.model_dump() for d in documents]).decode(),
                orjson.dumps(bases).decode(),
                changed,
                now(),
            )
            await self._commit(change_id, by, tuple(documents), bases, changed)
            await self._seen_here(changes)
            return Outcome(change_id, True, (), changes)

    async def redrive(self) -> None:
        """Finish what was interrupted."""
        rows = await self._db.pool.fetch("SELECT * FROM change WHERE pending <> '{}' ORDER BY created_at")
        for row in rows:
            documents = tuple(Document(**d) for d in orjson.loads(row["documents"]))
            self._log.info("finishing an interrupted change", change=row["change_id"])
            await self._commit(row["change_id"], row["by"], documents, orjson.loads(row["bases"]), list(row["pending"]))

    async def _prepare(self, change_id: str, by: str, documents: tuple[Document, ...]) -> dict[str, ChangePlan]:
        plans = await asyncio.gather(
            *(self._bus.ask(prepare(change_id=change_id, by=by, documents=documents)) for prepare, _ in OWNERS.values())
        )
        return dict(zip(OWNERS, plans, strict=True))

    async def _commit(
        self, change_id: str, by: str, documents: tuple[Document, ...], bases: dict[str, str], pending: list[str]
    ) -> None:
        for position, owner in enumerate([owner for owner in OWNERS if owner in pending]):
            commit = OWNERS[owner][1](change_id=change_id, base=bases[owner], by=by, documents=documents)
            try:
                await self._bus.ask(commit)
            except CountersignError as error:
                if error.status < 500:
                    # refused for good: if nobody has committed anything the change never happened, else its rest is
                    # given up, so that it blocks no later one; what was applied is on record
                    await self._db.pool.execute("DELETE FROM change WHERE change_id = $1", change_id)
                    if position == 0 and len(pending) == len(bases):
                        raise
                    raise CountersignError(
                        f"change {change_id} was applied in part: {owner} refused its part ({error.detail});"
                        " apply the files again",
                        code="conflict",
                    ) from None
                raise Unavailable(
                    f"change {change_id} is validated and under way, but {owner} has not confirmed it yet"
                    f" ({error.detail}); it is finished as soon as {owner} answers"
                ) from None
            await self._db.pool.execute(
                "UPDATE change SET pending = array_remove(pending, $2) WHERE change_id = $1", change_id, owner
            )

    async def _seen_here(self, changes: Sequence[DeclaredChange]) -> None:
        """Let this gateway's own copies catch up, so that the next request meets what was applied."""
        for change in changes:
            if change.action == "unchanged":
                continue
            if change.kind == "tool":
                await self._tools.fetch(change.name)
            elif change.kind == "agent":
                await self._agents.fetch(change.name)
            elif change.kind == "role":
                for person in self._people.values():
                    if change.name in person.roles:
                        await self._people.fetch(person.key)

    async def run(self) -> None:
        """Finish interrupted changes for ever."""
        while True:
            await asyncio.sleep(5)
            async with self._one_at_a_time:
                await self.redrive()


def _merged(plans: dict[str, ChangePlan]) -> tuple[FileError, ...]:
    """Every owner reads every file, so the same syntax error may come from each."""
    return tuple(dict.fromkeys(error for plan in plans.values() for error in plan.errors))
