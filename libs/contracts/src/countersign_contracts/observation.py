"""Agents as services of NATS (ADR-32): who may ask for them, and for how long.

Who observes is given a NATS user of account AGENTS that can ask ``$SRV.…`` and hear the answers, and nothing else.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from .command import Command, Rpc
from .event import Event, Spec
from .model import Frozen, Time

#: What is asked: who is there, what each is, and what it did.
VERBS = ("PING", "INFO", "STATS")
#: How long an observer may ask, in seconds, where nothing else is said, and at most.
OBSERVES_S, OBSERVES_AT_MOST_S = 900, 3600


def asked(verb: str) -> tuple[str, str]:
    """The subjects on which all, or those of a name, or the one of an id, are asked."""
    return f"$SRV.{verb}", f"$SRV.{verb}.>"


class IssuedObserver(Frozen):
    """A secret, shown once: ``nats_creds`` is the text of a NATS credentials file."""

    observer_id: str
    nats_creds: str
    inbox_prefix: str = Field(description="the answers arrive below it alone: give it to the NATS client")
    expires_at: Time


class IssueObserver(Command):
    """A NATS user that can ask which agents run, and nothing else. It ends by itself, soon."""

    rpc: ClassVar[Rpc] = Rpc("registry", "issue_observer")
    reply: ClassVar[type[Frozen]] = IssuedObserver
    lifetime_s: int = Field(default=OBSERVES_S, ge=10, le=OBSERVES_AT_MOST_S)
    by: str


class Observer(Frozen):
    """Whoever was given such a user; the user itself is not kept."""

    observer_id: str
    created_at: Time
    created_by: str
    expires_at: Time
    revoked_at: Time | None = None
    revoked_by: str | None = None


class Observers(Frozen):
    """Those of now and of the last day, the latest first."""

    items: tuple[Observer, ...]
    next: str | None = Field(default=None, description="pass as `after` for the next page; none: there is no more")


class ListObservers(Command):
    rpc: ClassVar[Rpc] = Rpc("registry", "observers")
    reply: ClassVar[type[Frozen]] = Observers
    limit: int = Field(default=100, ge=1, le=500)
    after: str | None = Field(default=None, max_length=64, description="an observer's id")


class RevokeObserver(Command):
    """It asks nothing more from now on. Again is harmless."""

    rpc: ClassVar[Rpc] = Rpc("registry", "revoke_observer", timeout_s=10)
    reply: ClassVar[type[Frozen]] = Observer
    observer_id: str = Field(min_length=1, max_length=64)
    by: str


class ObserverEvent(Event):
    """Of an observer; no agent's."""

    observer_id: str
    by: str
    at: Time

    def about(self) -> str:
        return self.observer_id

    def token(self) -> str:
        return "observers"


class ObserverIssued(ObserverEvent):
    """Somebody may ask over NATS which agents run, until then."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.observer_issued.{token}", ("registry",))
    expires_at: Time

    def event_id(self) -> str:
        return f"{self.observer_id}.issued"


class ObserverRevoked(ObserverEvent):
    """They may not any more."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.observer_revoked.{token}", ("registry",))

    def event_id(self) -> str:
        return f"{self.observer_id}.revoked"
