"""The business database: one SQLite file and every statement that reads or changes it (its tables: `schema`).

A write, its journal entry and the answer kept for its idempotency key are one transaction, so a key that has
an answer has exactly one effect, also across a crash. Every method blocks and may be called from any thread;
`app` calls them from its worker threads, never on the event loop.
"""

import hashlib
import json
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar
from uuid import uuid4

from ticketing import schema
from ticketing.model import (
    Customer,
    Email,
    JournalEntry,
    Sent,
    Shape,
    Ticket,
    TicketChange,
    TicketFilter,
    resolved_at,
)

Answer = TypeVar("Answer", bound=Shape)


class StoreError(Exception):
    """Base of everything this module raises on purpose."""


class DatabaseUnusable(StoreError):
    """The file cannot be opened or written, or belongs to another application."""


class NotFound(StoreError):
    """The ticket or customer does not exist."""


class KeyReused(StoreError):
    """The idempotency key was already used for a different request; nothing was done."""


class Busy(StoreError):
    """The write lock was not free in time; nothing was done, so the caller may try again."""


@dataclass(frozen=True)
class Answered(Generic[Answer]):
    """A write's answer, and whether it is the stored one of an earlier request with the same key."""

    answer: Answer
    replayed: bool


def utc_now() -> datetime:
    """The current time, with its zone."""
    return datetime.now(UTC)


class Store:
    """The database of one business. `prepare()` before use, `close()` at the end."""

    def __init__(self, path: Path, *, lock_wait_s: float = 5.0, clock: Callable[[], datetime] = utc_now) -> None:
        self._path = path
        self._lock_wait_s = lock_wait_s
        self._clock = clock
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        # SQLite lets one writer in and makes the rest poll; queueing here keeps waiting threads in turn.
        self._writer = threading.Lock()

    def prepare(self, *, reset: bool = False) -> None:
        """Create and seed the file if it is new, or from scratch with `reset`.

        Raises DatabaseUnusable if that cannot be done, Busy if another process holds it.
        """
        try:
            with self._writing() as connection:
                found = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
                owner = connection.execute("PRAGMA application_id").fetchone()[0]
                if found and owner != schema.APPLICATION_ID:
                    raise DatabaseUnusable(f"{self._path} is the database of another application")
                if reset or not found:
                    schema.create(connection)
            with self._connection() as connection:
                connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.DatabaseError as error:
            raise DatabaseUnusable(f"{self._path}: {error}") from error

    def close(self) -> None:
        """Close every idle connection; call it when no method is running any more."""
        while not self._idle.empty():
            self._idle.get_nowait().close()

    def check(self) -> None:
        """Return if the database answers; raises sqlite3.Error if not."""
        with self._connection() as connection:
            connection.execute("SELECT 1 FROM customers LIMIT 1").fetchone()

    def tickets(self, wanted: TicketFilter) -> list[Ticket]:
        """The tickets that match, by id."""
        with self._connection() as connection:
            rows = connection.execute(
                """SELECT * FROM tickets
                   WHERE (:status IS NULL OR status = :status)
                     AND (:customer_id IS NULL OR customer_id = :customer_id)
                   ORDER BY id""",
                wanted.model_dump(),
            ).fetchall()
        return [Ticket.model_validate(dict(row)) for row in rows]

    def ticket(self, ticket_id: int) -> Ticket:
        """One ticket; raises NotFound."""
        with self._connection() as connection:
            return _ticket(connection, ticket_id)

    def customer(self, customer_id: int) -> Customer:
        """One customer; raises NotFound."""
        with self._connection() as connection:
            return _customer(connection, customer_id)

    def update_ticket(self, ticket_id: int, change: TicketChange, key: str | None) -> Answered[Ticket]:
        """Apply `change` and journal it; raises NotFound, KeyReused, Busy."""
        fields = change.fields()

        def effect(connection: sqlite3.Connection) -> Ticket:
            now = self._clock()
            before = _ticket(connection, ticket_id)
            after = before.model_copy(update=fields)
            if change.status is not None:
                after = after.model_copy(update={"resolved_at": resolved_at(before, change.status, now)})
            connection.execute(
                """UPDATE tickets SET status = :status, title = :title, description = :description,
                   resolved_at = :resolved_at WHERE id = :id""",
                after.model_dump(mode="json"),
            )
            moved = {name: {"from": getattr(before, name), "to": value} for name, value in fields.items()}
            _journal(connection, now, "ticket_updated", f"tickets/{ticket_id}", key, moved)
            return after

        return self._once(key, ("update_ticket", ticket_id, fields), Ticket, effect)

    def send_email(self, customer_id: int, email: Email, key: str | None) -> Answered[Sent]:
        """Put the email in the outbox and journal it; raises NotFound, KeyReused, Busy."""

        def effect(connection: sqlite3.Connection) -> Sent:
            now = self._clock()
            recipient = _customer(connection, customer_id).email
            sent = Sent(message_id=str(uuid4()))
            connection.execute(
                "INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?)",
                (sent.message_id, customer_id, recipient, email.subject, email.body, now.isoformat()),
            )
            head = {"to": recipient, "subject": email.subject, "message_id": sent.message_id}
            _journal(connection, now, "email_sent", f"customers/{customer_id}", key, head)
            return sent

        return self._once(key, ("send_email", customer_id, email.model_dump()), Sent, effect)

    def journal(self, *, after: int = 0, idempotency_key: str | None = None) -> list[JournalEntry]:
        """The effects that happened after entry `after`, of one key if given, oldest first."""
        with self._connection() as connection:
            rows = connection.execute(
                """SELECT * FROM journal
                   WHERE id > :after AND (:key IS NULL OR idempotency_key = :key)
                   ORDER BY id""",
                {"after": after, "key": idempotency_key},
            ).fetchall()
        return [JournalEntry(**{**dict(row), "detail": json.loads(row["detail"])}) for row in rows]

    def _once(
        self,
        key: str | None,
        request: tuple[str, int, dict[str, Any]],
        kind: type[Answer],
        effect: Callable[[sqlite3.Connection], Answer],
    ) -> Answered[Answer]:
        digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        with self._writing() as connection:
            if key is not None:
                row = connection.execute("SELECT * FROM answers WHERE idempotency_key = ?", (key,)).fetchone()
                if row is not None:
                    if row["request_digest"] != digest:
                        raise KeyReused(f"the idempotency key {key} was used for a different request")
                    return Answered(kind.model_validate_json(row["answer"]), replayed=True)
            answer = effect(connection)
            if key is not None:
                connection.execute(
                    "INSERT INTO answers VALUES (?, ?, ?, ?)",
                    (key, digest, answer.model_dump_json(), self._clock().isoformat()),
                )
            return Answered(answer, replayed=False)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            # Handed from thread to thread, but used by one at a time.
            connection = sqlite3.connect(
                self._path, timeout=self._lock_wait_s, isolation_level=None, check_same_thread=False
            )
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA foreign_keys = ON")
        try:
            yield connection
        finally:
            self._idle.put(connection)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if not self._writer.acquire(timeout=self._lock_wait_s):
            raise Busy("the database is busy")
        try:
            with self._connection() as connection:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                        raise Busy("the database is busy") from error
                    raise
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
        finally:
            self._writer.release()


def _ticket(connection: sqlite3.Connection, ticket_id: int) -> Ticket:
    row = connection.execute("SELECT * FROM tickets WHERE id = ?", (ticket_id,)).fetchone()
    if row is None:
        raise NotFound(f"there is no ticket {ticket_id}")
    return Ticket.model_validate(dict(row))


def _customer(connection: sqlite3.Connection, customer_id: int) -> Customer:
    row = connection.execute("SELECT * FROM customers WHERE id = ?", (customer_id,)).fetchone()
    if row is None:
        raise NotFound(f"there is no customer {customer_id}")
    return Customer.model_validate(dict(row))


def _journal(
    connection: sqlite3.Connection,
    now: datetime,
    effect: str,
    resource: str,
    key: str | None,
    detail: dict[str, Any],
) -> None:
    connection.execute(
        "INSERT INTO journal (happened_at, effect, resource, idempotency_key, detail) VALUES (?, ?, ?, ?, ?)",
        (now.isoformat(), effect, resource, key, json.dumps(detail)),
    )
