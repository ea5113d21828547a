"""The business over HTTP: routes and their wiring. What they do is in `store`, how they fail in `problem`.

Routes are plain functions: FastAPI runs them in worker threads, so the event loop never waits for SQLite.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Response
from fastapi import Path as PathParameter
from starlette.concurrency import run_in_threadpool

from ticketing import problem
from ticketing.model import (
    Customer,
    Email,
    Health,
    JournalEntry,
    JournalFilter,
    Sent,
    Ticket,
    TicketChange,
    TicketFilter,
)
from ticketing.store import Answer, Answered, Store

RowIdInPath = Annotated[int, PathParameter(ge=1, le=2**53 - 1)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Repeat a request with its key and it gets the stored answer, without a second effect.",
    ),
]
PROBLEM = {"content": {problem.MEDIA_TYPE: {"schema": problem.Problem.model_json_schema()}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    422: {"description": "The request does not have the right shape", **PROBLEM},
    "default": {"description": "Any other problem", **PROBLEM},
}


def build(database: Path, *, lock_wait_s: float = 5.0) -> FastAPI:
    """The API on the SQLite file `database`, which is created and seeded at start-up if it is new.

    A write that cannot get the database within `lock_wait_s` seconds is answered 503 and has not happened.
    """
    store = Store(database, lock_wait_s=lock_wait_s)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with closing(store):
            await run_in_threadpool(store.prepare)
            yield

    app = FastAPI(title="Ticketing", version="0.1.0", lifespan=lifespan, responses=PROBLEMS, redoc_url=None)
    problem.install(app)

    @app.get("/health")
    def health() -> Health:
        """Healthy: the process runs and its database answers."""
        store.check()
        return Health()

    @app.get("/tickets")
    def list_tickets(wanted: Annotated[TicketFilter, Query()]) -> list[Ticket]:
        """Tickets, by id, optionally of one status or one customer."""
        return store.tickets(wanted)

    @app.get("/tickets/{ticket_id}")
    def get_ticket(ticket_id: RowIdInPath) -> Ticket:
        """One ticket."""
        return store.ticket(ticket_id)

    @app.patch("/tickets/{ticket_id}")
    def update_ticket(
        ticket_id: RowIdInPath, change: TicketChange, response: Response, key: IdempotencyKey = None
    ) -> Ticket:
        """Change the fields that are sent; the answer is the whole ticket as it is then."""
        return _answer(store.update_ticket(ticket_id, change, key), response)

    @app.get("/customers/{customer_id}")
    def get_customer(customer_id: RowIdInPath) -> Customer:
        """One customer."""
        return store.customer(customer_id)

    @app.post("/customers/{customer_id}/email")
    def send_email(customer_id: RowIdInPath, email: Email, response: Response, key: IdempotencyKey = None) -> Sent:
        """Send an email: it is put in the outbox. `do_not_contact` is not checked here."""
        return _answer(store.send_email(customer_id, email, key), response)

    @app.get("/journal")
    def journal(wanted: Annotated[JournalFilter, Query()]) -> list[JournalEntry]:
        """The example's aid for onlookers: every effect that really happened, oldest first."""
        return store.journal(after=wanted.after, idempotency_key=wanted.idempotency_key)

    return app


def _answer(answered: Answered[Answer], response: Response) -> Answer:
    if answered.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return answered.answer
