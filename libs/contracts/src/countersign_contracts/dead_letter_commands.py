"""The commands that have a service handle a message again that it gave up on."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from .command import Command, Rpc
from .model import Frozen

TRUNCATED = (
    "the dead letter does not keep the whole message (it was too large, or may hold what must not go on record), so it"
    " cannot be redriven: have its sender repeat it, then drop this letter"
)


class Redriven(Frozen):
    """What became of it.

    ``failed``: the service gave up on it again, and wrote ``letter``, a new dead letter with one more try.
    ``postponed``: it could not be tried to the end; the dead letter stays as it is.
    """

    outcome: Literal["handled", "failed", "postponed"]
    reason: str | None = None
    tries: int | None = None
    letter: str | None = Field(default=None, description="the event id of the new dead letter")


class RedriveDeadLetter(Command):
    """Handle the message in a dead letter again.

    The letter is passed on as it was stored. The service that wrote it verifies its own signature over it, so that
    whoever asks can alter nothing of it, and then the message's own, as for any message.
    """

    reply: ClassVar[type[Frozen]] = Redriven
    headers: dict[str, str]
    body: str = Field(description="the JSON text of the dead letter")


class RedriveAtGateway(RedriveDeadLetter):
    rpc: ClassVar[Rpc] = Rpc("gateway", "redrive", timeout_s=30)


class RedriveAtPolicy(RedriveDeadLetter):
    rpc: ClassVar[Rpc] = Rpc("policy", "redrive", timeout_s=30)


class RedriveAtApprovals(RedriveDeadLetter):
    rpc: ClassVar[Rpc] = Rpc("approvals", "redrive", timeout_s=30)


class RedriveAtExecutor(RedriveDeadLetter):
    rpc: ClassVar[Rpc] = Rpc("executor", "redrive", timeout_s=30)


class RedriveAtAudit(RedriveDeadLetter):
    rpc: ClassVar[Rpc] = Rpc("audit", "redrive", timeout_s=30)


class RedriveAtSlack(RedriveDeadLetter):
    rpc: ClassVar[Rpc] = Rpc("slack", "redrive", timeout_s=30)


class RedriveAtRegistry(RedriveDeadLetter):
    rpc: ClassVar[Rpc] = Rpc("registry", "redrive", timeout_s=30)


#: By the service that answers. Those that consume nothing have no dead letters.
REDRIVES: dict[str, type[RedriveDeadLetter]] = {
    kind.rpc.service: kind
    for kind in (
        RedriveAtGateway,
        RedriveAtPolicy,
        RedriveAtApprovals,
        RedriveAtExecutor,
        RedriveAtAudit,
        RedriveAtSlack,
        RedriveAtRegistry,
    )
}
