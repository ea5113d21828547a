"""Every body that travels is read as it was written, whatever stands in it; an event's id says what it is about."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import annotated_types
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import StringConstraints
from pydantic.fields import FieldInfo

from countersign_contracts import topology
from countersign_contracts.actions import ActionEvent, ActionResult
from countersign_contracts.alert_rules import AlertCondition
from countersign_contracts.approvals import ApprovalEvent
from countersign_contracts.catalogue import AgentDeclaration, FactEquals, Guardrail, Profile, Tool
from countersign_contracts.command import COMMANDS, Command
from countersign_contracts.conditions import Condition
from countersign_contracts.control import DeadLettered
from countersign_contracts.dead_letter_commands import RedriveAtGateway
from countersign_contracts.envelope import open_event, seal_event
from countersign_contracts.event import EVENTS, SERVICES, TYPE_PREFIX, Event
from countersign_contracts.fleet import FleetEvent, PersonChanged
from countersign_contracts.model import Frozen
from countersign_contracts.projection import BUCKETS

if TYPE_CHECKING:
    from .conftest import Keys

F = TypeVar("F", bound=Frozen)

# --- a strategy for any model, from its fields -------------------------------------------------------

text = st.text(st.characters(codec="utf-8"), max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | st.floats(-1e9, 1e9) | text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=4,
)
times = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
#: What a model's own validator, or whoever owns it, asks for beyond its fields' types.
SCOPES = ["all", "env:prod", "tool:list_tickets", "profile:support", "agent:support-1", "session:run-1"]
CONDITIONS: list[dict[str, Any]] = [
    {"equals": 1},
    {"in": ("a", None)},
    {"at_least": 0.5},
    {"present": False},
]
GUARDRAILS: list[dict[str, Any]] = [
    {"kind": "session_calls", "limit": 5},
    {"kind": "rate", "limit": 5, "window_s": 60, "per": "agent"},
    {"kind": "spend", "limit": 99.5, "window_s": 60, "per": "person", "field": "amount"},
    {"kind": "time_window", "start": "09:00", "end": "17:30", "days": ("mon",)},
]
ALERT_CONDITIONS: list[dict[str, Any]] = [
    {"metric": "error_share", "aggregate": "max", "above": 0.5, "min_events": 10},
    {"metric": "values.queue.length", "below": -1.5, "window_s": 60},
    {"logs": "error", "above": 0},
    {"phase": ("failed", "stopped")},
    {"silent_s": 90},
]
SPECIAL: Mapping[Any, st.SearchStrategy[Any]] = {
    AlertCondition: st.sampled_from(ALERT_CONDITIONS).map(AlertCondition.model_validate),
    Condition: st.sampled_from(CONDITIONS).map(lambda more: Condition.model_validate({"field": "f"} | more)),
    FactEquals: json_values.filter(lambda value: value is not None).map(
        lambda value: FactEquals(path="customer.status", equals=value)
    ),
    Guardrail: st.sampled_from(GUARDRAILS).map(lambda more: Guardrail.model_validate({"name": "g"} | more)),
}


@functools.cache
def bodies(model: type[F]) -> st.SearchStrategy[F]:
    """Values of a model. What has a default may be left out, as senders may."""
    if model in SPECIAL:
        return SPECIAL[model]
    fields = model.model_fields
    needed = {field.alias or name: field_values(name, field) for name, field in fields.items() if field.is_required()}
    free = {field.alias or name: field_values(name, field) for name, field in fields.items() if not field.is_required()}
    return st.fixed_dictionaries(needed, optional=free).map(model.model_validate)


def field_values(name: str, field: FieldInfo) -> st.SearchStrategy[Any]:
    if (
        name == "scope"
        and field.annotation is str
        and not any(isinstance(m, StringConstraints) for m in field.metadata)
    ):
        return st.sampled_from(SCOPES)
    return values(field.annotation, field.metadata)


def values(kind: Any, about: list[Any]) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return values(arguments[0], [*arguments[1:], *about])
    if origin in (Union, types.UnionType):
        return st.one_of(*(values(option, about) for option in arguments))
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        least, most = bound(about, "min_length", 0), bound(about, "max_length", 2)
        return st.lists(values(arguments[0], []), min_size=least, max_size=min(most, least + 2)).map(tuple)
    if origin is dict:
        return st.dictionaries(values(arguments[0], []), values(arguments[1], []), max_size=2)
    return plain_values(kind, about)


def plain_values(kind: Any, about: list[Any]) -> st.SearchStrategy[Any]:
    if kind is Any:
        return json_values
    if kind is types.NoneType:
        return st.none()
    if kind is bool:
        return st.booleans()
    if kind is datetime:
        return times
    if kind is str:
        return texts(about)
    if kind in (int, float):
        least = bound(about, "ge", None)
        above = bound(about, "gt", None)
        low = least if least is not None else above + 1 if above is not None else -1000
        high = bound(about, "le", low + 1000)
        return st.integers(low, int(high)) if kind is int else st.floats(low, high)
    assert issubclass(kind, Frozen), f"no values known for {kind}"
    return bodies(kind)


def texts(about: list[Any]) -> st.SearchStrategy[str]:
    for each in about:
        pattern = each.pattern if isinstance(each, StringConstraints) else getattr(each, "pattern", None)
        if pattern:
            # `$` would also match before a line feed at the end, which pydantic does not take
            return st.from_regex(str(pattern).removesuffix("$") + r"\Z")
    least = bound(about, "min_length", 0)
    return st.text(st.characters(codec="utf-8"), min_size=least, max_size=min(bound(about, "max_length", 8), least + 8))


def bound(about: list[Any], name: str, default: Any) -> Any:
    """The bound of that name among what is said about a type."""
    for each in about:
        parts = list(each) if isinstance(each, annotated_types.GroupedMetadata) else [each]
        parts = each.metadata if isinstance(each, FieldInfo) else parts
        for part in parts:
            if (value := getattr(part, name, None)) is not None:
                return value
    return default


# --- the rules ---------------------------------------------------------------------------------------

TRAVELLERS: list[type[Frozen]] = list(
    dict.fromkeys(
        [
            *EVENTS.values(),
            *COMMANDS.values(),
            *(command.reply for command in COMMANDS.values()),
            *(bucket.model for bucket in BUCKETS),
            Tool,
            Profile,
            AgentDeclaration,
            ActionResult,
        ]
    )
)
quick = settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)


def named(kind: type[Any]) -> str:
    return kind.__name__


@pytest.mark.parametrize("model", TRAVELLERS, ids=named)
@quick
@given(data=st.data())
def test_a_body_is_read_as_it_was_written(model: type[Frozen], data: st.DataObject) -> None:
    body = data.draw(bodies(model))
    written = body.to_bytes()
    read = model.from_bytes(written)
    assert read == body
    assert read.to_bytes() == written


@pytest.mark.parametrize("kind", EVENTS.values(), ids=named)
@quick
@given(data=st.data())
def test_an_event_has_one_id_and_one_subject_on_its_stream(kind: type[Event], data: st.DataObject) -> None:
    event = data.draw(bodies(kind))
    again = kind.from_bytes(event.to_bytes())
    assert again.event_id() == event.event_id()
    assert again.nats_subject() == event.nats_subject()
    assert again.about() == event.about()
    prefix = kind.spec.subject.split("{")[0]
    assert event.nats_subject().startswith(prefix)


@pytest.mark.parametrize("kind", EVENTS.values(), ids=named)
def test_an_event_of_one_thing_has_an_id_of_its_own(kind: type[Event]) -> None:
    """Two types of event never share an id, or one of the two would be dropped as a repeat of the other."""
    others = [other for other in EVENTS.values() if other is not kind and other.spec.stream == kind.spec.stream]
    assert kind.spec.name not in {other.spec.name for other in others}


def test_events_of_an_action_are_about_its_request_and_travel_under_its_agent() -> None:
    kinds = [kind for kind in EVENTS.values() if issubclass(kind, ActionEvent)]
    assert len(kinds) == 9
    for kind in kinds:
        event = example(kind)
        assert event.about() == event.ref().request_id
        assert event.nats_subject() == f"actions.{kind.spec.name}.{event.ref().agent_id}"
        assert event.event_id().startswith(f"{event.ref().request_id}.{kind.spec.name}")


def example(kind: type[F]) -> F:
    """One value of a model, the same each time."""
    found: list[F] = []

    @settings(max_examples=1, derandomize=True, database=None, suppress_health_check=list(HealthCheck), deadline=None)
    @given(bodies(kind))
    def take(value: F) -> None:
        found.append(value)

    take()
    return found[0]


FAMILIES: dict[str, tuple[type[Event], Callable[[Any], str]]] = {
    "APPROVALS": (ApprovalEvent, lambda event: event.approval_id),
    "FLEET": (FleetEvent, lambda event: event.agent_id),
}


@pytest.mark.parametrize(("family", "token"), FAMILIES.values(), ids=FAMILIES.keys())
def test_an_event_travels_under_what_it_is_about(family: type[Event], token: Callable[[Any], str]) -> None:
    for kind in EVENTS.values():
        if issubclass(kind, family):
            event = example(kind)
            assert event.nats_subject() == f"{kind.spec.subject.removesuffix('{token}')}{token(event)}"


def test_no_person_s_name_stands_in_a_subject() -> None:
    assert example(PersonChanged).nats_subject() == "fleet.person_changed.people"


LETTER = DeadLettered(
    stream="INGRESS",
    consumer="gateway-ingress",
    stream_seq=7,
    subject="agents.mallory.actions",
    headers={},
    body="e30=",
    tries=8,
    reason="it failed each time",
    at=datetime(2026, 1, 31, tzinfo=UTC),
)


def test_a_dead_letter_stands_under_the_consumer_that_gave_up() -> None:
    assert LETTER.nats_subject() == "deadletter.INGRESS.gateway-ingress"


@given(headers=st.dictionaries(st.sampled_from(["ce-subject", "other"]), text, max_size=2))
def test_a_dead_letter_can_be_written_whatever_stands_in_the_message(headers: dict[str, str], keys: Keys) -> None:
    """What could not be written would neither be dead nor delivered, and would stay for ever."""
    letter = LETTER.model_copy(update={"headers": headers})
    sealed = seal_event(letter, time=datetime(2026, 1, 31, tzinfo=UTC), key=keys["gateway"])
    assert open_event(sealed, keys.trust) == letter


@pytest.mark.parametrize("kind", EVENTS.values(), ids=named)
def test_a_type_names_its_subject_and_its_version(kind: type[Event]) -> None:
    spec = kind.spec
    assert spec.type == f"{TYPE_PREFIX}{spec.subject.removesuffix('.{token}')}.v{spec.version}"
    assert spec.emitters and set(spec.emitters) <= set(SERVICES)


@pytest.mark.parametrize("kind", COMMANDS.values(), ids=named)
def test_a_command_is_asked_by_one_service_and_answered_by_another(kind: type[Command]) -> None:
    assert kind.rpc.service in SERVICES
    # people redrive at the gateway what the gateway gave up on too, and any replica of it may answer
    itself = set() if kind is RedriveAtGateway else {kind.rpc.service}
    assert kind.rpc.callers and set(kind.rpc.callers) <= set(SERVICES) - itself
    assert kind.rpc.subject == f"rpc.{kind.rpc.service}.{kind.rpc.verb}"
    assert kind.rpc.timeout_s > 0


def test_every_type_is_known_under_one_name() -> None:
    every = [*EVENTS, *COMMANDS, *(bucket.type for bucket in BUCKETS), *topology.emits("policy")]
    assert len(set(EVENTS) & set(COMMANDS)) == 0
    assert all(type.startswith(TYPE_PREFIX) for type in every)
