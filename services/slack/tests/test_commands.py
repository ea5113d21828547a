"""`/countersign`: what waits, stop, link, help; on a real bus, with the real registry and executor."""

from __future__ import annotations

from typing import Any

import pytest

from countersign_contracts.commands import ListStops
from countersign_contracts.people_commands import AddPerson, ListPeople, StartEnrolment
from countersign_harness.slack import TEAM

from .conftest import held


async def answer(office: Any, text: str, user: str) -> str:
    """What the person is answered."""
    before = len(office.slack.responses)
    await office.slack.send(office.slack.command(text, user))
    await office.slack.until(lambda: len(office.slack.responses) > before)
    assert office.slack.responses[-1]["response_type"] == "ephemeral"
    return str(office.slack.responses[-1]["text"])


@pytest.mark.parametrize("text", ["", "help", "HELP me"])
async def test_help_lists_every_word(office: Any, text: str) -> None:
    await office.service()
    said = await answer(office, text, "U0ANY")
    assert all(f"/countersign {word}" in said for word in ("pending", "standing", "stop", "link", "help"))


async def test_an_unknown_word_is_shown_harmless(office: Any) -> None:
    await office.service()
    said = await answer(office, "<!channel> x", "U0ANY")
    assert said.startswith("There is no `&lt;!channel&gt;`.") and "/countersign pending" in said


async def test_pending_lists_what_the_person_may_decide(office: Any) -> None:
    desk = await office.desk()
    await office.person("alice", "U0ALICE")
    await office.service()
    assert "link-slack" in await answer(office, "pending", "U0NOBODY")
    assert await answer(office, "pending", "U0ALICE") == "Nothing waits for you."
    view = await desk.ask(held())
    assert view.approval_id in await answer(office, "pending", "U0ALICE")


async def test_stop_takes_a_linked_person_with_the_role_a_scope_and_a_reason(office: Any) -> None:
    await office.stack.service("executor")
    gateway = await office.stack.bus("gateway")
    await office.person("olga", "U0OLGA", "operator")
    await office.person("alice", "U0ALICE", "approver")
    await office.service()
    for text, user, why in (
        ("stop all now", "U0NOBODY", "linked to nobody"),
        ("stop all now", "U0ALICE", "it takes admin, operator"),
        ("stop", "U0OLGA", "a scope and a reason"),
        ("stop env:prod", "U0OLGA", "a scope and a reason"),
        ("stop everything now", "U0OLGA", "`everything` is no scope"),
    ):
        said = await answer(office, text, user)
        assert "Nothing was stopped" in said and why in said, said
    assert (await gateway.ask(ListStops())).items == ()
    said = await answer(office, "stop env:prod wrong prices", "U0OLGA")
    (stop,) = (await gateway.ask(ListStops())).items
    assert (stop.scope, stop.reason, stop.set_by) == ("env:prod", "wrong prices", "olga")
    assert f"countersign stops lift {stop.stop_id}" in said
    assert {each["code"] for each in await office.refusals(2)} == {"not_enrolled", "role"}


async def test_a_stop_that_nobody_confirmed_says_so(office: Any) -> None:
    await office.person("olga", "U0OLGA", "operator")
    await office.service()
    assert "not confirmed: order it again" in await answer(office, "stop all now", "U0OLGA")


async def test_link_makes_a_person_known_who_types_their_code(office: Any) -> None:
    await office.stack.service("registry")
    gateway = await office.stack.bus("gateway")
    await gateway.ask(AddPerson(name="alice", roles=("approver",), by="admin"))
    await office.service()
    assert "not_found" not in (said := await answer(office, "link WRONG-CODE", "U0ALICE")) and "Not done" in said
    (refusal,) = await office.refusals()
    assert refusal["code"] == "code"
    assert "link-slack" in await answer(office, "link", "U0ALICE")
    code = (await gateway.ask(StartEnrolment(name="alice", channel="slack"))).code
    assert await answer(office, f"link {code}", "U0ALICE") == ":link: You are `alice` here from now on, with approver."
    assert "Not done" in await answer(office, f"link {code}", "U0MALLORY"), "a code counts once"
    people = (await gateway.ask(ListPeople())).items
    (alice,) = (person for person in people if person.name == "alice")
    assert [each.identity for each in alice.channels] == [f"{TEAM}/U0ALICE"]


async def test_a_command_of_another_workspace_is_refused(office: Any) -> None:
    await office.person("olga", "U0OLGA", "operator")
    await office.service()
    await office.slack.send(office.slack.command("stop all now", "U0OLGA", team="T0OTHER"))
    (refusal,) = await office.refusals()
    assert refusal["code"] == "workspace" and office.slack.responses == []
