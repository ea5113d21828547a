"""Approving with changes, alike actions ahead, several in one step, in Slack, with the real approvals service."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest

from countersign_contracts.approval_commands import (
    CommitApprovalRules,
    GetApproval,
    ListStandings,
    PrepareApprovalRules,
    RevokeStanding,
)
from countersign_contracts.approval_rules import StandingLimits
from countersign_contracts.approvals import AskedBy
from countersign_contracts.catalogue import Document
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now
from countersign_harness.slack import buttons, fault_of
from countersign_slack.rendering import ALLOW, CHANGE
from countersign_slack.several_form import DECIDE
from countersign_slack.standing_list import REVOKE

from .conftest import CHANNEL, held

RULE = """
kind: approval_rule
name: writes
match: {environments: [prod]}
stages:
  - {name: decision, approvers: [anyone]}
changes: {thing_id: lower, tags: subset, note: remove}
standing: {max_uses: 20, max_s: 28800}
"""
ARGS = {"thing_id": 7, "tags": ["<a>", "b", "c"], "note": "x"}


class Room:
    """The real approvals service, with a rule that allows more than yes and no; two replicas of Slack's."""

    def __init__(self, office: Any, gateway: Any) -> None:
        self.office, self.slack, self.gateway = office, office.slack, gateway

    @classmethod
    async def of(cls, office: Any) -> Room:
        """Started; alice may vote, rita may look."""
        desk = cls(office, await office.stack.bus("gateway"))
        for name, user, role in (("alice", "U0ALICE", "approver"), ("rita", "U0RITA", "reader")):
            await office.person(name, user, role)
        await office.stack.service("approvals")
        documents = (Document(path="rules.yaml", text=RULE),)
        plan = await desk.gateway.ask(PrepareApprovalRules(change_id="chg_1", documents=documents))
        assert plan.errors == (), plan.errors
        commit = CommitApprovalRules(change_id="chg_1", base=plan.base, by="admin", documents=documents)
        await desk.gateway.ask(commit)
        for number in (1, 2):
            await office.service(instance=f"slack-{number}")
        await office.slack.until(lambda: office.slack.connections == 2)
        return desk

    async def ask(self, thing: int, **more: Any) -> Any:
        """A held action."""
        given = {"args": ARGS | {"thing_id": thing}, "resource": f"things/{thing}"} | more
        return await self.office.hold(**given)

    async def hold(self, thing: int = 7, **more: Any) -> tuple[Any, dict[str, Any]]:
        """A held action, and its message."""
        event = await self.ask(thing, **more)
        found = await self.slack.until(
            lambda: [m for m in self.slack.main(CHANNEL) if event.approval_id in json.dumps(m)]
        )
        return event, found[0]

    def message(self, approval_id: str) -> dict[str, Any]:
        """The message about an approval."""
        return next(m for m in self.slack.main(CHANNEL) if approval_id in json.dumps(m))

    async def open(self, message: dict[str, Any], action: str, user: str = "U0ALICE") -> dict[str, Any]:
        """The form that a button opens."""
        before = len(self.slack.modals)
        await self.slack.send(self.slack.press(message, action, user))
        await self.slack.until(lambda: len(self.slack.modals) > before)
        return dict(self.slack.modals[-1])

    async def fill(self, modal: dict[str, Any], comment: str | None = None, user: str = "U0ALICE", **given: Any) -> Any:
        """What is wrong with a form that is sent like this; nothing, if it is taken."""
        payload = self.slack.submit(modal, user, comment, **given)
        answer = self.slack.answers[await self.slack.send(payload)]
        assert not answer or answer["response_action"] == "errors", answer
        return answer.get("errors", {})

    async def type(self, text: str, user: str = "U0ALICE") -> dict[str, Any]:
        """What `/countersign text` answers, as a message."""
        return await self.answered(self.slack.send(self.slack.command(text, user)))

    async def answered(self, sending: Any) -> dict[str, Any]:
        """The next answer that one person alone sees."""
        before = len(self.slack.responses)
        await sending
        await self.slack.until(lambda: len(self.slack.responses) > before)
        assert self.slack.responses[-1]["response_type"] == "ephemeral"
        return {"channel": "C0ANYWHERE", "ts": "1.1", "blocks": [], **self.slack.responses[-1]}

    async def state(self, event: Any, wanted: str) -> Any:
        """The approval, once it is so."""
        async with asyncio.timeout(30):
            while True:
                with suppress(CountersignError):  # not known yet
                    view = await self.gateway.ask(GetApproval(approval_id=event.approval_id))
                    if view.state == wanted:
                        return view
                await asyncio.sleep(0.05)


async def test_an_approver_narrows_arguments_and_hears_at_the_field_what_is_allowed(office: Any) -> None:
    desk = await Room.of(office)
    event, message = await desk.hold()
    form = await desk.open(message, CHANGE)
    assert event.action.digest in json.dumps(form["view"]["blocks"])
    assert "less than 7" in json.dumps(form["view"]["blocks"])
    (same,) = (await desk.fill(form)).values()
    assert "Nothing is changed" in same
    for given, field, why in (
        ({"change.thing_id": "9"}, "change.thing_id", "less than 7 and at least 0"),
        ({"change.thing_id": "few"}, "change.thing_id", "It takes a number"),
        ({"change.tags": '["b", "d"]'}, "change.tags", "some of its items, in their order"),
        ({"change.tags": ""}, "change.tags", "It takes a list"),
    ):
        errors = await desk.fill(form, **given)
        assert list(errors) == [field] and why in errors[field], errors
    await desk.state(event, "pending")
    narrower = {"change.thing_id": "5", "change.tags": '["<a>", "c"]', "change.note": ["remove"]}
    assert await desk.fill(form, "less of it", **narrower) == {}
    view = await desk.state(event, "amended")
    (vote,) = view.votes
    assert vote.changes == {"thing_id": 5, "tags": ["<a>", "c"], "note": None}
    assert (vote.voter, vote.channel, vote.comment) == ("alice", "slack", "less of it")
    assert vote.digest == event.action.digest
    await desk.slack.until(lambda: "Approved with changes" in desk.slack.main(CHANNEL)[0]["text"])
    assert await desk.fill(form, "less of it", **narrower) == {}, "again is harmless"
    assert len((await desk.state(event, "amended")).votes) == 1


async def test_alike_actions_are_allowed_ahead_listed_and_revoked(office: Any) -> None:
    desk = await Room.of(office)
    event, message = await desk.hold()
    form = await desk.open(message, ALLOW)
    soon = int(now().timestamp()) + 3600
    for given, field, why in (
        ({}, "uses", "from 1 to 20"),
        ({"uses": "21"}, "uses", "from 1 to 20"),
        ({"uses": "2", "until": soon - 7200}, "until", "at most 8 h from now"),
        ({"uses": "2", "until": soon + 28_800}, "until", "at most 8 h from now"),
        ({"uses": "2", "resource": "others/*"}, "resource", "does not cover this action's resource, things/7"),
    ):
        errors = await desk.fill(form, **given)
        assert list(errors) == [field] and why in errors[field], errors
    await desk.state(event, "pending")
    assert await desk.fill(form, uses="2", resource="things/*") == {}
    await desk.state(event, "approved")
    alike = await desk.ask(8)
    assert (await desk.state(alike, "approved")).votes[0].channel == "standing"

    # who may look sees it; who may revoke has the button, and says why
    assert buttons(await desk.type("standing", "U0RITA")) == []
    shown = await desk.type("standing")
    assert "`things/*`" in json.dumps(shown) and "used 1 of 2 times" in json.dumps(shown)
    assert "linked to nobody" in (await desk.type("standing", "U0NOBODY"))["text"]
    for user, why in (("U0RITA", "it takes admin, operator, approver"), ("U0NOBODY", "linked to nobody")):
        refused = await desk.answered(desk.slack.send(desk.slack.press(shown, REVOKE, user)))
        assert "Nothing was revoked" in refused["text"] and why in refused["text"]
    form = await desk.open(shown, REVOKE)
    refused = await desk.answered(desk.fill(form, user="U0RITA", reason="mine"))
    assert "it takes admin, operator, approver" in refused["text"], "who sends the form is looked up again"
    assert list(await desk.fill(form, reason=" ")) == ["reason"]
    told = await desk.answered(desk.fill(form, reason="the campaign is over"))
    assert "is revoked by `alice`, used 1 of 2 times" in told["text"]
    assert (await desk.gateway.ask(ListStandings())).items == ()
    assert (await desk.type("standing"))["text"] == "Nothing is approved ahead."
    later, _ = await desk.hold(9)
    await desk.state(later, "pending")
    assert {each["code"] for each in await office.refusals(2)} == {"not_enrolled", "role"}
    with pytest.raises(CountersignError, match="no standing approval"):
        await desk.gateway.ask(RevokeStanding(standing_id="std_none", by="alice", reason="x"))


async def test_several_alike_are_decided_in_one_step_each_by_its_own_vote(office: Any) -> None:
    desk = await Room.of(office)
    events = [(await desk.hold(thing))[0] for thing in (1, 2, 3, 4)]
    alone, _ = await desk.hold(5, tool="erase_thing")
    large, _ = await desk.hold(6, args={"note": "x" * 2000})
    listed = await desk.type("pending")
    assert fault_of("chat.postEphemeral", listed) is None
    assert all(event.approval_id in listed["text"] for event in (*events, alone, large))
    group = next(b for b in buttons(listed) if b["text"]["text"] == "Decide on 5…")
    assert "erase_thing" in json.dumps(listed["blocks"]) and len(buttons(listed)) == 2
    refused = await desk.answered(desk.slack.send(desk.slack.press(listed, DECIDE, "U0NOBODY")))
    assert "linked to nobody" in refused["text"]
    press = desk.slack.press(listed, DECIDE, "U0ALICE")
    press["actions"][0] |= group
    foreign = json.loads(json.dumps(press))
    foreign["team"]["id"] = "T0OTHER"
    await desk.slack.send(foreign)
    await office.refusals(2)
    assert desk.slack.modals == []

    await desk.slack.send(press)
    await desk.slack.until(lambda: desk.slack.modals)
    form = desk.slack.modals[-1]
    shown = json.dumps(form["view"])
    assert "1 more cannot be shown whole" in shown
    assert all(event.action.digest in json.dumps(form["view"]["blocks"]) for event in events)
    assert large.action.digest not in shown, "what is not shown whole is not decided among others"
    first = [event.approval_id for event in reversed(events)]  # the newest first, as listed
    assert set(await desk.fill(form)) == {"which", "vote"}
    assert list(await desk.fill(form, which=["1"], vote="reject")) == ["comment"]

    # one of them ended meanwhile: it stops none of the others
    await desk.fill(await desk.open(desk.message(first[1]), ALLOW), uses="1")
    told = await desk.answered(desk.fill(form, "both were done before", which=["1", "2", "4"], vote="reject"))
    lines = told["text"].split("\n")
    assert [first[at] in line for at, line in zip((0, 1, 3), lines, strict=True)] == [True] * 3
    assert "rejected" in lines[0] and "Not counted" in lines[1] and "is approved already" in lines[1]
    assert "rejected" in lines[2]
    by_id = {event.approval_id: event for event in events}
    for name in (first[0], first[3]):
        (vote,) = (await desk.state(by_id[name], "rejected")).votes
        assert (vote.digest, vote.comment) == (by_id[name].action.digest, "both were done before")
    await desk.state(by_id[first[2]], "pending")
    await desk.state(alone, "pending")


async def test_a_vote_that_nobody_confirmed_keeps_the_form_open_and_answers_find_another_way(office: Any) -> None:
    desk = await office.desk()
    await office.person("alice", "U0ALICE")
    await office.service()
    asked_by = AskedBy(changes={"thing_id": "lower"}, standing=StandingLimits(max_uses=2, max_s=60))
    view = await desk.ask(held(), asked_by=asked_by, resource="things/7")
    (message,) = await office.slack.until(lambda: office.slack.main(CHANNEL))
    scene = Room(office, None)
    form = await scene.open(message, CHANGE)
    desk.refusal = CountersignError("the action is made on behalf of alice", code="not_entitled")
    assert await scene.fill(form, **{"change.thing_id": "3"}) == {}
    await office.slack.until(lambda: office.slack.ephemeral)
    assert "Somebody else must decide" in office.slack.ephemeral[0]["text"]
    listed = await scene.type("pending")
    several = await scene.open(listed, DECIDE)
    # Slack's address for answers has expired: it is said in the channel
    private = json.loads(several["view"]["private_metadata"])
    several["view"]["private_metadata"] = json.dumps(private | {"url": office.slack.url})
    assert await scene.fill(several, which=["1"], vote="approve") == {}
    await office.slack.until(lambda: len(office.slack.ephemeral) == 2)
    assert view.approval_id in office.slack.ephemeral[1]["text"]
    await desk.bus.connection.close()
    errors = await scene.fill(form, **{"change.thing_id": "3"})
    assert "Nothing was counted" in errors["comment"] and desk.votes == []
    for broken in ({"callback_id": form["view"]["callback_id"]}, {"callback_id": several["view"]["callback_id"]}):
        ours = {"view": {**form["view"], **broken, "private_metadata": '{"approval": 1}'}}
        assert "none of ours" in str(await scene.fill(ours))
