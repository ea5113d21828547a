"""The AsyncAPI document holds together, and says of the bus what the topology lets happen on it."""

from __future__ import annotations

from typing import Any, TypeAlias

import pytest
import yaml

from countersign_contracts import subjects, topology
from countersign_contracts.command import COMMANDS
from countersign_contracts.control import DeadLettered
from countersign_contracts.event import EVENTS, SERVICES
from countersign_contracts.projection import BUCKETS
from generate_flows import covers, subject_pattern
from generate_topology import agent_access

from .conftest import REFERENCE

Json: TypeAlias = dict[str, Any]


@pytest.fixture(scope="module")
def document() -> Json:
    read: Json = yaml.safe_load((REFERENCE / "asyncapi.yaml").read_text("utf-8"))
    return read


def resolve(document: Json, reference: Json) -> Any:
    """What a reference within the document points to."""
    assert set(reference) == {"$ref"} and reference["$ref"].startswith("#/")
    found: Any = document
    for part in reference["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def named(reference: Json) -> str:
    return str(reference["$ref"].rpartition("/")[2])


def everywhere(value: Any) -> list[Json]:
    """Every reference in the document."""
    if isinstance(value, list):
        return [found for each in value for found in everywhere(each)]
    if not isinstance(value, dict):
        return []
    own = [value] if "$ref" in value else []
    return own + [found for each in value.values() for found in everywhere(each)]


def test_it_has_the_parts_of_version_3(document: Json) -> None:
    assert document["asyncapi"] == "3.0.0"
    assert set(document) == {
        "asyncapi",
        "info",
        "defaultContentType",
        "servers",
        "channels",
        "operations",
        "components",
    }
    assert {"title", "version"} <= document["info"].keys()
    assert {server["protocol"] for server in document["servers"].values()} == {"nats"}


def test_it_is_json_in_yaml() -> None:
    text = (REFERENCE / "asyncapi.yaml").read_text("utf-8")
    tokens = list(yaml.scan(text))
    assert not [t for t in tokens if isinstance(t, yaml.AnchorToken | yaml.AliasToken | yaml.TagToken)]

    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(each) for key, each in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return value is None or isinstance(value, str | int | float | bool)

    assert plain(yaml.safe_load(text))


def test_every_reference_leads_somewhere(document: Json, schemas: dict[str, Json]) -> None:
    found = everywhere(document)
    assert len(found) > 300
    for reference in found:
        if reference["$ref"].startswith("#"):
            resolve(document, reference)
        else:
            assert reference["$ref"].startswith("./schemas/")
            assert (REFERENCE / reference["$ref"]).is_file()


def test_a_channel_s_address_has_the_parameters_it_names(document: Json) -> None:
    for name, channel in document["channels"].items():
        tokens = [token.strip("{}") for token in channel["address"].split(".") if token.startswith("{")]
        assert list(channel.get("parameters", {})) == tokens, name
        assert [named(server) for server in channel["servers"]] in (["core"], ["agents"]), name


def test_an_operation_s_messages_are_its_channel_s(document: Json) -> None:
    for name, operation in document["operations"].items():
        assert operation["action"] in ("send", "receive")
        for part in (operation, operation.get("reply")):
            if part is None:
                continue
            channel = resolve(document, part["channel"])
            assert part["messages"], name
            for message in part["messages"]:
                assert message["$ref"].startswith(part["channel"]["$ref"] + "/messages/"), name
                assert named(message) in channel["messages"], name
        assert [tag["name"] for tag in operation["tags"]] == [name.split(".")[0]]


def test_every_message_is_used_and_every_channel_too(document: Json) -> None:
    carried = {named(m) for channel in document["channels"].values() for m in channel["messages"].values()}
    assert carried == set(document["components"]["messages"])
    used = {named(operation["channel"]) for operation in document["operations"].values()}
    used |= {named(o["reply"]["channel"]) for o in document["operations"].values() if "reply" in o}
    assert set(document["channels"]) == used


def performed(document: Json, who: str, action: str, server: str = "core") -> dict[str, Json]:
    """The channels on which `who` performs `action`, by address."""
    found = {}
    for operation in document["operations"].values():
        channel = resolve(document, operation["channel"])
        at = named(channel["servers"][0])
        if (operation["action"], operation["tags"][0]["name"], at) == (action, who, server):
            found[channel["address"]] = channel
    return found


def test_every_event_has_its_channel_its_senders_and_its_receivers(document: Json) -> None:
    for type, kind in EVENTS.items():
        channel = document["channels"][type.removeprefix("countersign.").rpartition(".v")[0]]
        assert list(channel["messages"]) == [type]
        assert channel["x-stream"] == kind.spec.stream
        senders = {s for s in SERVICES if channel["address"] in performed(document, s, "send")}
        assert senders == set(kind.spec.emitters)
        wanted = [
            consumer
            for consumer in topology.CONSUMERS
            if consumer.stream == kind.spec.stream
            and any(covers(filter, subject_pattern(channel["address"])) for filter in consumer.filters)
        ]
        assert channel["x-consumers"] == [consumer.name for consumer in wanted]
        receivers = {s for s in SERVICES if channel["address"] in performed(document, s, "receive")}
        assert receivers == {consumer.service for consumer in wanted}


def test_every_command_is_asked_and_answered(document: Json) -> None:
    for type, command in COMMANDS.items():
        rpc = command.rpc
        assert set(document["channels"][rpc.subject]["messages"]) == {type}
        for caller in rpc.callers:
            asked = document["operations"][f"{caller}.asks.{rpc.service}.{rpc.verb}"]
            answered = document["operations"][f"{rpc.service}.answers.{rpc.verb}.of.{caller}"]
            assert (asked["action"], answered["action"]) == ("send", "receive")
            assert asked["reply"] == answered["reply"]
            inbox = resolve(document, asked["reply"]["channel"])
            assert inbox["address"] == f"{subjects.inbox(caller)}.{{inbox}}"
            assert [named(message) for message in asked["reply"]["messages"]] == [f"{type}.reply"]
            assert answered["bindings"]["nats"]["queue"] == rpc.service


def test_every_bucket_is_written_by_its_owner_and_read_by_its_readers(document: Json) -> None:
    for bucket in BUCKETS:
        address = document["channels"][f"kv.{bucket.name}"]["address"]
        assert {s for s in SERVICES if address in performed(document, s, "send")} == {bucket.owner}
        assert {s for s in SERVICES if address in performed(document, s, "receive")} == set(bucket.readers)


def test_whatever_an_agent_may_say_or_hear_is_described(document: Json) -> None:
    access = agent_access("*")
    said = {subject_pattern(address) for address in performed(document, "agent", "send", "agents")}
    assert said == set(access.publish)
    channels = [channel for channel in document["channels"].values() if named(channel["servers"][0]) == "agents"]
    for hears in access.subscribe:
        assert any(covers(hears, subject_pattern(channel["address"])) for channel in channels), hears
    heard = {subject_pattern(address) for address in performed(document, "agent", "receive", "agents")}
    assert heard == {"agents.*.results.*", "agents.*.control.config"}


@pytest.mark.parametrize("service", SERVICES)
def test_nobody_is_said_to_do_what_the_server_refuses(document: Json, service: str) -> None:
    for server, access in (("core", topology.core_access(service)), ("agents", topology.agents_access(service))):
        for address in performed(document, service, "send", server):
            assert access is not None
            # of the dead letters a service writes those of its own consumers
            if address != "deadletter.{stream}.{consumer}":
                assert any(covers(allowed, subject_pattern(address)) for allowed in access.publish), address


def test_every_signed_message_says_its_type_and_its_signer(document: Json) -> None:
    signed = {**EVENTS, **COMMANDS}
    for type in (*signed, topology.RESULT_TYPE, topology.RESULTS_TYPE):
        envelope, own = document["components"]["messages"][type]["headers"]["allOf"]
        required = resolve(document, envelope)["required"]
        assert {"ce-id", "ce-type", "ce-source", "ce-subject", "ce-time", "ce-keyid", "ce-signature"} <= set(required)
        assert own["properties"]["ce-type"] == {"const": type}
        signers = [service for service in SERVICES if type in topology.emits(service)]
        assert sorted(own["properties"]["ce-source"]["enum"]) == sorted(f"/countersign/{s}" for s in signers)


def test_the_envelope_s_headers_are_those_that_are_sent(document: Json) -> None:
    from datetime import datetime

    from countersign_contracts.envelope import seal
    from countersign_ledger import SigningKey

    sealed = seal(
        b"{}",
        id="i",
        type=DeadLettered.spec.type,
        subject="s",
        time=datetime.fromisoformat("2026-01-31T09:30:00Z"),
        key=SigningKey.generate("policy"),
        traceparent="00-1-2-01",
    )
    envelope = document["components"]["schemas"]["Envelope"]
    assert set(sealed.headers()) == set(envelope["properties"])
    assert set(envelope["required"]) == set(sealed.headers()) - {"Nats-Msg-Id", "traceparent"}
