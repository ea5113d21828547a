"""Alerts in Slack: one message in the team's channel, which follows what happens to the alert."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_contracts.alerts import (
    Acknowledgement,
    Alert,
    AlertAcknowledged,
    AlertEvent,
    AlertRaised,
    AlertResolved,
)
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now
from countersign_slack.alert_message import alert_message, channel_of

from .conftest import CHANNEL, SECURITY


def alert(**more: Any) -> Alert:
    given = {
        "alert_id": prefixed("alt"),
        "rule": "down",
        "rule_version": 1,
        "severity": "critical",
        "agent_id": "worker-1",
        "owner_team": "ops",
        "summary": "it is failed",
        "since": now(),
        "raised_at": now(),
        "state": "open",
        "routes": ("slack",),
        "revision": 1,
    } | more
    return Alert.model_validate(given)


def told(kind: type[AlertEvent], about: Alert, by: str = "registry") -> AlertEvent:
    return kind(agent_id=about.agent_id, event=about.alert_id, by=by, at=now(), alert=about)


def acknowledged(about: Alert, comment: str = "on it <!channel>") -> Alert:
    seen = Acknowledgement(by="alice", at=now(), comment=comment)
    return about.model_copy(update={"state": "acknowledged", "acknowledged": seen, "revision": 2})


def resolved(about: Alert, revision: int = 3) -> Alert:
    return about.model_copy(
        update={"state": "resolved", "resolved_at": now(), "resolution": "over", "revision": revision}
    )


@given(st.text(max_size=2000), st.text(min_size=1, max_size=128), st.text(max_size=2000))
def test_text_of_others_stays_text_and_fits(description: str, team: str, comment: str) -> None:
    hostile = resolved(acknowledged(alert(description=description, owner_team=team), comment))
    shown = alert_message(hostile)
    for block in shown["blocks"]:
        for text in [block.get("text"), *block.get("fields", []), *block.get("elements", [])]:
            assert text is None or len(text["text"]) <= (150 if text["type"] == "plain_text" else 3000)
    # `<!date` is ours; every other `<` was escaped
    assert json.dumps(shown).count("<") == json.dumps(shown).count("<!date^")


@pytest.mark.parametrize(("team", "channel"), [("security", SECURITY), ("ops", CHANNEL), ("default", CHANNEL)])
def test_it_is_told_in_the_team_s_channel(team: str, channel: str) -> None:
    assert channel_of(alert(owner_team=team), {"default": CHANNEL, "security": SECURITY}) == channel


async def test_a_message_follows_its_alert_and_late_events_change_nothing(office: Any) -> None:
    await office.service()
    registry = await office.stack.bus("registry")
    mine, elsewhere, quiet = alert(), alert(owner_team="security"), alert(routes=("webhook",), agent_id="quiet")
    for each in (quiet, mine, elsewhere):
        await registry.publish(told(AlertRaised, each))
    await office.slack.until(lambda: office.slack.main(CHANNEL) and office.slack.main(SECURITY))
    (message,) = office.slack.main(CHANNEL)
    assert message["text"] == ":rotating_light: Alert: down of worker-1"
    assert f"countersign alerts ack {mine.alert_id}" in json.dumps(message)
    seen = acknowledged(mine)
    await registry.publish(told(AlertAcknowledged, seen, "alice"))
    await office.slack.until(lambda: "acknowledged" in office.slack.main(CHANNEL)[0]["text"])
    await registry.publish(told(AlertResolved, resolved(seen)))
    await office.slack.until(lambda: "Resolved" in office.slack.main(CHANNEL)[0]["text"])
    # the raising comes again, and late: of one that is over by now, nobody is told
    over = resolved(alert(agent_id="over"), 2)
    await registry.publish(told(AlertResolved, over))
    await registry.publish(told(AlertRaised, over.model_copy(update={"state": "open", "revision": 1})))
    last = alert(agent_id="last")
    await registry.publish(told(AlertRaised, last))
    await office.slack.until(lambda: len(office.slack.main(CHANNEL)) == 2)
    await office.slack.until(lambda: len(office.slack.thread(office.slack.main(CHANNEL)[0])) == 2)
    first, newest = office.slack.main(CHANNEL)
    assert ("Resolved: down of worker-1" in first["text"]) and newest["text"].endswith("last")
    noted = office.slack.thread(first)
    assert noted == [":eyes: Acknowledged by `alice`: `on it &lt;!channel&gt;`", ":white_check_mark: Resolved: `over`"]
    assert len(office.slack.main(SECURITY)) == 1
