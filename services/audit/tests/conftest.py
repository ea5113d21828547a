"""What audit's tests stand on: events as services emit them, messages as streams bring them, and who asks audit."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from countersign_chassis import Bus
from countersign_contracts.actions import Action, ActionGranted, ActionRequested, Decision
from countersign_contracts.canonical import action_digest
from countersign_contracts.commands import ConfirmOnRecord, ExportLedger, ExportPage, Receipt
from countersign_contracts.envelope import Envelope, seal_event
from countersign_contracts.errors import CountersignError
from countersign_contracts.event import SERVICES, Event
from countersign_contracts.ids import new_id
from countersign_contracts.topology import emits
from countersign_harness.stack import Stack
from countersign_ledger import Report, SigningKey, TrustBundle, verify_export

AT = datetime(2026, 1, 31, 12, 0, 0, 250_000, UTC)


class Make:
    """Makes events."""

    at = AT

    def action(self, agent_id: str = "agent-1", session_id: str | None = "run-1", **args: Any) -> Action:
        """An action of an agent, with a new request id."""
        what: dict[str, Any] = {"tool": "update_ticket", "tool_version": 1, "env": "prod"}
        return Action(
            request_id=new_id(),
            agent_id=agent_id,
            session_id=session_id,
            args=args,
            digest=action_digest(agent=agent_id, principal_chain=(), session=session_id, args=args, **what),
            requested_at=AT,
            **what,
        )

    def requested(self, action: Action | None = None) -> ActionRequested:
        """The gateway's event."""
        return ActionRequested(action=action or self.action(), channel="nats", credential_id="cred_1")

    def granted(self, action: Action | None = None, warrant: str = "w" * 700) -> ActionGranted:
        """Policy's event, as large as a real one."""
        decision = Decision(
            outcome="allow", reasons=(), policies=("profile.support",), policy_version="sha256:1", decided_at=AT
        )
        return ActionGranted(action=action or self.action(ticket=7), decision=decision, warrant=warrant)


@dataclass(frozen=True)
class StoredMessage:
    """A message as a stream brings it."""

    subject: str
    headers: dict[str, str]
    body: bytes
    stream: str = "ACTIONS"
    epoch: int = 1_769_850_000
    stream_seq: int = 1
    tries: int = 1
    stored_at: datetime = AT

    def with_headers(self, **headers: str | None) -> StoredMessage:
        """Some headers changed, or taken away; ``ce_id`` stands for ``ce-id``."""
        changed = self.headers | {k.replace("_", "-"): v for k, v in headers.items() if v is not None}
        gone = {k.replace("_", "-") for k, v in headers.items() if v is None}
        return replace(self, headers={k: v for k, v in changed.items() if k not in gone})

    def at(self, stream_seq: int, **changes: Any) -> StoredMessage:
        """The same at another place."""
        return replace(self, stream_seq=stream_seq, **changes)


class Keys:
    """The keys of a deployment, without one."""

    def __init__(self) -> None:
        self.keys = {service: SigningKey.generate(service) for service in SERVICES}
        self.trust = TrustBundle.of("test", [key.trusted(emits(service)) for service, key in self.keys.items()])

    def message(self, event: Event, by: str, stream_seq: int = 1, at: datetime = AT) -> StoredMessage:
        """The event as its stream brings it, signed by that service."""
        return self.stored(seal_event(event, time=at, key=self.keys[by]), event.nats_subject(), stream_seq)

    def stored(self, envelope: Envelope, subject: str, stream_seq: int = 1) -> StoredMessage:
        """An envelope as a stream brings it."""
        return StoredMessage(subject, envelope.headers(), envelope.body, stream_seq=stream_seq)


class Asking:
    """Asks audit as executor and gateway do, and looks into its database as nobody may."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._buses: dict[str, Bus] = {}

    async def bus(self, service: str) -> Bus:
        """A bus as that service."""
        if service not in self._buses:
            self._buses[service] = await self.stack.bus(service)
        return self._buses[service]

    async def receipt(self, *event_ids: str, wait_s: float = 3) -> Receipt:
        """Ask whether these are on record."""
        executor = await self.bus("executor")
        receipt: Receipt = await executor.ask(ConfirmOnRecord(event_ids=event_ids, wait_s=wait_s))
        return receipt

    async def export(self, first_seq: int = 1) -> list[str]:
        """Every line of an export."""
        gateway = await self.bus("gateway")
        page = await self._first_page(gateway, first_seq)
        lines = list(page.lines)
        while page.next is not None:
            page = await gateway.ask(ExportLedger(first_seq=first_seq, next=page.next, last_seq=page.last_seq))
            lines += page.lines
        return lines

    async def _first_page(self, gateway: Bus, first_seq: int) -> ExportPage:
        """A replica that stands by signs nothing: for a moment it may have nothing to show, and says so."""
        async with asyncio.timeout(5):
            while True:
                try:
                    page: ExportPage = await gateway.ask(ExportLedger(first_seq=first_seq))
                    return page
                except CountersignError as error:
                    if "nothing is covered" not in error.detail:
                        raise
                await asyncio.sleep(0.05)

    async def verified(self) -> Report:
        """The verification of an export, as a stranger would make it."""
        return verify_export(await self.export(), self.stack.trust())

    async def sql(self, query: str, *values: Any) -> list[asyncpg.Record]:
        """As superuser, with every trigger off."""
        connection = await asyncpg.connect(self.stack.superuser_dsn())
        try:
            await connection.execute("SET session_replication_role = replica; SET search_path = audit")
            return await connection.fetch(query, *values)
        finally:
            await connection.close()

    async def keep(self) -> None:
        """Copy the ledger, to tamper with it more than once."""
        for table in ("entries", "checkpoints"):
            await self.sql(f"CREATE TABLE kept_{table} AS TABLE {table}")

    async def restore(self) -> None:
        """The ledger as it was kept."""
        for table in ("entries", "checkpoints"):
            await self.sql(f"TRUNCATE {table}")
            await self.sql(f"INSERT INTO {table} TABLE kept_{table}")


@pytest.fixture(scope="session")
def make() -> Make:
    return Make()


@pytest.fixture(scope="session")
def keys() -> Keys:
    return Keys()


@pytest.fixture
def asking(stack: Stack) -> Asking:
    return Asking(stack)
