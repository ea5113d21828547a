"""What the server lets an agent do: speak on its own subjects and hear its own results, and nothing whatever else.

Agents hold credentials as the registry makes them, by the account that bootstrap made, on the product's own streams.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import nats.js.errors
import pytest
import pytest_asyncio

from countersign_chassis.natsauth import KeyPair, account_jwt, read_claims
from countersign_cli.bootstrap import Layout, prepare_material
from countersign_cli.bootstrap.material import AGENT_LIMITS
from countersign_contracts import subjects, topology
from countersign_contracts.command import COMMANDS
from countersign_contracts.event import EVENTS, SERVICES
from countersign_contracts.projection import BUCKETS
from countersign_harness.harmful import harmful
from generate_topology import agent_access

if TYPE_CHECKING:
    from .conftest import Deployment, Line

pytestmark = pytest.mark.asyncio(loop_scope="module")

CORE_SUBJECTS = {
    *(kind.spec.subject.format(token="alpha") for kind in EVENTS.values()),
    *(command.rpc.subject for command in COMMANDS.values()),
    *(f"$KV.{bucket.name}.alpha" for bucket in BUCKETS),
    *(f"{subjects.inbox(service)}.abc.1" for service in (*SERVICES, "bootstrap")),
}
API_CALLS = {
    *(f"$JS.API.STREAM.{verb}.INGRESS" for verb in ("INFO", "CREATE", "UPDATE", "DELETE", "PURGE", "MSG.GET")),
    *(f"$JS.API.STREAM.{verb}.TELEMETRY" for verb in ("INFO", "DELETE", "PURGE", "MSG.GET")),
    "$JS.API.INFO",
    "$JS.API.STREAM.NAMES",
    "$JS.API.DIRECT.GET.INGRESS",
    "$JS.API.CONSUMER.CREATE.INGRESS",
    "$JS.API.CONSUMER.CREATE.INGRESS.mine.agents.alpha.actions",
    "$JS.API.CONSUMER.DELETE.INGRESS.gateway-ingress",
    "$JS.API.CONSUMER.INFO.INGRESS.gateway-ingress",
    "$JS.API.CONSUMER.MSG.NEXT.INGRESS.gateway-ingress",
    "$JS.ACK.INGRESS.gateway-ingress.1.1.1.1.0",
    "$JS.FC.INGRESS.x",
    "$SYS.REQ.USER.INFO",
    "$SYS.REQ.SERVER.PING",
    "$SRV.PING",
    "$SRV.INFO.alpha",
    "$SRV.STATS.alpha.alpha",
}


@pytest_asyncio.fixture(loop_scope="module")
async def alpha(deployment: Deployment) -> AsyncIterator[Line]:
    """Agent alpha, on a line of its own: some tests use its limits up."""
    line = await deployment.agent("alpha")
    yield line
    await line.client.close()


async def test_an_agent_speaks_on_its_own_subjects_alone(alpha: Line) -> None:
    own = {subjects.agent("alpha", verb) for verb in subjects.AGENT_PUBLISHES}
    others = {subjects.agent("beta", verb) for verb in subjects.AGENT_PUBLISHES}
    others |= {"agents.beta.results.r1", "agents.alpha.beta.actions", "agents.alphabet.actions"}
    planted = {"agents.alpha.results.r1", "agents.alpha.control.stop", "agents.alpha", "agents.alpha.actions.x"}
    everything = own | others | planted | CORE_SUBJECTS | API_CALLS
    assert await alpha.refused_to_say(everything) == everything - own


async def test_an_agent_hears_its_own_results_alone(alpha: Line) -> None:
    own = {"agents.alpha.results.>", "agents.alpha.results.r1", "agents.alpha.control.>", "_INBOX.alpha.abc.*"}
    wide = {">", "agents.>", "agents.*.results.>", "*.alpha.results.>", "agents.alpha.>", "_INBOX.>", "_INBOX.*.>"}
    others = {"agents.beta.results.>", "agents.beta.control.>", "_INBOX.beta.>", "_INBOX.gateway.>"}
    asked = {subjects.agent(name, verb) for name in ("alpha", "beta", "*") for verb in subjects.AGENT_PUBLISHES}
    asked |= {f"{subject}.>" for subject in asked}
    foreign = wide | others | asked | CORE_SUBJECTS | API_CALLS | {"$JS.EVENT.>", "$SYS.>"}
    assert await alpha.refused_to_hear(foreign | own) == foreign


@pytest.mark.parametrize("queue", ["gateway", "policy", "executor"])
async def test_an_agent_does_not_hear_by_joining_a_service_s_queue(alpha: Line, queue: str) -> None:
    asked = {"agents.*.call", "agents.alpha.call", "agents.*.heartbeat", *CORE_SUBJECTS}
    assert await alpha.refused_to_hear(asked, queue) == asked


async def test_what_an_agent_asks_is_kept_by_the_stream(alpha: Line) -> None:
    for verb, stream in (("actions", "INGRESS"), ("logs", "TELEMETRY"), ("metrics", "TELEMETRY")):
        assert (await alpha.client.jetstream().publish(subjects.agent("alpha", verb), b"{}")).stream == stream


HARMFUL = harmful("agents.beta.actions")


@pytest.mark.parametrize("headers", HARMFUL.values(), ids=HARMFUL)
@pytest.mark.parametrize(("verb", "stream"), [("actions", "INGRESS"), ("logs", "TELEMETRY"), ("metrics", "TELEMETRY")])
async def test_a_header_that_reaches_further_is_refused_by_the_stream(
    deployment: Deployment, alpha: Line, verb: str, stream: str, headers: dict[str, str]
) -> None:
    subject = subjects.agent("alpha", verb)
    await alpha.client.jetstream().publish(subject, b"kept")
    before = await deployment.messages("AGENTS", stream)
    with pytest.raises(nats.js.errors.APIError):
        await alpha.client.jetstream().publish(subject, b"refused", headers=headers)
    assert await deployment.messages("AGENTS", stream) == before


@pytest.mark.parametrize(
    "call", ["STREAM.PURGE.INGRESS", "STREAM.DELETE.INGRESS", "CONSUMER.DELETE.INGRESS.gateway-ingress"]
)
async def test_no_acknowledgement_can_be_made_a_call_of_the_server_s_api(
    deployment: Deployment, alpha: Line, call: str
) -> None:
    """The PubAck goes to whatever reply subject the agent names; what arrives there is not a request the API takes."""
    before = await deployment.messages("AGENTS", "INGRESS")
    for verb in ("actions", "logs", "call", "heartbeat"):
        await alpha.client.publish(subjects.agent("alpha", verb), b"{}", reply=f"$JS.API.{call}")
    await alpha.client.flush()
    await deployment.api("AGENTS", "STREAM.PURGE.NONE")  # which waits in the same queue
    assert await deployment.messages("AGENTS", "INGRESS") == before + 1
    assert "error" not in await deployment.api("AGENTS", "CONSUMER.INFO.INGRESS.gateway-ingress")


async def test_an_agent_cannot_acknowledge_for_the_gateway(alpha: Line) -> None:
    reply = "$JS.ACK.INGRESS.gateway-ingress.1.1.1.1.0"
    alpha.refusals.clear()
    await alpha.client.publish("agents.alpha.logs", b"{}", reply=reply)
    await alpha.client.flush()
    assert f'publish with reply of "{reply.lower()}"' in "".join(alpha.refusals)


async def test_a_message_beyond_the_limit_ends_the_connection(deployment: Deployment, alpha: Line) -> None:
    limit = AGENT_LIMITS.payload_bytes
    await alpha.client.jetstream().publish("agents.alpha.actions", b" " * limit)
    before = await deployment.messages("AGENTS", "INGRESS")
    await alpha.client.publish("agents.alpha.actions", b" " * (limit + 1))
    await alpha.closed()
    assert await deployment.messages("AGENTS", "INGRESS") == before


async def test_a_subscription_beyond_the_limit_ends_the_connection(alpha: Line) -> None:
    for number in range(AGENT_LIMITS.subscriptions):
        await alpha.client.subscribe(f"agents.alpha.results.r{number}")
    await alpha.client.flush()
    assert not alpha.client.is_closed
    await alpha.client.subscribe("agents.alpha.results.one-more")
    await alpha.closed()


@pytest.mark.parametrize("user", ["gateway-agents", "registry-agents"])
async def test_a_service_among_the_agents_plays_its_part_alone(deployment: Deployment, user: str) -> None:
    line, service = await deployment.line(user), user.split("-")[0]
    gateway = service == "gateway"
    may = (
        {f"agents.alpha.{said}" for said in ("results.r1", "heartbeat", "logs", "metrics")}
        if gateway
        else {"agents.alpha.control.stop"}
    )
    every = {subjects.agent("alpha", verb) for verb in subjects.AGENT_PUBLISHES} | CORE_SUBJECTS
    every |= {"agents.alpha.results.r1", "agents.alpha.control.stop", "_INBOX.alpha.abc.1"}
    every |= {f"$JS.API.STREAM.{verb}.INGRESS" for verb in ("CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE")}
    every |= {"$JS.API.CONSUMER.CREATE.INGRESS.x", "$JS.API.CONSUMER.DELETE.INGRESS.gateway-ingress"}
    # both answer agents' inboxes, and those of the two services here are inboxes as well
    may |= {subject for subject in every if subject.startswith("_INBOX.")}
    assert await line.refused_to_say(every) == every - may
    hears = (
        {f"agents.*.{verb}" for verb in ("call", "get", "list", "cancel", "logs", "metrics")}
        if gateway
        else {"agents.*.heartbeat", "agents.*.renew", "agents.*.config", "agents.*.configured"}
    )
    asked = {subjects.agent("*", verb) for verb in subjects.AGENT_PUBLISHES} | {"agents.>", "agents.*.results.>", ">"}
    assert await line.refused_to_hear(asked) == asked - hears


async def test_the_other_services_do_not_stand_among_the_agents(deployment: Deployment) -> None:
    standing = {
        file.name.removesuffix("-agents.creds")
        for file in deployment.stack.layout.creds("x").parent.glob("*-agents.creds")
    }
    assert standing == {"gateway", "registry", "bootstrap"}


async def test_the_published_page_says_what_the_account_s_template_says(deployment: Deployment) -> None:
    account = read_claims(deployment.stack.layout.agents_account.read_text().strip())
    scoped = {key["role"]: key["template"] for key in account["nats"]["signing_keys"] if isinstance(key, dict)}
    assert scoped.keys() == {"agent", "bootstrap", "observer"}
    template, published = scoped["agent"], agent_access("{{name()}}")
    assert (tuple(template["pub"]["allow"]), tuple(template["sub"]["allow"])) == (
        published.publish,
        published.subscribe,
    )
    assert json.dumps(template).count("{{name()}}") == len(published.publish) + len(published.subscribe)
    assert (template["subs"], template["payload"]) == (AGENT_LIMITS.subscriptions, AGENT_LIMITS.payload_bytes)
    template = scoped["bootstrap"]
    assert (template["pub"], template["sub"]) == (
        {"allow": [subjects.REGISTER]},
        {"allow": [f"{subjects.bootstrap_inbox('{{name()}}')}.>"]},
    )
    template = scoped["observer"]
    assert (template["pub"], template["sub"]) == (
        {"allow": ["$SRV.>"]},
        {"allow": [f"{subjects.observer_inbox('{{name()}}')}.>"]},
    )


async def test_the_account_s_streams_take_no_agent_s_word_on_anything_else(deployment: Deployment) -> None:
    kept = {s for stream in topology.STREAMS if stream.account == "AGENTS" for s in stream.subjects}
    assert kept == {"agents.*.actions", "agents.*.logs", "agents.*.metrics"}


async def test_an_account_that_an_older_version_made_is_made_anew_with_its_time(tmp_path: Path) -> None:
    """A later time would let nats-server go back, when it starts, to an account in which nobody is revoked."""

    def prepare() -> str:
        layout.make()
        prepare_material(layout, nats_host="127.0.0.1", nats_port=-1)
        return layout.agents_account.read_text().strip()

    layout = Layout(tmp_path / "data")
    made = read_claims(prepare())
    older = account_jwt(
        "AGENTS",
        made["sub"],
        KeyPair.from_seed(layout.seed("operator-signing").read_text().strip()),
        issued_at=made["iat"] - 1000,
        signing_keys=[key for key in made["nats"]["signing_keys"] if isinstance(key, str)],
    )
    layout.agents_account.write_text(older + "\n")
    renewed = read_claims(prepare())
    assert renewed["nats"] == made["nats"] and renewed["iat"] == made["iat"] - 1000
