"""Agents: registered, listed, paused, resumed and revoked, on real servers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from countersign_contracts.commands import Agents, ListAgents
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import AgentRegistered, AgentStatusChanged, CredentialsRevoked, Owner

if TYPE_CHECKING:
    from .conftest import Fleet

pytestmark = pytest.mark.usefixtures("registry")


async def test_a_registered_agent_is_told_shown_and_found(fleet: Fleet) -> None:
    view = await fleet.register()
    assert view.agent.status == "active"
    assert view.agent.revision == 1
    assert await fleet.shown() == view.agent
    assert (await fleet.get()).agent == view.agent
    (event,) = await fleet.events(1)
    assert isinstance(event, AgentRegistered)
    assert (event.agent, event.by, event.at) == (view.agent, "ann", view.created_at)


async def test_an_id_is_registered_once_and_the_refusal_says_by_whom(fleet: Fleet) -> None:
    first = await fleet.register()
    with pytest.raises(CountersignError) as refused:
        await fleet.register(name="Another", by="bob", owner=Owner(team="sales"))
    assert refused.value.code == "conflict"
    assert refused.value.detail == (
        f"agent `alpha` is registered already: by ann at {first.created_at:%Y-%m-%d %H:%M} UTC, for team support,"
        " now active; take another id, or change it with `countersign apply`"
    )
    assert (await fleet.get()).agent.name == "Alpha"
    await fleet.events(1)


async def test_of_concurrent_registrations_of_one_id_one_succeeds(fleet: Fleet) -> None:
    results = await asyncio.gather(*(fleet.register(name=f"n{i}") for i in range(20)), return_exceptions=True)
    (won,) = [r for r in results if not isinstance(r, BaseException)]
    assert all(r.code == "conflict" for r in results if isinstance(r, CountersignError))
    assert (await fleet.get()).agent == won.agent == await fleet.shown()
    await fleet.events(1)


async def test_fifty_agents_register_at_once(fleet: Fleet) -> None:
    ids = [f"agent-{i:02d}" for i in range(50)]
    views = await asyncio.gather(*(fleet.register(i) for i in ids))
    assert [view.agent.agent_id for view in views] == ids
    for view in views:
        assert await fleet.shown(view.agent.agent_id) == view.agent
    assert {event.about() for event in await fleet.events(50)} == set(ids)


async def test_the_list_is_paged_by_id_and_filtered(fleet: Fleet) -> None:
    for i in range(7):
        await fleet.register(f"a-{i}", owner=Owner(team="even" if i % 2 == 0 else "odd"))
    await fleet.set_status("paused", "a-4")

    async def ids(**filters: Any) -> list[str]:
        page: Agents = await fleet.bus.ask(ListAgents(**filters))
        found = [view.agent.agent_id for view in page.items]
        return found + (await ids(**filters | {"after": page.next}) if page.next else [])

    assert await ids(limit=3) == [f"a-{i}" for i in range(7)]
    assert await ids(limit=7) == [f"a-{i}" for i in range(7)]
    assert await ids(limit=1, team="even", status="active") == ["a-0", "a-2", "a-6"]
    assert await ids(status="revoked") == []


async def test_an_agent_is_paused_and_resumed_and_again_changes_nothing(fleet: Fleet) -> None:
    await fleet.register()
    paused = await fleet.set_status("paused")
    assert (paused.agent.status, paused.agent.revision) == ("paused", 2)
    assert await fleet.set_status("paused") == paused
    assert await fleet.shown() == paused.agent
    resumed = await fleet.set_status("active")
    assert (resumed.agent.status, resumed.agent.revision) == ("active", 3)
    _, first, second = await fleet.events(3)
    assert isinstance(first, AgentStatusChanged)
    assert isinstance(second, AgentStatusChanged)
    assert [(e.before, e.status) for e in (first, second)] == [("active", "paused"), ("paused", "active")]


async def test_revoked_is_for_good(fleet: Fleet) -> None:
    await fleet.register()
    issued = await fleet.issue()
    revoked = await fleet.set_status("revoked", reason="left the company")
    assert revoked.agent.credentials == ()
    assert await fleet.shown() == revoked.agent
    assert await fleet.set_status("revoked") == revoked
    for refused_order in (fleet.set_status("active"), fleet.set_status("paused"), fleet.issue()):
        with pytest.raises(CountersignError, match=r"`alpha` was revoked by ann at .* UTC \(left the company\)") as no:
            await refused_order
        assert no.value.code == "conflict"
    *_, status, credentials = await fleet.events(4)
    assert isinstance(status, AgentStatusChanged)
    assert isinstance(credentials, CredentialsRevoked)
    assert credentials.credential_ids == issued.credential_ids


async def test_orders_that_make_no_sense_are_refused_and_change_nothing(fleet: Fleet) -> None:
    for order in (fleet.get("nobody"), fleet.set_status("paused", "nobody"), fleet.issue("nobody")):
        with pytest.raises(CountersignError, match="`nobody` is not registered") as error:
            await order
        assert error.value.code == "not_found"
    # an agent of such a name would hear the service's replies: in account AGENTS both have inbox `_INBOX.<name>`
    for agent_id in ("gateway", "registry", "bootstrap"):
        with pytest.raises(CountersignError, match=f"the id `{agent_id}` is reserved") as error:
            await fleet.register(agent_id)
        assert error.value.code == "invalid"
    with pytest.raises(CountersignError) as error:
        await fleet.register(name=" ", owner=Owner(team="a\x1b[2J"), environments=("prod", "dev", "prod"))
    assert error.value.code == "invalid"
    assert [e["field"] for e in error.value.extra["errors"]] == ["name", "owner.team", "environments.2"]
    assert "environment `prod` is given twice" in error.value.detail
    await fleet.register()
    with pytest.raises(CountersignError, match="`kinds` is empty") as error:
        await fleet.issue(kinds=())
    assert error.value.code == "invalid"
    await fleet.events(1)
