"""Agents that register with a token, in plain nats-py: who is taken, who is not, and what they may do then."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nats.errors
import orjson
import pytest
from nats.aio.client import Client

from countersign_chassis import Service
from countersign_chassis.natsauth import KeyPair, read_claims
from countersign_contracts import subjects
from countersign_contracts.commands import Agents, GetAgent, ListAgents
from countersign_contracts.enrolment import (
    CreateDiscoveryToken,
    DiscoveryTokens,
    IssuedDiscoveryToken,
    ListDiscoveryTokens,
    OrderAgents,
    Ordered,
    Registered,
    RegisterWithToken,
    RevokeDiscoveryToken,
    TokenGrant,
    registration_text,
    renewal_text,
    token_sha256,
)
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import AgentRegistered, CredentialsIssued, Owner
from countersign_harness.plain_client import PlainClient

if TYPE_CHECKING:
    from .conftest import Fleet

GRANT = TokenGrant(agent_type="security", owner=Owner(team="sec"), profile="support", environments=("prod",))


async def a_token(fleet: Fleet, **more: Any) -> IssuedDiscoveryToken:
    issued: IssuedDiscoveryToken = await fleet.bus.ask(CreateDiscoveryToken(**({"grant": GRANT, "by": "ann"} | more)))
    return issued


def signed(pair: KeyPair, text: bytes) -> str:
    return urlsafe_b64encode(pair.sign(text)).rstrip(b"=").decode()


def said(secret: str, pair: KeyPair | None = None, **more: str) -> dict[str, str]:
    """What an agent sends to register."""
    body = {"agent_name": "Guard", "agent_version": "1.0.0", "agent_type": "security"} | more
    if pair is not None:
        text = registration_text(
            body["agent_type"], body["agent_name"], body["agent_version"], pair.public, token_sha256(secret)
        )
        body |= {"nkey": pair.public, "signature": signed(pair, text)}
    return body | {"discovery_token": secret}


async def register(fleet: Fleet, secret: str, pair: KeyPair | None = None, **more: str) -> Registered:
    body: dict[str, Any] = said(secret, pair, **more)
    body["token_sha256"] = token_sha256(body.pop("discovery_token"))
    registered: Registered = await fleet.bus.ask(RegisterWithToken(**body))
    return registered


async def refused(fleet: Fleet, secret: str, pair: KeyPair | None = None, **more: str) -> tuple[str, str]:
    with pytest.raises(CountersignError) as error:
        await register(fleet, secret, pair, **more)
    return error.value.code, error.value.detail


async def connect(fleet: Fleet, creds: Path | None, inbox: str, **how: Any) -> Client:
    async def quiet(_: Exception) -> None:
        return None

    client = PlainClient()
    if creds is not None:
        how["user_credentials"] = str(creds)
    try:
        await client.connect(
            fleet.stack.nats_url, inbox_prefix=inbox, allow_reconnect=False, connect_timeout=5, error_cb=quiet, **how
        )
    except nats.errors.Error:
        await client.close()
        raise
    return client


async def as_agent(fleet: Fleet, pair: KeyPair, agent_id: str, jwt: str | None) -> Client:
    """Connect with the agent's own key, and the JWT for it."""
    assert jwt is not None
    return await connect(
        fleet,
        None,
        subjects.inbox(agent_id),
        user_jwt_cb=lambda: bytearray(jwt.encode()),
        signature_cb=lambda nonce: b64encode(pair.sign(nonce.encode())),
    )


async def asked(client: Client, subject: str, body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = orjson.loads((await client.request(subject, orjson.dumps(body), timeout=10)).data)
    return answer


async def test_an_agent_registers_over_nats_with_a_key_that_never_leaves_it(fleet: Fleet, registry: Service) -> None:
    issued = await a_token(fleet)
    creds = fleet.stack.layout.root / "bootstrap.creds"
    creds.write_text(issued.nats_creds)
    door = await connect(fleet, creds, subjects.bootstrap_inbox(issued.token.token_id))
    pair = KeyPair.generate("user")
    answer = Registered.model_validate(await asked(door, subjects.REGISTER, said(issued.secret, pair)))
    await door.close()
    assert answer.agent_id.startswith("security-") and len(answer.agent_id) == len("security-") + 36
    assert answer.nats_creds is None and answer.http_token.startswith("csa_") and not answer.again

    agent = await as_agent(fleet, pair, answer.agent_id, answer.nats_jwt)
    await agent.publish(subjects.agent(answer.agent_id, "heartbeat"), b"{}")
    await agent.flush()
    await fleet.until(lambda: _seen(fleet, answer.agent_id))
    await agent.close()

    shown = await fleet.shown(answer.agent_id)
    assert shown is not None
    assert (shown.owner.team, shown.profile, shown.environments) == ("sec", "support", ("prod",))
    assert (shown.agent_type, shown.version, shown.name, shown.status) == ("security", "1.0.0", "Guard", "active")
    assert {c.kind: c.nkey for c in shown.credentials} == {"http": None, "nats": pair.public}
    assert int(answer.expires_at.timestamp()) == read_claims(answer.nats_jwt or "")["exp"]
    _, known, given = await fleet.events(3)
    assert isinstance(known, AgentRegistered) and known.by == f"token:{issued.token.token_id}"
    assert isinstance(given, CredentialsIssued) and len(given.credentials) == 2
    everything = [
        str(row) for table in await tables(fleet) for row in await fleet.sql(f"SELECT t::text FROM {table} t")
    ]
    seed = next(line for line in issued.nats_creds.splitlines() if line.startswith("SU"))
    assert not [row for row in everything if issued.secret in row or answer.http_token in row or seed in row]


async def test_a_bootstrap_credential_can_do_nothing_but_register(fleet: Fleet, registry: Service) -> None:
    issued, other = await a_token(fleet), await a_token(fleet)
    creds = fleet.stack.layout.root / "bootstrap.creds"
    creds.write_text(issued.nats_creds)
    mine = subjects.bootstrap_inbox(issued.token.token_id)
    door = await connect(fleet, creds, mine)
    violations: list[str] = []

    async def note(error: Exception) -> None:
        violations.append(str(error).lower())

    door._error_cb = note
    forbidden = [
        "agents.bootstrap.heartbeat",
        "agents.bootstrap.renew",
        "agents.alpha.register",
        "agents.alpha.actions",
        "agents.alpha.renew",
        "$JS.API.INFO",
        f"{subjects.bootstrap_inbox(other.token.token_id)}.x",
    ]
    for subject in forbidden:
        await door.publish(subject, b"{}")
    heard = [f"{subjects.bootstrap_inbox(other.token.token_id)}.>", "_INBOX.>", "_INBOX.BOOTSTRAP.>", "agents.>", ">"]
    for n, subject in enumerate([*heard, subjects.REGISTER]):
        if n < 3:
            await door.subscribe(subject)
    await door.flush()
    await fleet.until(lambda: _true(len(violations) >= len(forbidden) + 3))
    await door.close()


async def test_nobody_is_registered_into_another_s_inbox(fleet: Fleet, registry: Service) -> None:
    """Whoever asks may name any subject as reply: the answer holds secrets, and one may not come from the registry."""
    issued = await a_token(fleet)
    creds = fleet.stack.layout.root / "bootstrap.creds"
    creds.write_text(issued.nats_creds)
    door = await connect(fleet, creds, subjects.bootstrap_inbox(issued.token.token_id))
    body = orjson.dumps(said(issued.secret))
    for reply in ("agents.alpha.control.x", "_INBOX.gateway.x", "_INBOX.alpha.x", ""):
        await door.publish(subjects.REGISTER, body, reply=reply)
    answer = await asked(door, subjects.REGISTER, said(issued.secret))  # the token is still unused
    assert answer["agent_id"].startswith("security-")
    await door.close()


async def test_again_with_its_token_and_key_is_the_same_agent_and_another_key_is_refused(
    fleet: Fleet, registry: Service
) -> None:
    issued, pair = await a_token(fleet), KeyPair.generate("user")
    first = await register(fleet, issued.secret, pair)
    again = await register(fleet, issued.secret, pair, agent_version="1.1.0")
    assert (again.agent_id, again.again) == (first.agent_id, True)
    assert again.http_token != first.http_token
    view = await fleet.get(first.agent_id)
    assert view.agent.version == "1.1.0"
    code, why = await refused(fleet, issued.secret, KeyPair.generate("user"))
    assert code == "conflict" and "used once" in why
    assert (await refused(fleet, issued.secret))[0] == "conflict"
    other = await a_token(fleet)
    code, why = await refused(fleet, other.secret, pair)
    assert code == "conflict" and "registered before, with another token" in why
    for _ in range(20):  # it never reaches the bound on live credentials
        await register(fleet, issued.secret, pair)
    assert len((await fleet.get(first.agent_id)).agent.credentials) == 3
    await fleet.set_status("revoked", first.agent_id)
    code, why = await refused(fleet, issued.secret, pair)
    assert code == "conflict" and "revoked" in why


async def test_who_brings_no_key_is_given_one_once(fleet: Fleet, registry: Service) -> None:
    issued = await a_token(fleet)
    answer = await register(fleet, issued.secret)
    agent = await fleet.connect(answer.nats_creds, answer.agent_id)
    await agent.beat()
    await fleet.until(lambda: _seen(fleet, answer.agent_id))
    assert answer.nats_jwt is None


async def test_a_token_is_refused_when_it_is_unknown_over_revoked_or_for_another_type(
    fleet: Fleet, registry: Service
) -> None:
    assert (await refused(fleet, "csd_nonsense"))[0] == "unauthenticated"
    short = await a_token(fleet, expires_in_s=1)
    issued = await a_token(fleet)
    code, why = await refused(fleet, issued.secret, agent_type="sales")
    assert code == "forbidden" and "`security`" in why and "`sales`" in why
    for bad in ("1.x", "one", " "):
        assert (await refused(fleet, issued.secret, agent_version=bad))[0] == "invalid"
    stolen = KeyPair.generate("user")
    body: dict[str, Any] = said(issued.secret, stolen)
    body |= {
        "signature": signed(KeyPair.generate("user"), b"something else"),
        "token_sha256": token_sha256(issued.secret),
    }
    del body["discovery_token"]
    with pytest.raises(CountersignError) as wrong:
        await fleet.bus.ask(RegisterWithToken(**body))
    assert wrong.value.code == "unauthenticated"
    revoked = await fleet.bus.ask(RevokeDiscoveryToken(token_id=issued.token.token_id, by="bob"))
    assert revoked == await fleet.bus.ask(RevokeDiscoveryToken(token_id=issued.token.token_id, by="eve"))
    code, why = await refused(fleet, issued.secret)
    assert code == "unauthenticated" and "revoked by bob" in why
    listed: DiscoveryTokens = await fleet.bus.ask(ListDiscoveryTokens())
    assert [token.token_id for token in listed.items] == [issued.token.token_id, short.token.token_id]
    page: DiscoveryTokens = await fleet.bus.ask(ListDiscoveryTokens(limit=1))
    assert page.next == issued.token.token_id
    while (await refused(fleet, short.secret, agent_type="sales"))[0] == "forbidden":
        await asyncio.sleep(0.05)
    code, why = await refused(fleet, short.secret)
    assert code == "unauthenticated" and "ended at" in why


async def test_a_revoked_token_drops_the_connection_that_would_register(fleet: Fleet, registry: Service) -> None:
    issued = await a_token(fleet)
    creds = fleet.stack.layout.root / "bootstrap.creds"
    creds.write_text(issued.nats_creds)
    closed = asyncio.Event()

    async def done() -> None:
        closed.set()

    await connect(fleet, creds, subjects.bootstrap_inbox(issued.token.token_id), closed_cb=done)
    await fleet.bus.ask(RevokeDiscoveryToken(token_id=issued.token.token_id, by="bob"))
    async with asyncio.timeout(5):
        await closed.wait()
    with pytest.raises(nats.errors.Error):
        await connect(fleet, creds, subjects.bootstrap_inbox(issued.token.token_id))


async def test_an_agent_renews_with_a_signed_nonce_and_nobody_else_does(fleet: Fleet, registry: Service) -> None:
    issued, pair = await a_token(fleet), KeyPair.generate("user")
    me = await register(fleet, issued.secret, pair)
    subject = subjects.agent(me.agent_id, "renew")
    agent = await as_agent(fleet, pair, me.agent_id, me.nats_jwt)

    async def proof(by: KeyPair, nkey: str | None = None, agent_id: str | None = None) -> dict[str, Any]:
        nonce = (await asked(agent, subject, {}))["nonce"]
        signature = signed(by, renewal_text(agent_id or me.agent_id, nonce))
        return {"nkey": nkey or by.public, "nonce": nonce, "signature": signature, "kinds": ["http", "nats"]}

    good = await proof(pair)
    renewed = await asked(agent, subject, good)
    assert renewed["http_token"].startswith("csa_") and renewed["http_token"] != me.http_token
    again = await as_agent(fleet, pair, me.agent_id, renewed["nats_jwt"])
    await again.close()
    assert "used before" in (await asked(agent, subject, good))["problem"]["detail"]
    thief = KeyPair.generate("user")
    for bad, why in (
        (await proof(thief), "not, or no more"),
        (await proof(thief, nkey=pair.public), "signature is not that"),
        (await proof(pair, agent_id="another"), "signature is not that"),
        (good | {"nonce": good["nonce"][:-2] + "AA"}, "not made for this agent"),
        (good | {"nonce": "1.2.3xxxxxxxxxxxxxxxx"}, "not made for this agent"),
        (good | {"nkey": "U" + "A" * 55}, "nkey"),
        ({"nkey": pair.public}, "field required"),
    ):
        problem = (await asked(agent, subject, bad))["problem"]
        assert why in problem["detail"], problem
    await agent.close()
    await fleet.set_status("revoked", me.agent_id)
    with pytest.raises(CountersignError, match="revoked"):
        await register(fleet, issued.secret, pair)


async def test_a_person_s_credentials_are_not_renewed_by_their_holder(fleet: Fleet, registry: Service) -> None:
    """They end when the person who issued them said so."""
    await fleet.register()
    creds = (await fleet.issue(lifetime_s=60)).nats_creds or ""
    pair = KeyPair.from_seed(next(line for line in creds.splitlines() if line.startswith("SU")))
    agent = await fleet.connect(creds)
    nonce = (await asked(agent.client, "agents.alpha.renew", {}))["nonce"]
    body = {"nkey": pair.public, "nonce": nonce, "signature": signed(pair, renewal_text("alpha", nonce))}
    assert "not, or no more" in (await asked(agent.client, "agents.alpha.renew", body))["problem"]["detail"]
    issued = await a_token(fleet)
    assert (await refused(fleet, issued.secret, pair))[0] == "conflict"


async def test_a_thousand_register_at_once(fleet: Fleet, registry: Service) -> None:
    issued = await a_token(fleet, uses=1000)
    pairs = [KeyPair.generate("user") for _ in range(1000)]
    bodies = [RegisterWithToken(**_command(said(issued.secret, pair))) for pair in pairs]
    began = time.perf_counter()
    answers = await asyncio.gather(*(fleet.bus.ask(body, timeout_s=60) for body in bodies))
    took = time.perf_counter() - began
    assert len({answer.agent_id for answer in answers}) == 1000
    assert (await refused(fleet, issued.secret, KeyPair.generate("user")))[0] == "conflict"
    print(f"1000 registrations at once: {took:.2f} s")


async def test_of_many_at_once_a_one_time_token_takes_one(fleet: Fleet, registry: Service) -> None:
    issued = await a_token(fleet)
    asking = [register(fleet, issued.secret, KeyPair.generate("user")) for _ in range(20)]
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert sum(isinstance(each, Registered) for each in found) == 1
    pair, other = KeyPair.generate("user"), await a_token(fleet)
    same = await asyncio.gather(*(register(fleet, other.secret, pair) for _ in range(20)))
    assert len({each.agent_id for each in same}) == 1 and sum(not each.again for each in same) == 1


async def test_an_order_for_a_team_or_a_type_is_one_for_each_of_its_agents(fleet: Fleet, registry: Service) -> None:
    issued = await a_token(fleet, uses=3)
    ours = sorted([(await register(fleet, issued.secret)).agent_id for _ in range(3)])
    await fleet.register("alpha")
    await fleet.set_status("revoked", ours[0])

    async def order(status: str, **who: str) -> Ordered:
        done: Ordered = await fleet.bus.ask(
            OrderAgents.model_validate({"status": status, "reason": "r", "by": "ann"} | who)
        )
        return done

    with pytest.raises(CountersignError, match="say whose agents"):
        await order("paused")
    paused = await order("paused", agent_type="security")
    assert [each.agent_id for each in paused.changed] == ours[1:] and paused.revoked == 1
    again = await order("paused", team="sec")
    assert (again.changed, again.unchanged, again.revoked) == ((), 2, 1)
    assert (await order("active", team="support")).unchanged == 1
    shown = await fleet.shown(ours[1])
    assert shown is not None and shown.status == "paused"
    assert len((await order("revoked", team="sec", agent_type="security")).changed) == 2
    assert (await fleet.get("alpha")).agent.status == "active"


async def test_the_list_says_of_each_agent_what_is_said_of_it_alone(fleet: Fleet, registry: Service) -> None:
    """The list is written past the models; these are what it has to write."""
    issued = await a_token(fleet)
    own = await register(fleet, issued.secret)
    await fleet.register("bare", owner=Owner(team="x"))
    await fleet.register("alpha")
    await fleet.issue("alpha", lifetime_s=1000)
    await (await fleet.connect(own.nats_creds, own.agent_id)).beat(b'{"status": "well", "load": 0.5}')
    await fleet.until(lambda: _running(fleet, own.agent_id))
    page: Agents = await fleet.bus.ask(ListAgents())
    assert [view.agent.agent_id for view in page.items] == ["alpha", "bare", own.agent_id] and page.next is None
    for view in page.items:
        alone = await fleet.get(view.agent.agent_id)
        assert view == alone
    raw = orjson.loads(await fleet.bus.ask_bytes(ListAgents(limit=2)))
    assert raw["next"] == "bare"
    assert orjson.dumps(raw["items"][0]) == (await fleet.get("alpha")).to_bytes()
    assert (await fleet.bus.ask(ListAgents(status="revoked"))).items == ()
    filtered: Agents = await fleet.bus.ask(ListAgents(agent_type="security", phase="running", team="sec"))
    assert [view.agent.agent_id for view in filtered.items] == [own.agent_id]
    with pytest.raises(CountersignError) as gone:
        await fleet.bus.ask_bytes(GetAgent(agent_id="nobody"))
    assert gone.value.code == "not_found"


def _command(body: dict[str, Any]) -> dict[str, Any]:
    return body | {"token_sha256": token_sha256(body.pop("discovery_token"))}


async def tables(fleet: Fleet) -> list[str]:
    rows = await fleet.sql("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'registry'")
    return [row["name"] for row in rows]


async def _seen(fleet: Fleet, agent_id: str) -> bool:
    return (await fleet.get(agent_id)).last_seen is not None


async def _running(fleet: Fleet, agent_id: str) -> bool:
    view = await fleet.get(agent_id)
    return view.phase == "running" and view.heartbeat is not None


async def _true(holds: bool) -> bool:
    return holds
