"""From an approval's events to messages in Slack, on real servers: posted once, kept up to date, whatever happens."""

from __future__ import annotations

from typing import Any

from countersign_contracts.approval_commands import CastVote

CHANNEL = "C0APPROVALS"


async def test_a_held_action_is_asked_about_and_the_message_follows_the_event(office: Any) -> None:
    await office.stack.service("approvals")
    await office.service()
    event = await office.hold()
    await office.slack.until(lambda: office.slack.main(CHANNEL))
    (message,) = office.slack.main(CHANNEL)
    assert "Approval needed" in message["text"]
    gateway = await office.stack.bus("gateway")
    await gateway.ask(
        CastVote(
            approval_id=event.approval_id, voter="person:bob", vote="approve", digest=event.action.digest, channel="cli"
        )
    )
    await office.slack.until(lambda: "Approved" in office.slack.main(CHANNEL)[0]["text"])
    await office.slack.until(lambda: office.slack.thread(message))
