"""What the business talks about: customers, tickets, emails and the journal of effects.

Shapes, limits and the rules that need no database. Not here: SQL (`store`) and HTTP (`app`).
"""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Status = Literal["open", "in_progress", "resolved", "closed"]
FINISHED: frozenset[Status] = frozenset({"resolved", "closed"})

Title = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Description = Annotated[str, StringConstraints(max_length=10_000)]
# One line only: a line break in a subject is how a mail header is injected.
Subject = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\r\n]+$")]
Body = Annotated[str, StringConstraints(min_length=1, max_length=10_000)]
RowId = Annotated[int, Field(ge=1, le=2**53 - 1)]


class Shape(BaseModel):
    """Base of every shape: immutable, and an unknown field is an error rather than ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Customer(Shape):
    """A person the business serves; `do_not_contact` is their wish, the API itself does not enforce it."""

    id: int
    name: str
    email: str
    do_not_contact: bool
    created_at: datetime


class Ticket(Shape):
    """A customer's request; `resolved_at` is when it was resolved or closed, null while it is neither."""

    id: int
    customer_id: int
    title: str
    description: str | None
    status: Status
    created_at: datetime
    resolved_at: datetime | None


class TicketFilter(Shape):
    """The query of `GET /tickets`; what is left out does not narrow the list."""

    status: Status | None = None
    customer_id: RowId | None = None


class TicketChange(Shape):
    """The body of `PATCH /tickets/{id}`: only the fields sent are changed, and at least one must be."""

    status: Status | None = None
    title: Title | None = None
    description: Description | None = None

    @model_validator(mode="after")
    def _changes_something_and_clears_nothing_required(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("at least one of status, title and description is needed")
        for name in ("status", "title"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise ValueError(f"{name} cannot be null")
        return self

    def fields(self) -> dict[str, Any]:
        """The fields that were sent, with their new values."""
        return self.model_dump(exclude_unset=True)


class Email(Shape):
    """The body of `POST /customers/{id}/email`."""

    subject: Subject
    body: Body


class Sent(Shape):
    """The answer to an email: it is in the outbox under this id."""

    status: Literal["sent"] = "sent"
    message_id: str


class JournalFilter(Shape):
    """The query of `GET /journal`: entries after an id, or those of one idempotency key."""

    after: Annotated[int, Field(ge=0, le=2**53 - 1)] = 0
    idempotency_key: str | None = None


class JournalEntry(Shape):
    """One effect that really happened. `detail` holds from/to per changed field, or the email's head."""

    id: int
    happened_at: datetime
    effect: Literal["ticket_updated", "email_sent"]
    resource: str
    idempotency_key: str | None
    detail: dict[str, Any]


class Health(Shape):
    """The answer of `GET /health`."""

    status: Literal["healthy"] = "healthy"


def resolved_at(before: Ticket, status: Status, now: datetime) -> datetime | None:
    """When `before` counts as resolved once it has `status`: kept if it already was, cleared if reopened."""
    if status not in FINISHED:
        return None
    return before.resolved_at or now
