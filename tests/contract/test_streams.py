"""What the server keeps: streams, consumers and buckets as the topology says, and a record nobody takes from."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from countersign_cli.bootstrap.bus import bucket_config, stream_config
from countersign_contracts import topology
from countersign_contracts.projection import BUCKETS

if TYPE_CHECKING:
    from .conftest import Deployment

pytestmark = pytest.mark.asyncio(loop_scope="module")

STREAMS = {stream.name: (stream.account, stream_config(stream)) for stream in topology.STREAMS}
STREAMS |= {f"KV_{bucket.name}": ("CORE", bucket_config(bucket.name)) for bucket in BUCKETS}
RECORD = [stream.name for stream in topology.STREAMS if stream.account == "CORE" and stream.name != "DEADLETTER"]
#: What would let a message come from elsewhere, go elsewhere, or be lost unseen.
NEVER = ("republish", "subject_transform", "mirror", "sources", "no_ack", "sealed")


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_is_as_the_topology_says(deployment: Deployment, name: str) -> None:
    account, wanted = STREAMS[name]
    found = (await deployment.api(account, f"STREAM.INFO.{name}"))["config"]
    assert {key: found.get(key, False) for key in wanted} == wanted
    assert [key for key in NEVER if found.get(key)] == []
    # rollup, schedules, times to live, counters, batches, and what a newer server brings
    assert {key for key, value in found.items() if key.startswith("allow_") and value} <= {"allow_direct"}


@pytest.mark.parametrize("account", ["CORE", "AGENTS"])
async def test_there_is_no_other_stream(deployment: Deployment, account: str) -> None:
    names = (await deployment.api(account, "STREAM.NAMES"))["streams"]
    assert sorted(names) == sorted(name for name, (where, _) in STREAMS.items() if where == account)


@pytest.mark.parametrize("consumer", topology.CONSUMERS, ids=lambda consumer: str(consumer.name))
async def test_a_consumer_is_as_the_topology_says(deployment: Deployment, consumer: topology.Consumer) -> None:
    account = topology.stream(consumer.stream).account
    config = (await deployment.api(account, f"CONSUMER.INFO.{consumer.stream}.{consumer.name}"))["config"]
    assert set(config.get("filter_subjects") or [config["filter_subject"]]) == set(consumer.filters)
    assert (config["durable_name"], config["ack_policy"]) == (consumer.name, "explicit")
    assert config["max_deliver"] == -1, "tries are counted by the service, which writes the dead letter"
    assert "deliver_subject" not in config, "it is pulled: nothing is pushed to where somebody else may listen"


@pytest.mark.parametrize("name", RECORD)
async def test_nothing_is_taken_out_of_the_record_even_by_who_administers_it(deployment: Deployment, name: str) -> None:
    subject = topology.stream(name).subjects[0].replace("*", "probe")
    emitter = await deployment.line("bootstrap-core")
    assert await emitter.refused_to_say([subject]) == {subject}, "who administers the streams says nothing on them"
    for verb, body in (("PURGE", None), ("MSG.DELETE", {"seq": 1})):
        answer = await deployment.api("CORE", f"STREAM.{verb}.{name}", body)
        assert "permitted" in answer["error"]["description"] or "denied" in answer["error"]["description"]


async def test_what_is_said_in_one_account_is_not_kept_in_the_other(deployment: Deployment) -> None:
    before = await deployment.messages("CORE", "ACTIONS"), await deployment.messages("AGENTS", "INGRESS")
    policy, alpha = await deployment.line("policy-core"), await deployment.agent("alpha")
    await policy.client.jetstream().publish("actions.denied.alpha", b"in CORE")
    await alpha.client.jetstream().publish("agents.alpha.actions", b"in AGENTS")
    after = await deployment.messages("CORE", "ACTIONS"), await deployment.messages("AGENTS", "INGRESS")
    assert after == (before[0] + 1, before[1] + 1)


async def test_who_may_pull_can_have_a_stream_deleted_so_streams_are_no_authority(deployment: Deployment) -> None:
    """A pull that expires ends with an empty message to whatever subject its sender named as the reply.

    No permission guards that subject, and an empty request is all that a deletion takes. So a service that was taken
    over can delete a stream, though not forge a message on it. Rows are the truth; streams are made anew.
    """
    await deployment.api(
        "CORE", "STREAM.CREATE.SCRATCH", {"name": "SCRATCH", "subjects": ["scratch"], "storage": "file"}
    )
    policy = await deployment.line("policy-core")
    pull = {"batch": 1, "expires": 100_000_000}
    consumer = "$JS.API.CONSUMER.MSG.NEXT.APPROVALS.policy-approvals"
    await policy.client.publish(consumer, json.dumps(pull).encode(), reply="$JS.API.STREAM.DELETE.SCRATCH")
    async with asyncio.timeout(5):
        while "SCRATCH" in (await deployment.api("CORE", "STREAM.NAMES"))["streams"]:
            await asyncio.sleep(0.02)
