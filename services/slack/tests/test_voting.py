"""Buttons and the form: a vote for exactly what was shown, by who is linked; everybody else is told why not."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from countersign_contracts.errors import CountersignError
from countersign_harness.slack import TEAM
from countersign_slack.rendering import APPROVE, REJECT

from .conftest import CHANNEL, held


async def asked(office: Any, desk: Any, **more: Any) -> Any:
    """An approval and its message."""
    view = await desk.ask(held(), **more)
    found = await office.slack.until(
        lambda: [m for m in office.slack.main(CHANNEL) if view.approval_id in json.dumps(m)]
    )
    return view, found[0]


async def opened(office: Any) -> Any:
    """A desk, the service, person alice, and an approval with its message."""
    desk = await office.desk()
    await office.person("alice", "U0ALICE")
    await office.service()
    return desk, *await asked(office, desk)


async def pressed(office: Any, message: Any, button: str) -> Any:
    """The form that alice gets who presses the button."""
    await office.slack.send(office.slack.press(message, button, "U0ALICE"))
    await office.slack.until(lambda: office.slack.modals)
    return office.slack.modals[0]


async def told(office: Any, count: int = 1) -> str:
    """What one person alone was told last."""
    await office.slack.until(lambda: len(office.slack.ephemeral) >= count)
    return str(office.slack.ephemeral[count - 1]["text"])


async def test_a_vote_is_for_the_digest_shown_and_by_who_pressed_with_their_comment(office: Any) -> None:
    desk, view, message = await opened(office)
    modal = await pressed(office, message, APPROVE)
    assert view.action.digest in json.dumps(modal["view"]["blocks"]) and "closed" in json.dumps(modal["view"])
    await office.slack.send(office.slack.submit(modal, "U0ALICE", "looks right"))
    await office.slack.until(lambda: desk.votes)
    (vote,) = desk.votes
    assert (vote.voter, vote.channel, vote.vote) == (f"slack:{TEAM}/U0ALICE", "slack", "approve")
    assert (vote.digest, vote.comment) == (view.action.digest, "looks right")
    await office.slack.until(lambda: "Approved" in office.slack.main(CHANNEL)[0]["text"])


async def test_a_rejection_asks_for_the_reason(office: Any) -> None:
    desk, _, message = await opened(office)
    modal = await pressed(office, message, REJECT)
    (field,) = (b for b in modal["view"]["blocks"] if b["type"] == "input")
    assert field["optional"] is False
    await office.slack.send(office.slack.submit(modal, "U0ALICE", "not now"))
    await office.slack.until(lambda: "Rejected" in office.slack.main(CHANNEL)[0]["text"])
    assert desk.votes[0].vote == "reject"


async def test_any_replica_takes_any_payload_and_a_payload_twice_is_one_vote(office: Any) -> None:
    desk = await office.desk()
    await office.person("alice", "U0ALICE")
    await office.service(instance="slack-1")
    await office.service(instance="slack-2")
    await office.slack.until(lambda: office.slack.connections == 2)
    for first in (0, 1):
        _, message = await asked(office, desk)
        await office.slack.send(office.slack.press(message, APPROVE, "U0ALICE"), over=first)
        await office.slack.until(lambda first=first: len(office.slack.modals) > first)
        form = office.slack.submit(office.slack.modals[-1], "U0ALICE", None)
        await office.slack.send(form, times=2, over=1 - first)
        await office.slack.until(lambda first=first: len(desk.votes) > first)
    assert len(desk.votes) == 2


async def test_who_is_linked_to_nobody_is_told_how_and_it_is_on_record(office: Any) -> None:
    desk = await office.desk()
    await office.person("gone", "U0GONE", status="removed")
    await office.service()
    _, message = await asked(office, desk)
    office.slack.limits = {"chat.postEphemeral": 1}
    for count, user in enumerate(("U0NOBODY", "U0GONE"), 1):
        await office.slack.send(office.slack.press(message, APPROVE, user))
        assert "countersign people link-slack" in await told(office, count)
    assert desk.votes == [] and office.slack.modals == []
    assert [each["user"] for each in office.slack.ephemeral] == ["U0NOBODY", "U0GONE"]
    (first, *_) = await office.refusals()
    assert (first["code"], first["identity"], first["count"]) == ("not_enrolled", f"{TEAM}/U0NOBODY", 1)


@pytest.mark.parametrize("foreign", ["team", "user"])
async def test_a_payload_of_another_workspace_is_refused(office: Any, foreign: str) -> None:
    desk, _, message = await opened(office)
    payload = office.slack.press(message, APPROVE, "U0ALICE")
    if foreign == "team":
        payload["team"]["id"] = "T0OTHER"
    payload["user"]["team_id"] = "T0OTHER"
    await office.slack.send(payload)
    (refusal,) = await office.refusals()
    assert refusal["code"] == "workspace" and "T0OTHER" in refusal["reason"]
    assert desk.votes == [] and office.slack.modals == [] and office.slack.ephemeral == []


async def test_a_button_pressed_after_the_decision_is_refused_by_who_keeps_the_record(office: Any) -> None:
    desk, view, message = await opened(office)
    payload = office.slack.press(message, APPROVE, "U0ALICE")
    await desk.end(view.approval_id, "expired")
    await office.slack.send(payload)
    said = await told(office)
    assert "is expired already" in said and office.slack.modals == [] and desk.votes == []


async def test_a_button_of_an_older_message_does_not_approve_what_it_did_not_show(office: Any) -> None:
    desk, view, message = await opened(office)
    payload = office.slack.press(message, APPROVE, "U0ALICE")
    payload["actions"][0]["value"] = f"{view.approval_id} sha256:{'0' * 64}"
    await office.slack.send(payload)
    assert "another digest" in await told(office)
    assert office.slack.modals == [] and desk.votes == []
    payload["actions"][0]["value"] = "rubbish"
    await office.slack.send(payload)
    assert "none of ours" in await told(office, 2)


@pytest.mark.parametrize(
    ("refusal", "advice"),
    [
        (CountersignError("the action is made on behalf of alice", code="not_entitled"), "Somebody else must decide"),
        (CountersignError("nobody is that", code="not_enrolled"), "countersign people link-slack"),
        (CountersignError("`x` <!channel>", code="conflict"), "&lt;!channel&gt;"),
        (CountersignError("a code is needed", code="assurance"), "countersign approvals approve"),
    ],
)
async def test_a_refused_vote_says_why_and_what_to_do(office: Any, refusal: Any, advice: str) -> None:
    desk, _, message = await opened(office)
    modal = await pressed(office, message, APPROVE)
    desk.refusal = refusal
    await office.slack.send(office.slack.submit(modal, "U0ALICE", None))
    said = await told(office)
    assert advice in said and "<!" not in said and "Not counted" in said


async def test_a_vote_that_nobody_confirmed_says_so(office: Any) -> None:
    desk, _, message = await opened(office)
    modal = await pressed(office, message, APPROVE)
    await desk.bus.connection.close()
    await office.slack.send(office.slack.submit(modal, "U0ALICE", None))
    assert "not confirmed" in await told(office)


async def test_after_slack_ends_the_connection_payloads_come_over_another_one(office: Any) -> None:
    _, view, message = await opened(office)
    await office.slack.until(lambda: office.slack.connections == 1 and office.slack.pings)
    await office.slack.ask_to_reconnect()
    await office.slack.until(lambda: office.slack.hellos == 2 and office.slack.connections == 1)
    assert view.action.digest in json.dumps(await pressed(office, message, APPROVE))


async def test_many_refusals_of_a_kind_are_few_entries_with_their_count(office: Any) -> None:
    desk = await office.desk()
    await office.service(slack_refusals_s=1.5)
    _, message = await asked(office, desk)
    await asyncio.gather(*(office.slack.send(office.slack.press(message, APPROVE, f"U0N{n}")) for n in range(20)))
    await office.slack.until(lambda: len(office.slack.ephemeral) == 20)
    found = await office.refusals(2)
    assert sum(each["count"] for each in found) == 20 and len(found) <= 3
    assert found[0]["count"] == 1 and found[-1].get("identity") is None
