"""The topology gives each service the least it needs: what it emits, asks and answers, and nothing of another's."""

from __future__ import annotations

import itertools

import pytest

from countersign_contracts import subjects, topology
from countersign_contracts.command import COMMANDS, Command
from countersign_contracts.control import DeadLettered
from countersign_contracts.event import EVENTS, SERVICES, Event
from countersign_contracts.projection import BUCKETS, Bucket
from countersign_contracts.topology import CONSUMERS, STREAMS, Access, Consumer, Stream

CORE = {service: topology.core_access(service) for service in SERVICES}
IN_AGENTS = {service: access for service in SERVICES if (access := topology.agents_access(service))}
EVERY_EVENT = [kind for kind in EVENTS.values() if kind is not DeadLettered]
#: One consumer of each service's, as a dead letter names them.
DEAD_LETTERS = [(c.service, f"deadletter.{c.stream}.{c.name}") for c in CONSUMERS]


def overlap(one: str, other: str) -> bool:
    """Whether a subject exists that both patterns match (NATS wildcards)."""
    for mine, theirs in itertools.zip_longest(one.split("."), other.split(".")):
        if mine is None or theirs is None:
            return False
        if ">" in (mine, theirs):
            return True
        if mine != theirs and "*" not in (mine, theirs):
            return False
    return True


def within(inner: str, outer: str) -> bool:
    """Whether every subject that `inner` matches is matched by `outer`."""
    for mine, theirs in itertools.zip_longest(inner.split("."), outer.split(".")):
        if theirs == ">":
            return mine is not None
        if mine is None or theirs is None or mine == ">":
            return False
        if theirs not in ("*", mine):
            return False
    return True


def allows(patterns: tuple[str, ...], subject: str) -> bool:
    return any(within(subject, pattern) for pattern in patterns)


def touches(patterns: tuple[str, ...], subject: str) -> list[str]:
    return [pattern for pattern in patterns if overlap(pattern, subject)]


def subject_of(kind: type[Event]) -> str:
    return kind.spec.subject.replace("{token}", "*")


def named(kind: type[Event] | type[Command] | Stream | Consumer | Bucket) -> str:
    return getattr(kind, "__name__", None) or str(getattr(kind, "name", kind))


# --- streams and consumers ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EVERY_EVENT, ids=named)
def test_an_event_s_subject_is_its_stream_s_and_no_other_s(kind: type[Event]) -> None:
    takers = [s.name for s in STREAMS if s.account == "CORE" and touches(s.subjects, subject_of(kind))]
    assert takers == [kind.spec.stream]
    assert allows(topology.stream(kind.spec.stream).subjects, subject_of(kind))


@pytest.mark.parametrize(("service", "subject"), DEAD_LETTERS)
def test_a_dead_letter_s_subject_is_its_stream_s(service: str, subject: str) -> None:
    assert allows(topology.stream(DeadLettered.spec.stream).subjects, subject)


def test_no_two_streams_take_the_same_message() -> None:
    for one, other in itertools.combinations(STREAMS, 2):
        if one.account == other.account:
            assert not [s for s in one.subjects if touches(other.subjects, s)], (one.name, other.name)


def test_no_stream_takes_a_command_an_answer_or_a_record() -> None:
    spoken = [command.rpc.subject for command in COMMANDS.values()]
    spoken += [f"{subjects.inbox(service)}.>" for service in SERVICES] + [f"$KV.{bucket.name}.>" for bucket in BUCKETS]
    for stream in STREAMS:
        for subject in [*spoken, "$JS.>", "$SYS.>"]:
            assert not touches(stream.subjects, subject), (stream.name, subject)


@pytest.mark.parametrize("consumer", CONSUMERS, ids=named)
def test_a_consumer_asks_for_what_its_stream_keeps(consumer: Consumer) -> None:
    kept = topology.stream(consumer.stream).subjects
    assert all(allows(kept, filter) for filter in consumer.filters)
    for one, other in itertools.combinations(consumer.filters, 2):
        assert not overlap(one, other), "the server refuses filters that overlap"


@pytest.mark.parametrize("consumer", [c for c in CONSUMERS if c.stream != "DEADLETTER"], ids=named)
def test_no_consumer_asks_for_what_nobody_says(consumer: Consumer) -> None:
    said = [subject_of(kind) for kind in EVERY_EVENT if kind.spec.stream == consumer.stream]
    if topology.stream(consumer.stream).account == "AGENTS":
        said += [subjects.agent("*", verb) for verb in subjects.AGENT_PUBLISHES]
    assert all(touches(tuple(said), filter) for filter in consumer.filters)


def test_consumers_and_streams_have_names_of_their_own() -> None:
    assert len({consumer.name for consumer in CONSUMERS}) == len(CONSUMERS)
    assert len({stream.name for stream in STREAMS}) == len(STREAMS)
    assert all(consumer.name.startswith(f"{consumer.service}-") for consumer in CONSUMERS)


def test_everything_that_is_said_in_core_reaches_the_ledger() -> None:
    for stream in STREAMS:
        if stream.account == "CORE":
            audit = [c for c in CONSUMERS if c.service == "audit" and c.stream == stream.name]
            heard = tuple(filter for consumer in audit for filter in consumer.filters)
            assert all(allows(heard, subject) for subject in stream.subjects), stream.name


# --- what each service may say ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EVERY_EVENT, ids=named)
def test_an_event_can_be_published_by_its_emitters_alone(kind: type[Event]) -> None:
    able = {service for service, access in CORE.items() if touches(access.publish, subject_of(kind))}
    assert able == set(kind.spec.emitters)
    assert all(allows(CORE[service].publish, subject_of(kind)) for service in able)


@pytest.mark.parametrize(("service", "subject"), DEAD_LETTERS)
def test_a_dead_letter_can_be_written_by_the_consumer_s_service_alone(service: str, subject: str) -> None:
    assert [each for each, access in CORE.items() if touches(access.publish, subject)] == [service]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=named)
def test_a_command_can_be_sent_by_its_callers_and_heard_by_who_answers_alone(command: type[Command]) -> None:
    rpc = command.rpc
    assert {s for s, access in CORE.items() if touches(access.publish, rpc.subject)} == set(rpc.callers)
    assert {s for s, access in CORE.items() if touches(access.subscribe, rpc.subject)} == {rpc.service}


@pytest.mark.parametrize("service", SERVICES)
def test_an_inbox_is_heard_by_its_own_service_and_answered_by_those_it_may_ask(service: str) -> None:
    inbox = f"{subjects.inbox(service)}.>"
    asked = {command.rpc.service for command in COMMANDS.values() if service in command.rpc.callers}
    assert {s for s, access in CORE.items() if touches(access.subscribe, inbox)} == {service}
    assert {s for s, access in CORE.items() if touches(access.publish, inbox)} == asked


def test_audit_alone_tells_what_it_recorded_and_executors_alone_hear_it() -> None:
    assert {s for s, access in CORE.items() if touches(access.publish, topology.RECORDED_SUBJECT)} == {"audit"}
    assert {s for s, access in CORE.items() if touches(access.subscribe, topology.RECORDED_SUBJECT)} == {"executor"}
    assert not any(touches(stream.subjects, topology.RECORDED_SUBJECT) for stream in topology.STREAMS)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_hears_its_inbox_and_the_commands_it_answers_and_nothing_else(service: str) -> None:
    answered = {command.rpc.subject for command in COMMANDS.values() if command.rpc.service == service}
    told = {"executor": {topology.RECORDED_SUBJECT}}.get(service, set())
    overheard = {*topology.FINAL_SUBJECTS, *topology.APPROVAL_SUBJECTS, *topology.AGENT_CHANGE_SUBJECTS}
    heard = answered | told | (overheard if service == "gateway" else set())
    assert set(CORE[service].subscribe) == heard | {f"{subjects.inbox(service)}.>"}


@pytest.mark.parametrize("bucket", BUCKETS, ids=named)
def test_a_bucket_is_written_by_its_owner_alone(bucket: Bucket) -> None:
    records = f"$KV.{bucket.name}.>"
    assert {s for s, access in CORE.items() if touches(access.publish, records)} == {bucket.owner}
    # its stream, and a reader's own consumer of it
    for api in ("STREAM.INFO.KV_{0}", "CONSUMER.CREATE.KV_{0}.>", "DIRECT.GET.KV_{0}.>"):
        able = {s for s, a in CORE.items() if touches(a.publish, f"$JS.API.{api.format(bucket.name)}")}
        assert able <= {bucket.owner, *bucket.readers}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_reads_its_own_consumers_and_no_other_s(service: str) -> None:
    for consumer in CONSUMERS:
        access = CORE[service] if topology.stream(consumer.stream).account == "CORE" else IN_AGENTS.get(service)
        publish = access.publish if access else ()
        for api in ("$JS.API.CONSUMER.MSG.NEXT.{0}.{1}", "$JS.ACK.{0}.{1}.>"):
            subject = api.format(consumer.stream, consumer.name)
            assert bool(touches(publish, subject)) is (consumer.service == service), (service, subject)


#: What makes, changes, empties or deletes a stream or a consumer of one, or reads past the consumers.
ADMINISTRATION = [
    "$JS.API.STREAM.CREATE.>",
    "$JS.API.STREAM.UPDATE.>",
    "$JS.API.STREAM.DELETE.>",
    "$JS.API.STREAM.PURGE.>",
    "$JS.API.STREAM.RESTORE.>",
    "$JS.API.STREAM.SNAPSHOT.>",
    "$JS.API.STREAM.LEADER.STEPDOWN.>",
    "$JS.API.CONSUMER.PAUSE.>",
    "$JS.API.CONSUMER.LEADER.STEPDOWN.>",
    "$JS.API.CONSUMER.DURABLE.CREATE.>",
    "$JS.API.ACCOUNT.>",
    "$JS.API.SERVER.>",
    "$JS.API.META.>",
    "$SYS.>",
    "$SRV.>",
    "$G.>",
]


def test_messages_are_removed_from_the_dead_letters_by_the_gateway_alone() -> None:
    able = {s: touches(a.publish, "$JS.API.STREAM.MSG.DELETE.>") for s, a in CORE.items()}
    assert able == {s: ["$JS.API.STREAM.MSG.DELETE.DEADLETTER"] if s == "gateway" else [] for s in SERVICES}
    assert all(touches(a.publish, "$JS.API.STREAM.MSG.DELETE.>") == [] for a in IN_AGENTS.values())


@pytest.mark.parametrize("access", [*CORE.values(), *IN_AGENTS.values()])
@pytest.mark.parametrize("subject", ADMINISTRATION)
def test_no_service_administers_the_server(access: Access, subject: str) -> None:
    assert touches(access.publish, subject) == []
    # the registry answers for agents where services of NATS are asked for
    if (subject, access) != ("$SRV.>", IN_AGENTS["registry"]):
        assert touches(access.subscribe, subject) == []


@pytest.mark.parametrize("stream", STREAMS, ids=named)
def test_no_service_makes_or_deletes_a_consumer_of_a_stream_of_events(stream: Stream) -> None:
    access = CORE if stream.account == "CORE" else IN_AGENTS
    for api in ("CREATE", "DELETE"):
        for subject in (f"$JS.API.CONSUMER.{api}.{stream.name}", f"$JS.API.CONSUMER.{api}.{stream.name}.>"):
            assert [s for s, a in access.items() if touches(a.publish, subject)] == []


@pytest.mark.parametrize("stream", [s for s in STREAMS if s.account == "CORE"], ids=named)
def test_audit_reads_a_stream_by_its_sequence_and_the_gateway_the_dead_letters(stream: Stream) -> None:
    able = {s for s, a in CORE.items() if touches(a.publish, f"$JS.API.STREAM.MSG.GET.{stream.name}")}
    assert able == ({"audit", "gateway"} if stream.name == "DEADLETTER" else {"audit"})
    assert [s for s, a in CORE.items() if touches(a.publish, f"$JS.API.DIRECT.GET.{stream.name}.>")] == []


# --- account AGENTS ---------------------------------------------------------------------------------------


def agent(name: str) -> Access:
    """What one agent may do: as bootstrap writes it into the template of the key that signs agents' users."""
    return Access(
        tuple(subjects.agent(name, verb) for verb in subjects.AGENT_PUBLISHES),
        (*(f"{subjects.agent(name, verb)}.>" for verb in subjects.AGENT_HEARS), f"{subjects.inbox(name)}.>"),
    )


CORE_SUBJECTS = [
    *(subject for stream in STREAMS if stream.account == "CORE" for subject in stream.subjects),
    "rpc.>",
    "$KV.>",
    "$JS.>",
    "$SYS.>",
    *(f"{subjects.inbox(service)}.>" for service in SERVICES),
]


@pytest.mark.parametrize("subject", CORE_SUBJECTS)
def test_an_agent_reaches_nothing_of_core_even_were_the_accounts_one(subject: str) -> None:
    mallory = agent("mallory")
    assert touches(mallory.publish, subject) == []
    assert touches(mallory.subscribe, subject) == []


def test_an_agent_reaches_nothing_of_another_agent() -> None:
    alpha, beta = agent("alpha"), agent("beta")
    assert not [s for s in alpha.publish if touches((*beta.publish, *beta.subscribe), s)]
    assert not [s for s in alpha.subscribe if touches((*beta.publish, *beta.subscribe), s)]


def test_an_agent_cannot_plant_a_result() -> None:
    alpha = agent("alpha")
    assert not [s for s in alpha.subscribe if touches(alpha.publish, s)]
    assert touches(agent("alpha").publish, subjects.results("alpha", "*")) == []


def test_only_gateway_and_registry_stand_among_the_agents() -> None:
    assert set(IN_AGENTS) == {"gateway", "registry"}


@pytest.mark.parametrize("service", IN_AGENTS)
def test_what_a_service_says_among_the_agents_is_for_them_alone(service: str) -> None:
    access = IN_AGENTS[service]
    own = [c for c in CONSUMERS if c.service == service and topology.stream(c.stream).account == "AGENTS"]
    api = {f"$JS.API.CONSUMER.{verb}.{c.stream}.{c.name}" for c in own for verb in ("INFO", "MSG.NEXT")}
    api |= {f"$JS.ACK.{c.stream}.{c.name}.>" for c in own}
    assert {s for s in access.publish if not s.startswith(("agents.*.", "_INBOX."))} == api
    assert not touches(access.publish, "agents.*.actions"), "nobody asks in an agent's name"


def test_the_registry_cannot_plant_a_result_either() -> None:
    results = subjects.results("*", "*")
    assert [s for s, access in IN_AGENTS.items() if touches(access.publish, results)] == ["gateway"]


@pytest.mark.parametrize("verb", subjects.AGENT_PUBLISHES)
def test_whatever_an_agent_may_say_is_kept_or_heard(verb: str) -> None:
    subject = subjects.agent("*", verb)
    kept = [s.name for s in STREAMS if s.account == "AGENTS" and allows(s.subjects, subject)]
    heard = [s for s, access in IN_AGENTS.items() if allows(access.subscribe, subject)]
    if verb in ("logs", "metrics"):
        heard.remove("gateway")  # where people follow them live; it answers nothing there
    assert len(kept) + len(heard) == 1, "one place takes it, and a request is not answered by a PubAck"


# --- what each key may sign -------------------------------------------------------------------------------

SIGNERS = {
    type: {service for service in SERVICES if type in topology.emits(service)}
    for type in frozenset().union(*(topology.emits(service) for service in SERVICES))
}


@pytest.mark.parametrize(
    ("type", "service"),
    [
        ("countersign.warrant.v1", "policy"),
        ("countersign.result.v1", "gateway"),
        ("countersign.checkpoint.v1", "audit"),
        ("countersign.audit.unverified.v1", "audit"),
        ("countersign.audit.repeated.v1", "audit"),
        ("countersign.actions.granted.v1", "policy"),
        ("countersign.actions.executed.v1", "executor"),
        ("countersign.approvals.voted.v1", "approvals"),
        ("countersign.control.stop_lifted.v1", "executor"),
        ("countersign.fleet.credentials_issued.v1", "registry"),
    ],
)
def test_what_matters_most_is_signed_by_one_service_alone(type: str, service: str) -> None:
    assert SIGNERS[type] == {service}


def test_a_type_has_one_signer_but_for_the_dead_letter_s_and_the_look_up_s() -> None:
    several = {type: signers for type, signers in SIGNERS.items() if len(signers) != 1}
    assert several == {
        DeadLettered.spec.type: set(SERVICES),
        "countersign.command.audit.on_record.v1": {"executor", "gateway"},
        **{type: {"gateway", "slack"} for type in OF_A_CHANNEL},
    }


#: What people may order in a channel as well.
OF_A_CHANNEL = [
    "countersign.command.approvals.get.v1",
    "countersign.command.approvals.list.v1",
    "countersign.command.approvals.list_standings.v1",
    "countersign.command.approvals.revoke_standing.v1",
    "countersign.command.approvals.vote.v1",
    "countersign.command.executor.set_stop.v1",
]


def test_the_gateway_alone_gives_every_other_command() -> None:
    others = {type: signers for type, signers in SIGNERS.items() if type in COMMANDS and signers != {"gateway"}}
    assert others == {
        "countersign.command.executor.look_up_facts.v1": {"policy"},
        "countersign.command.audit.on_record.v1": {"executor", "gateway"},
        "countersign.command.registry.confirm_enrolment.v1": {"slack"},
        **{type: {"gateway", "slack"} for type in OF_A_CHANNEL},
    }
    assert set(COMMANDS) <= SIGNERS.keys()


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_may_sign_what_it_may_publish_and_the_other_way_round(service: str) -> None:
    signed = topology.emits(service)
    for kind in EVERY_EVENT:
        assert (kind.spec.type in signed) is bool(touches(CORE[service].publish, subject_of(kind)))
    for command in COMMANDS.values():
        assert (command.rpc.type in signed) is bool(touches(CORE[service].publish, command.rpc.subject))
    for bucket in BUCKETS:
        assert (bucket.type in signed) is bool(touches(CORE[service].publish, f"$KV.{bucket.name}.>"))


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("a.b", "a.b", True),
        ("a.*", "*.b", True),
        ("a.>", "a.b.c", True),
        (">", "$JS.x", True),
        ("a.b", "a", False),
        ("a.>", "a", False),
        ("a.*", "a.b.c", False),
        ("a.b.*", "a.c.*", False),
    ],
)
def test_whether_two_patterns_meet(one: str, other: str, meet: bool) -> None:
    assert overlap(one, other) is overlap(other, one) is meet


@pytest.mark.parametrize(
    ("inner", "outer", "holds"),
    [
        ("a.b", "a.*", True),
        ("a.*", "a.*", True),
        ("a.b.>", "a.>", True),
        ("a.*", "a.b", False),
        ("a.>", "a.*", False),
        ("a", "a.>", False),
        ("a.b.c", "a.*", False),
    ],
)
def test_whether_a_pattern_is_within_another(inner: str, outer: str, holds: bool) -> None:
    assert within(inner, outer) is holds
