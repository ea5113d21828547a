"""Signed HTTP, passed on by the gateway: Slack's signature is checked over the bytes as they came."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from slack_sdk.signature import SignatureVerifier

from countersign_contracts.control import ChannelRefused
from countersign_contracts.slack_commands import HandleSlackRequest, SlackAnswer
from countersign_harness.slack import SIGNING_SECRET, sign, signed_form
from countersign_slack.over_http import is_stale
from countersign_slack.rendering import APPROVE
from countersign_slack.several_form import DECIDE

from .conftest import CHANNEL, held

# The worked example of Slack's documentation, "Verifying requests from Slack".
VECTOR_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
VECTOR_TIMESTAMP = "1531420618"
VECTOR_BODY = (
    "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    "&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    "&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    "&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
VECTOR_SIGNATURE = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"


def test_slack_s_documented_vector_verifies_and_ours_are_made_as_it_is() -> None:
    assert sign(VECTOR_SECRET, VECTOR_TIMESTAMP, VECTOR_BODY) == VECTOR_SIGNATURE

    class Then:
        def now(self) -> float:
            return float(VECTOR_TIMESTAMP)

    verifier = SignatureVerifier(VECTOR_SECRET, clock=Then())
    assert verifier.is_valid(VECTOR_BODY, VECTOR_TIMESTAMP, VECTOR_SIGNATURE)
    assert not verifier.is_valid(VECTOR_BODY + "&", VECTOR_TIMESTAMP, VECTOR_SIGNATURE)


@pytest.mark.parametrize(
    ("timestamp", "stale"), [("1000", False), ("701", False), ("699", True), ("1301", True), ("", True), ("x", True)]
)
def test_a_request_is_fresh_for_five_minutes(timestamp: str, stale: bool) -> None:
    assert is_stale(timestamp, 1000) is stale


def typed(command: dict[str, Any]) -> Any:
    """Body and headers of a slash command over HTTP."""
    body, timestamp = urlencode(command), str(int(time.time()))
    signature = sign(SIGNING_SECRET, timestamp, body)
    headers = {"content-type": "application/x-www-form-urlencoded", "x-slack-request-timestamp": timestamp}
    return body, headers | {"x-slack-signature": signature}


async def passed_on(office: Any, body: str, headers: dict[str, str]) -> SlackAnswer:
    gateway = await office.stack.bus("gateway")
    answer: SlackAnswer = await gateway.ask(HandleSlackRequest(headers=headers, body=body))
    return answer


async def test_the_documented_vector_is_stale_today_and_refused_as_such(office: Any) -> None:
    await office.service(http=True)
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "x-slack-request-timestamp": VECTOR_TIMESTAMP,
        "x-slack-signature": VECTOR_SIGNATURE,
    }
    assert (await passed_on(office, VECTOR_BODY, headers)).status == 401
    (refusal,) = await office.refusals()
    assert ChannelRefused(**refusal).code == "stale"


async def test_buttons_forms_and_commands_work_as_over_socket_mode(office: Any) -> None:
    desk = await office.desk()
    await office.person("alice", "U0ALICE")
    await office.service(http=True)
    view = await desk.ask(held())
    (message,) = await office.slack.until(lambda: office.slack.main(CHANNEL))
    assert office.slack.connections == 0
    answer = await passed_on(office, *signed_form(office.slack.press(message, APPROVE, "U0ALICE")))
    assert answer.status == 200
    await office.slack.until(lambda: office.slack.modals)
    form = signed_form(office.slack.submit(office.slack.modals[0], "U0ALICE", "yes"))
    for _ in range(2):  # Slack repeats what was not answered in time
        assert (await passed_on(office, *form)).status == 200
    await office.slack.until(lambda: desk.votes)
    assert [vote.digest for vote in desk.votes] == [view.action.digest]


async def test_what_is_wrong_with_a_form_is_answered_at_its_field_and_the_largest_form_comes_back(office: Any) -> None:
    """Slack sends the whole form back, percent-encoded."""
    desk = await office.desk()
    await office.person("alice", "U0ALICE")
    await office.service(http=True)
    views = [await desk.ask(held(args={"note": "\u202e" * 150}), preview="\u202e" * 400) for _ in range(10)]
    await office.slack.until(lambda: len(office.slack.main(CHANNEL)) == len(views))
    assert (await passed_on(office, *typed(office.slack.command("pending", "U0ALICE")))).status == 200
    (listed,) = await office.slack.until(lambda: office.slack.responses)
    press = office.slack.press({"channel": "D0ALICE", "ts": "1.1", **listed}, DECIDE, "U0ALICE")
    assert (await passed_on(office, *signed_form(press))).status == 200
    (form,) = await office.slack.until(lambda: office.slack.modals)
    body, headers = signed_form(office.slack.submit(form, "U0ALICE", None, which=["1"], vote="reject"))
    answer = await passed_on(office, body, headers)
    assert len(body) > 20_000 and answer.content_type.startswith("application/json"), len(body)
    assert list(json.loads(answer.body)["errors"]) == ["comment"] and desk.votes == []


@pytest.mark.parametrize("forgery", ["secret", "body", "signature", "none", "stale"])
async def test_a_forged_or_stale_request_does_nothing_and_is_on_record(office: Any, forgery: str) -> None:
    desk = await office.desk()
    await office.person("alice", "U0ALICE")
    await office.service(http=True)
    await desk.ask(held())
    (message,) = await office.slack.until(lambda: office.slack.main(CHANNEL))
    payload = office.slack.press(message, APPROVE, "U0ALICE")
    secret = "another" if forgery == "secret" else SIGNING_SECRET
    body, headers = signed_form(payload, secret=secret, at=time.time() - (400 if forgery == "stale" else 0))
    body += "&x=1" if forgery == "body" else ""
    headers["x-slack-signature"] = "v0=00" if forgery == "signature" else headers["x-slack-signature"]
    if forgery == "none":
        del headers["x-slack-signature"]
    assert (await passed_on(office, body, headers)).status == 401
    (refusal,) = await office.refusals()
    assert refusal["code"] == ("stale" if forgery == "stale" else "signature")
    assert office.slack.modals == [] and desk.votes == []


@pytest.mark.parametrize("body", ["payload=%7B", "payload=[1]", "payload=", "a", "payload=%7B%7D", "\0"])
async def test_whatever_is_signed_and_no_payload_is_answered(office: Any, body: str) -> None:
    await office.service(http=True)
    timestamp = str(int(time.time()))
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "x-slack-request-timestamp": timestamp,
        "x-slack-signature": sign(SIGNING_SECRET, timestamp, body),
    }
    assert (await passed_on(office, body, headers)).status in (200, 400, 404)


async def test_the_gateway_passes_it_on_and_says_where_there_is_no_slack(world: Any) -> None:
    url = f"{world.url}/slack/events"
    challenge = json.dumps({"type": "url_verification", "challenge": "c4"})
    timestamp = str(int(time.time()))
    headers = {
        "content-type": "application/json",
        "x-slack-request-timestamp": timestamp,
        "x-slack-signature": sign(SIGNING_SECRET, timestamp, challenge),
    }
    async with aiohttp.ClientSession() as http:
        async with http.post(url, data=challenge, headers=headers) as absent:
            assert absent.status == 503 and (await absent.json(content_type=None))["type"].endswith("unavailable")
        from .conftest import write_tokens

        write_tokens(world.stack.layout.slack, http=True)
        await world.stack.service("slack", slack_api_url="http://127.0.0.1:9/api/")
        async with http.post(url, data=challenge, headers=headers) as answered:
            assert answered.status == 200 and (await answered.json())["challenge"] == "c4"
        async with http.post(url, data=challenge + " ", headers=headers) as forged:
            assert forged.status == 401
        async with http.post(url, data=b"\xff", headers=headers) as unreadable:
            assert unreadable.status == 400
        async with http.post(url, data=b"x" * 600_000, headers=headers) as large:
            assert large.status == 413
