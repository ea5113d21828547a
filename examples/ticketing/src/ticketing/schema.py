"""The tables of the business database and how a file gets them. Queries are in `store`."""

import sqlite3

from ticketing import seed

APPLICATION_ID = 0x7469636B  # "tick", in the file's header: reset never empties somebody else's database
TABLES = ("answers", "journal", "outbox", "tickets", "customers")
SCHEMA = (
    """CREATE TABLE customers (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        email TEXT NOT NULL UNIQUE,
        do_not_contact INTEGER NOT NULL DEFAULT 0 CHECK (do_not_contact IN (0, 1)),
        created_at TEXT NOT NULL
    )""",
    """CREATE TABLE tickets (
        id INTEGER PRIMARY KEY,
        customer_id INTEGER NOT NULL REFERENCES customers,
        title TEXT NOT NULL,
        description TEXT,
        status TEXT NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'in_progress', 'resolved', 'closed')),
        created_at TEXT NOT NULL,
        resolved_at TEXT
    )""",
    """CREATE TABLE outbox (
        message_id TEXT PRIMARY KEY,
        customer_id INTEGER NOT NULL REFERENCES customers,
        recipient TEXT NOT NULL,
        subject TEXT NOT NULL,
        body TEXT NOT NULL,
        sent_at TEXT NOT NULL
    )""",
    # Not unique by key: were an effect ever repeated, the journal must be able to show it.
    """CREATE TABLE journal (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        happened_at TEXT NOT NULL,
        effect TEXT NOT NULL,
        resource TEXT NOT NULL,
        idempotency_key TEXT,
        detail TEXT NOT NULL
    )""",
    "CREATE INDEX journal_by_key ON journal (idempotency_key)",
    """CREATE TABLE answers (
        idempotency_key TEXT PRIMARY KEY,
        request_digest TEXT NOT NULL,
        answer TEXT NOT NULL,
        answered_at TEXT NOT NULL
    )""",
)


def create(connection: sqlite3.Connection) -> None:
    """Make every table anew and fill it from `seed`; what was there is dropped. The caller commits."""
    for table in TABLES:
        connection.execute(f"DROP TABLE IF EXISTS {table}")
    for statement in SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.executemany(
        "INSERT INTO customers VALUES (:id, :name, :email, :do_not_contact, :created_at)",
        [customer.model_dump(mode="json") for customer in seed.CUSTOMERS],
    )
    connection.executemany(
        """INSERT INTO tickets
           VALUES (:id, :customer_id, :title, :description, :status, :created_at, :resolved_at)""",
        [row.ticket.model_dump(mode="json") for row in seed.TICKETS],
    )
