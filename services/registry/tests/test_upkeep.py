"""What becomes of an agent that people change or delete: decided by a table, and done on real servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from countersign_contracts.agent_commands import AgentDeleted, DeleteAgent, UpdateAgent
from countersign_contracts.commands import ListAgents
from countersign_contracts.enrolment import OrderAgents
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import AgentChanged, AgentRecord, AgentStatusChanged, CredentialsRevoked, Owner
from countersign_contracts.model import now
from countersign_registry.lifecycle import Agent
from countersign_registry.upkeep import delete, update

if TYPE_CHECKING:
    from countersign_chassis import Service

    from .conftest import Fleet

AT = now()
DESCRIBED: dict[str, Any] = {
    "agent_id": "alpha",
    "name": "Alpha",
    "owner": Owner(team="support"),
    "profile": "support",
    "environments": ("dev",),
    "heartbeat_s": 30,
}


def agent(**changes: Any) -> Agent:
    record = AgentRecord(**DESCRIBED | {"status": "active", "revision": 4} | changes)
    return Agent(record=record, created_at=AT, created_by="ann", status_at=AT, status_by="ann")


def wanted(**changes: Any) -> UpdateAgent:
    return UpdateAgent(**DESCRIBED | {"by": "bob"} | changes)


@pytest.mark.parametrize(
    ("before", "command", "code"),
    [
        (agent(), wanted(name="Beta", revision=3), "stale"),
        (agent(status="revoked"), wanted(name="Beta"), "conflict"),
        (agent(), wanted(name="  "), "invalid"),
        (agent(), wanted(environments=("dev", "dev")), "invalid"),
        (agent(), wanted(owner=Owner(team="a\nb")), "invalid"),
    ],
)
def test_what_is_wrong_with_a_change_is_refused(before: Agent, command: UpdateAgent, code: str) -> None:
    with pytest.raises(CountersignError) as refused:
        update(before, command, AT, "evt")
    assert refused.value.code == code


@pytest.mark.parametrize("revision", [None, 1, 4, 9])
@pytest.mark.parametrize("status", ["active", "paused", "revoked"])
def test_the_same_description_changes_nothing_whatever_was_seen(revision: int | None, status: str) -> None:
    assert update(agent(status=status), wanted(revision=revision), AT, "evt") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Beta"},
        {"owner": Owner(team="sales", oncall="x@example.com")},
        {"profile": "other"},
        {"environments": ("prod",)},
        {"heartbeat_s": 5},
    ],
)
def test_each_field_that_people_say_changes_and_nothing_else(changes: dict[str, Any]) -> None:
    before = agent(status="paused", agent_type="t", version="1")
    change = update(before, wanted(revision=4, **changes), AT, "evt")
    assert change is not None
    assert change.record == before.record.model_copy(update=changes | {"revision": 5})
    (event,) = change.events
    assert isinstance(event, AgentChanged)
    assert (event.before, event.agent, event.by) == (before.record, change.record, "bob")


def test_a_revoked_agent_is_deleted_without_another_revocation() -> None:
    change = delete(agent(status="revoked"), DeleteAgent(agent_id="alpha", reason="old", by="bob"), AT, "evt")
    assert change is not None
    assert [type(event) for event in change.events] == [AgentDeleted]
    assert change.record.revision == 4


async def test_a_change_is_told_and_shown_at_once(fleet: Fleet, registry: Service) -> None:
    await fleet.register()
    view = await fleet.bus.ask(wanted(owner=Owner(team="sales"), revision=1))
    assert view.agent == await fleet.shown() == (await fleet.get()).agent
    assert (view.agent.owner.team, view.agent.revision) == ("sales", 2)
    again = await fleet.bus.ask(wanted(owner=Owner(team="sales"), revision=1))
    assert again == view
    events = await fleet.events(2)
    assert isinstance(events[1], AgentChanged)
    with pytest.raises(CountersignError, match="is not registered"):
        await fleet.bus.ask(wanted(agent_id="nobody"))
    assert not await fleet.sql("SELECT FROM agent WHERE agent_id = 'nobody'")


async def test_a_deleted_agent_is_cut_off_listed_nowhere_and_keeps_its_id(fleet: Fleet, registry: Service) -> None:
    await fleet.register()
    await fleet.register("beta")
    connected = await fleet.connect((await fleet.issue(kinds=("nats",))).nats_creds)
    order = DeleteAgent(agent_id="alpha", reason="replaced", by="ann")
    gone = await fleet.bus.ask(order)
    await connected.dropped()
    assert (gone.agent.status, gone.agent.credentials) == ("revoked", ())
    assert await fleet.shown() == gone.agent
    assert await fleet.bus.ask(order) == gone
    told = [event for event in await fleet.events(6) if event.about() == "alpha"][2:]
    assert [type(event) for event in told] == [AgentStatusChanged, CredentialsRevoked, AgentDeleted]

    page = await fleet.bus.ask(ListAgents())
    assert [view.agent.agent_id for view in page.items] == ["beta"]
    paused = await fleet.bus.ask(OrderAgents(status="paused", team="support", reason="r", by="ann"))
    assert ([each.agent_id for each in paused.changed], paused.revoked) == (["beta"], 0)
    for refusal in (fleet.get(), fleet.set_status("active"), fleet.issue(), fleet.bus.ask(wanted(name="B"))):
        with pytest.raises(CountersignError, match="was deleted by ann") as refused:
            await refusal
        assert refused.value.code == "not_found"
    with pytest.raises(CountersignError, match="never given to another") as taken:
        await fleet.register()
    assert taken.value.code == "conflict"
