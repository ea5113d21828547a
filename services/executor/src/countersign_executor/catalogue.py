"""The catalogue at work.

What is declared now, kept in memory with its ready-made endpoints, and the change commands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from countersign_contracts.catalogue import ToolRecord
from countersign_contracts.commands import ChangePlan, CommitCatalogue, ListTools, PrepareCatalogue, Tools
from countersign_contracts.control import CatalogueChanged
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now

from .announcer import Announcer
from .catalogue_store import CatalogueStore
from .change import Catalogue, plan_change
from .control_store import ControlStore
from .request import Endpoint
from .secrets import Secrets

#: Of the tools on one page: a message of the bus has at most 1 MiB.
_PAGE_BYTES = 512 * 1024


class ToolCatalogue:
    """``secrets`` reads the secrets anew, so that a change may use one that was just added."""

    def __init__(
        self,
        store: CatalogueStore,
        control: ControlStore,
        secrets: Callable[[], Secrets],
        announcer: Announcer,
    ) -> None:
        self._store = store
        self._control = control
        self._secrets = secrets
        self._announcer = announcer
        self._catalogue = Catalogue({}, 0)
        self._endpoints: dict[str, tuple[int, Endpoint]] = {}

    def get(self, name: str) -> ToolRecord | None:
        """The tool as this process knows it."""
        return self._catalogue.tools.get(name)

    def endpoint(self, record: ToolRecord) -> Endpoint:
        """The tool's call, made ready once for each version."""
        version, endpoint = self._endpoints.get(record.tool.name, (0, None))
        if endpoint is None or version != record.version:
            endpoint = Endpoint.of(record.tool.http)
            self._endpoints[record.tool.name] = (record.version, endpoint)
        return endpoint

    async def find(self, name: str, version: int) -> ToolRecord | None:
        """The tool; read anew where another executor may have changed it."""
        record = self.get(name)
        if record is None or record.version != version:
            await self.load()
            record = self.get(name)
        return record

    async def load(self) -> None:
        """Read the tables."""
        self._catalogue = await self._store.read()

    async def records(self) -> Mapping[str, ToolRecord]:
        """Everything that is projected into bucket ``tools``."""
        await self.load()
        return self._catalogue.tools

    async def prepare(self, command: PrepareCatalogue) -> ChangePlan:
        """What the change would do, or everything that is wrong with it."""
        return plan_change(command.documents, await self._store.read(), self._secrets()).plan

    async def commit(self, command: CommitCatalogue) -> ChangePlan:
        """Apply a prepared change; again is harmless.

        Raises `stale` if the catalogue moved since, `invalid` if the documents are not (any more).
        """
        async with self._store.transaction() as connection:
            catalogue = await self._store.read_in(connection, lock=True)
            if (done := await self._store.committed(connection, command.change_id)) is not None:
                return done
            if command.base != str(catalogue.revision):
                raise CountersignError(
                    f"the catalogue is at {catalogue.revision}, the change was prepared at {command.base};"
                    " prepare it again",
                    code="stale",
                )
            change = plan_change(command.documents, catalogue, self._secrets())
            if change.plan.errors:
                raise CountersignError(
                    f"the change has {len(change.plan.errors)} errors",
                    code="invalid",
                    errors=[error.model_dump(mode="json", exclude_none=True) for error in change.plan.errors],
                )
            await self._store.write(connection, command.change_id, change.plan, change.records)
            if change.records:
                changed = tuple(c for c in change.plan.changes if c.action != "unchanged")
                event = CatalogueChanged(change_id=command.change_id, by=command.by, at=now(), changes=changed)
                await self._control.announce(connection, event)
        await self.load()
        await self._announcer.tell("tools")
        return change.plan

    async def listed(self, command: ListTools) -> Tools:
        """A page of the tools by name, of what fits into one message."""
        records = self._catalogue.tools
        names = sorted(name for name in records if name > (command.after or ""))
        items: list[ToolRecord] = []
        size = 0
        for name in names[: command.limit]:
            size += len(records[name].to_bytes())
            if items and size > _PAGE_BYTES:
                break
            items.append(records[name])
        return Tools(items=tuple(items), next=items[-1].tool.name if len(items) < len(names) else None)
