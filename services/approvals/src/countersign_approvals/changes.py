"""Declared approval rules and webhooks: the two steps of a change that `countersign apply` drives."""

from __future__ import annotations

from collections.abc import Mapping

from countersign_chassis import Failpoints, Mirror
from countersign_contracts.approval_commands import CommitApprovalRules, PrepareApprovalRules
from countersign_contracts.catalogue import Tool, ToolRecord
from countersign_contracts.commands import ChangePlan
from countersign_contracts.control import ApprovalRulesChanged
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now

from .declaration_store import DeclarationStore
from .declarations import plan_change
from .outbox import Outbox
from .webhooks_secrets import WebhookSecrets


class Changes:
    """Answers PrepareApprovalRules and CommitApprovalRules."""

    def __init__(
        self,
        store: DeclarationStore,
        tools: Mirror[ToolRecord],
        secrets: WebhookSecrets,
        outbox: Outbox,
        failpoints: Failpoints,
    ) -> None:
        self._store = store
        self._tools = tools
        self._secrets = secrets
        self._outbox = outbox
        self._failpoints = failpoints

    async def prepare(self, command: PrepareApprovalRules) -> ChangePlan:
        """What the change would do to rules and webhooks, or every error in its files. Changes nothing."""
        declared = await self._store.read()
        return plan_change(
            command.documents, declared.items, declared.revision, self._known_tools(), self._secrets
        ).plan

    async def commit(self, command: CommitApprovalRules) -> ChangePlan:
        """Apply the change in one transaction; again answers the same.

        Raises `stale` if rules or webhooks changed since it was prepared, `invalid` if the files are not (any more).
        """
        async with self._store.transaction() as connection:
            declared = await self._store.read_in(connection, lock=True)
            if (done := await self._store.committed(connection, command.change_id)) is not None:
                return done
            if command.base != str(declared.revision):
                raise CountersignError(
                    f"approval rules are at {declared.revision}, the change was prepared at {command.base};"
                    " prepare it again",
                    code="stale",
                )
            change = plan_change(
                command.documents, declared.items, declared.revision, self._known_tools(), self._secrets
            )
            if change.plan.errors:
                raise CountersignError(
                    f"the change has {len(change.plan.errors)} errors",
                    code="invalid",
                    errors=[error.model_dump(mode="json", exclude_none=True) for error in change.plan.errors],
                )
            await self._store.write(connection, command.change_id, change.plan, change.items)
            changed = tuple(c for c in change.plan.changes if c.action != "unchanged")
            event = ApprovalRulesChanged(change_id=command.change_id, by=command.by, at=now(), changes=changed)
            told = await self._outbox.add(connection, [(event, None)] if changed else [])
        await self._failpoints.hit("approvals.after_change_before_publish")
        await self._outbox.send(told)
        return change.plan

    def _known_tools(self) -> Mapping[str, Tool]:
        return {record.tool.name: record.tool for record in self._tools.values()}
