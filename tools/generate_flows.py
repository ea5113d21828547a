"""Who sends and who receives what, read off the contracts: for every page that says so.

Nothing is written here that the contracts do not say, but the names of a subject's variable tokens, which code
computes; an event for which none is known stops the generator.
"""

from countersign_contracts import topology
from countersign_contracts.actions import ActionEvent
from countersign_contracts.agent_config import ConfigChanged
from countersign_contracts.approvals import ApprovalEvent, StandingEvent
from countersign_contracts.command import COMMANDS, Command
from countersign_contracts.control import DeadLettered
from countersign_contracts.custom_roles import RoleChanged
from countersign_contracts.enrolment import TokenEvent
from countersign_contracts.event import EVENTS, SERVICES, Event
from countersign_contracts.fleet import FleetEvent, PersonChanged
from countersign_contracts.logins import LoginEvent
from countersign_contracts.observation import ObserverIssued
from countersign_contracts.packages import PackageEvent

#: What a family of events puts in the place of a subject's `{token}`.
_TOKENS: tuple[tuple[type[Event], str], ...] = (
    (ActionEvent, "{agent_id}"),
    (ApprovalEvent, "{approval_id}"),
    (StandingEvent, "{standing_id}"),
    (FleetEvent, "{agent_id}"),
    (ConfigChanged, "{configured}"),
    (PackageEvent, "{agent_type}"),
    (TokenEvent, "{agent_type}"),
    (PersonChanged, "people"),
    (ObserverIssued, "observers"),
    (LoginEvent, "people"),
    (RoleChanged, "roles"),
    (PackageEvent, "{agent_type}"),
    (TokenEvent, "{agent_type}"),
    (DeadLettered, "{stream}.{consumer}"),
)


def events() -> list[type[Event]]:
    """Every event, in the order of their types."""
    return [EVENTS[type] for type in sorted(EVENTS)]


def commands() -> list[type[Command]]:
    """Every command, in the order of their types."""
    return [COMMANDS[type] for type in sorted(COMMANDS)]


def address(kind: type[Event]) -> str:
    """The event's subject with its variable tokens named. Raises LookupError for an unknown family."""
    subject = kind.spec.subject
    if "{token}" not in subject:
        return subject
    for family, token in _TOKENS:
        if issubclass(kind, family):
            return subject.replace("{token}", token)
    raise LookupError(f"what stands in the last token of {subject}? Say so in {__file__}")


def pattern(kind: type[Event]) -> str:
    """The event's subject with wildcards: what a filter of the topology has to cover."""
    return subject_pattern(address(kind))


def subject_pattern(address: str) -> str:
    """An address with every variable token as a wildcard."""
    return ".".join("*" if token.startswith("{") else token for token in address.split("."))


def covers(outer: str, inner: str) -> bool:
    """Whether every subject that `inner` matches is matched by `outer` (NATS wildcards `*` and `>`)."""
    outs, ins = outer.split("."), inner.split(".")
    for position, out in enumerate(outs):
        if out == ">":
            return len(ins) > position
        if position >= len(ins) or ins[position] == ">" or (out != "*" and out != ins[position]):
            return False
    return len(outs) == len(ins)


def consumers_of(kind: type[Event]) -> list[topology.Consumer]:
    """The durable consumers that an event reaches."""
    subject = pattern(kind)
    return [
        consumer
        for consumer in topology.CONSUMERS
        if consumer.stream == kind.spec.stream and any(covers(filter, subject) for filter in consumer.filters)
    ]


def receivers(kind: type[Event]) -> list[str]:
    """The services an event reaches, in their usual order."""
    reached = {consumer.service for consumer in consumers_of(kind)}
    return [service for service in SERVICES if service in reached]
