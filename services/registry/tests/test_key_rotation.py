"""Rotating the keys that sign accounts and users, on the real nats-server: nobody who renews notices."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import nats.errors
import pytest

from countersign_chassis.natsauth import read_claims
from countersign_cli.bootstrap import prepare_material
from countersign_cli.bootstrap.material import renew_agents_account
from countersign_cli.bootstrap.signing_keys import add, retire, rotatable, use
from countersign_contracts import subjects
from countersign_contracts.errors import CountersignError

if TYPE_CHECKING:
    from .conftest import Agent, Fleet

AGENTS = rotatable("agents-signing")


async def trusted(fleet: Fleet) -> set[str]:
    """The keys that nats-server lets sign users of account AGENTS."""
    claims = read_claims(await fleet.account_in_use())
    return {key if isinstance(key, str) else key["key"] for key in claims["nats"]["signing_keys"]}


async def until_trusted(fleet: Fleet, public: str, is_: bool = True) -> None:
    async def holds() -> bool:
        return (public in await trusted(fleet)) is is_

    await fleet.until(holds, seconds=30)


def issuer(creds: str | None) -> str:
    assert creds is not None
    return str(read_claims(creds.split("\n")[1])["iss"])


async def say(agent: Agent, count: int) -> int:
    """Queue messages; how many nats-server has for good."""
    js = agent.client.jetstream(timeout=10)
    for number in range(count):
        await js.publish(subjects.agent("alpha", "actions"), str(number).encode())
    return count


async def test_agents_go_on_while_their_signing_key_is_rotated_and_the_old_one_dies(fleet: Fleet) -> None:
    await fleet.run(account_check_s=0.3)
    layout = fleet.stack.layout
    await fleet.register()
    old = (await fleet.issue(kinds=("nats",))).nats_creds
    before = await fleet.connect(old)
    queued = await say(before, 5)

    made = await asyncio.to_thread(add, layout, AGENTS)
    renew_agents_account(layout)
    await until_trusted(fleet, made.public)
    queued += await say(before, 5)

    await asyncio.to_thread(use, layout, AGENTS)

    async def signs() -> bool:
        return issuer((await fleet.issue(kinds=("nats",))).nats_creds) == made.public

    await fleet.until(signs, seconds=30)
    new = (await fleet.issue(kinds=("nats",), replace=False)).nats_creds
    after = await fleet.connect(new)
    queued += await say(before, 5) + await say(after, 5)

    (gone,) = await asyncio.to_thread(retire, layout, AGENTS)
    renew_agents_account(layout)
    assert issuer(old) == gone.public
    await before.dropped(30)
    await until_trusted(fleet, gone.public, False)
    with pytest.raises(nats.errors.Error):
        await fleet.connect(old)
    queued += await say(after, 5)
    assert not after.closed.is_set()
    stream = await (await fleet.stack.client("bootstrap-agents")).jetstream().stream_info("INGRESS")
    assert stream.state.messages == queued == 25


async def test_what_signs_accounts_and_services_users_is_rotated_with_nats_server_restarted(fleet: Fleet) -> None:
    """The revocations survive each step, though the account's claims are signed by another key each time."""
    layout = fleet.stack.layout
    await fleet.run(account_check_s=0.3)
    await fleet.register("revoked")
    void = (await fleet.issue("revoked", kinds=("nats",))).nats_creds
    await fleet.register()
    mine = (await fleet.issue(kinds=("nats",))).nats_creds
    await fleet.set_status("revoked", "revoked")
    keys = [rotatable(name) for name in ("operator-signing", "core-signing", "agents-service-signing")]
    port = int(fleet.stack.nats_url.rsplit(":", 1)[1])
    again = partial(prepare_material, layout, nats_host="127.0.0.1", nats_port=port, ports_file_dir=layout.nats)
    old = {key.name: layout.seed(key.name).read_text() for key in keys}
    for step in (add, use, retire):
        for key in keys:
            await asyncio.to_thread(step, layout, key)
        await asyncio.to_thread(again)
        await fleet.restart_nats()
        await fleet.run(account_check_s=0.3)
        agent = await fleet.connect(mine)
        await agent.beat()
        with pytest.raises(nats.errors.Error):
            await fleet.connect(void, "revoked")
    for key in keys:
        assert old[key.name].strip() not in layout.seed(key.name).read_text()
    issuers = {str(read_claims(await fleet.account_in_use())["iss"])}
    assert issuers.isdisjoint(public(old["operator-signing"]))


def public(seeds: str) -> set[str]:
    from countersign_chassis.natsauth import KeyPair

    return {KeyPair.from_seed(seed).public for seed in seeds.split()}


@pytest.mark.parametrize(("step", "done"), [(use, []), (retire, []), (add, [add]), (add, [add, use])])
async def test_a_step_out_of_its_order_is_refused(fleet: Fleet, step: Any, done: list[Any]) -> None:
    for each in done:
        each(fleet.stack.layout, AGENTS)
    kept = fleet.stack.layout.seed("agents-signing").read_text()
    with pytest.raises(CountersignError, match="countersign keys"):
        step(fleet.stack.layout, AGENTS)
    assert fleet.stack.layout.seed("agents-signing").read_text() == kept
