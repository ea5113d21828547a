"""Webhooks, pure: signatures with the specification's vector, pauses, what is posted, what is refused at apply."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_approvals.declarations import plan_change
from countersign_approvals.webhooks_body import body_of, is_for
from countersign_approvals.webhooks_schedule import GIVE_UP_AFTER, Answer, after
from countersign_approvals.webhooks_secrets import WebhookSecrets
from countersign_approvals.webhooks_signing import NoSigningKey, keys_in, message_id, signed_headers
from countersign_contracts.actions import ActionRef
from countersign_contracts.alerts import AlertRaised
from countersign_contracts.approval_rules import Webhook
from countersign_contracts.approvals import (
    Amendment,
    ApprovalResolved,
    ApprovalVoted,
    StandingOffer,
    Vote,
)
from countersign_contracts.catalogue import Document
from countersign_contracts.ids import new_id
from countersign_harness.alerts import an_alert

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
#: The vector that the specification's own libraries are tested with.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # published
DIGEST = "sha256:" + "0" * 64


def test_a_signature_is_that_of_the_specification() -> None:
    headers = signed_headers(keys_in(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@given(key=st.binary(min_size=24, max_size=64), body=st.binary(), timestamp=st.integers(0, 2**40))
def test_a_second_implementation_verifies_it(key: bytes, body: bytes, timestamp: int) -> None:
    text = "whsec_" + base64.b64encode(key).decode()
    headers = signed_headers(keys_in(f"{text}\n{SECRET}\n"), "evt_1", timestamp, body)
    mac = hmac.new(key, f"evt_1.{timestamp}.".encode() + body, hashlib.sha256).digest()
    first, second = headers["webhook-signature"].split(" ")
    assert first == "v1," + base64.b64encode(mac).decode() and second.startswith("v1,")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("secret", "line 1 does not begin with `whsec_`"),
        (SECRET + "\nwhsec_%%%", "line 2 has no base64"),
        ("whsec_" + base64.b64encode(b"k" * 23).decode(), "23 bytes; 24 to 64"),
        ("whsec_" + base64.b64encode(b"k" * 65).decode(), "65 bytes; 24 to 64"),
    ],
)
def test_what_is_no_secret_is_refused_and_not_shown(text: str, says: str) -> None:
    with pytest.raises(NoSigningKey) as error:
        keys_in(text)
    assert says in str(error.value)
    assert not text.strip() or text.strip().removeprefix("whsec_") not in str(error.value)


def test_a_message_id_is_always_the_same_and_has_no_full_stop() -> None:
    ids = {message_id(f"apr_1.voted.{name}") for name in ("a.b", "a", "b")}
    assert len(ids) == 3 and not any("." in one for one in ids)
    assert message_id("apr_1.requested") == message_id("apr_1.requested")


def test_secrets_are_files_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "hook").write_text(SECRET + "\n")
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "bad").write_text("hunter2hunter2")
    secrets = WebhookSecrets(tmp_path)
    assert secrets.names() == ("bad", "hook") and secrets.fault("hook") is None
    assert "hunter2" not in str(secrets.fault("bad")) and "does not begin" in str(secrets.fault("bad"))
    for name in ("none", "../hook", "/etc/passwd", ".hidden"):
        assert "has no secret" in str(secrets.fault(name))
    assert WebhookSecrets(None).names() == () == WebhookSecrets(tmp_path / "away").names()


# --- pauses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (Answer(status=200), "delivered"),
        (Answer(status=204), "delivered"),
        (Answer(status=301, error="x"), "pending"),
        (Answer(status=400, error="x"), "pending"),
        (Answer(status=404, error="x"), "pending"),
        (Answer(status=410, error="x"), "given_up"),
        (Answer(status=429, error="x"), "pending"),
        (Answer(status=500, error="x"), "pending"),
        (Answer(error="cannot connect"), "pending"),
    ],
)
def test_what_follows_an_answer(answer: Answer, state: str) -> None:
    verdict = after(answer, 1, AT, AT + GIVE_UP_AFTER, 1.0)
    assert verdict.state == state and (verdict.next_at is not None) is (state == "pending")


def test_the_pauses_grow_to_three_hours_and_end_after_a_day() -> None:
    for chance in (0.0, 1.0):
        at = AT
        pauses: list[float] = []
        while (verdict := after(Answer(status=500), len(pauses) + 1, at, AT + GIVE_UP_AFTER, chance)).next_at:
            pauses.append((verdict.next_at - at).total_seconds())
            at = verdict.next_at
        assert verdict.state == "given_up"
        assert pauses[:3] == [5 * (1 + chance) / 2, 10 * (1 + chance) / 2, 20 * (1 + chance) / 2]
        assert max(pauses) == 10_800 * (1 + chance) / 2 and 15 <= len(pauses) <= 28
        assert timedelta(hours=20) < at - AT < timedelta(hours=24)


@given(tries=st.integers(1, 10**9), chance=st.floats(0, 1), asked=st.none() | st.floats(0, 1e7))
def test_a_pause_is_never_longer_than_six_hours(tries: int, chance: float, asked: float | None) -> None:
    verdict = after(Answer(status=429, retry_after_s=asked), tries, AT, AT + GIVE_UP_AFTER, chance)
    assert verdict.next_at is not None
    pause = verdict.next_at - AT
    assert timedelta(seconds=2) < pause <= timedelta(hours=6)
    assert asked is None or pause >= min(timedelta(seconds=asked), timedelta(hours=6))


# --- what is posted -----------------------------------------------------------------------------------


def ref() -> ActionRef:
    return ActionRef(request_id=new_id(), agent_id="a", env="prod", tool="pay", tool_version=1, digest=DIGEST)


def test_no_argument_leaves_however_deep_it_stands() -> None:
    given: dict[str, Any] = {"voter": "ann", "vote": "approve", "digest": DIGEST, "channel": "cli", "voted_at": AT}
    offer = StandingOffer(resource="accounts/SECRET", until=AT, max_uses=3)
    vote = Vote(**given, comment="fine", changes={"amount": "SECRET"}, standing=offer)
    amendment = Amendment(request_id=new_id(), args={"amount": {"deep": ["SECRET"]}}, digest=DIGEST, by="ann")
    resolved = ApprovalResolved(
        approval_id="apr_1", action=ref(), state="amended", votes=(vote,), resolved_at=AT, amendment=amendment
    )
    voted = ApprovalVoted(approval_id="apr_1", action=ref(), vote=vote)
    for event in (resolved, voted):
        body = body_of(event, event.event_id(), "2026-01-31T12:00:00.000000Z")
        assert b"SECRET" not in body
        shown = json.loads(body)
        assert shown["type"] == f"approvals.{event.spec.name}" and shown["id"] == event.event_id()
        assert shown["timestamp"] == "2026-01-31T12:00:00.000000Z"
        assert shown["data"]["action"]["tool"] == "pay" and shown["data"]["approval_id"] == "apr_1"
    data = json.loads(body_of(resolved, "i", "t"))["data"]
    assert data["amendment"] == {"request_id": amendment.request_id, "digest": DIGEST, "by": "ann"}
    assert data["votes"][0]["comment"] == "fine" and data["votes"][0]["standing"]["max_uses"] == 3


# --- what is refused at apply -------------------------------------------------------------------------


HOOK = """kind: webhook
name: ops
url: https://hooks.example.com/countersign
events: [requested, resolved]
secret: hook
"""


def errors(text: str, folder: Path) -> list[Any]:
    (folder / "hook").write_text(SECRET)
    documents = [Document(path="webhooks.yaml", text=text)]
    return list(plan_change(documents, (), 0, {}, WebhookSecrets(folder)).plan.errors)


@pytest.mark.parametrize(
    ("before", "after_", "line", "message"),
    [
        ("secret: hook", "secret: other", 5, "has no secret `other`"),
        ("https://hooks.example.com", "http://hooks.example.com", 3, "without https anybody on the way reads it"),
        ("https://hooks.example.com", "ftp://hooks.example.com", 3, "posted to a host over https"),
        ("https://hooks.example.com", "https://", 3, "posted to a host over https"),
        ("https://hooks.example.com", "https://me:pw@hooks.example.com", 3, "credentials do not belong"),
        ("https://hooks.example.com", "https://hooks.example.com:x", 3, "no URL"),
        ("/countersign", "/countersign#part", 3, "never sent"),
        ("/countersign", "/zürich", 3, "printable ASCII"),
        ("hooks.example.com", "127.0.0.1", 3, "loopback or private address"),
        ("hooks.example.com", "[::ffff:10.0.0.1]", 3, "loopback or private address"),
        ("hooks.example.com", "169.254.169.254", 3, "metadata address"),
        ("events: [requested", "events: [requestd", 4, "not one of the allowed values"),
    ],
)
def test_what_is_wrong_with_a_webhook_is_said_with_its_line(
    before: str, after_: str, line: int, message: str, tmp_path: Path
) -> None:
    assert before in HOOK
    found = errors(HOOK.replace(before, after_), tmp_path)
    assert [(e.path, e.line) for e in found] == [("webhooks.yaml", line)], found
    assert message in found[0].message, found


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/x", "http://ops.internal/x", "https://10.1.2.3/x"])
def test_private_addresses_take_a_word(url: str, tmp_path: Path) -> None:
    text = HOOK.replace("https://hooks.example.com/countersign", url)
    assert errors(text + "allow_private: true\n", tmp_path) == []
    assert errors(text, tmp_path) != []


def test_http_leads_to_private_addresses_alone(tmp_path: Path) -> None:
    text = HOOK.replace("https://hooks.example.com", "http://93.184.216.34") + "allow_private: true\n"
    [error] = errors(text, tmp_path)
    assert "a public address" in error.message and error.line == 3


@pytest.mark.parametrize(
    ("routes", "events", "told"),
    [
        ((), ["alert_raised"], False),
        (("slack",), ["alert_raised"], False),
        (("webhook",), ["alert_raised"], True),
        (("webhook:ops",), ["alert_raised", "alert_resolved"], True),
        (("webhook:other",), ["alert_raised"], False),
        (("webhook",), ["alert_resolved"], False),
        (("webhook",), ["resolved"], False),
        (("webhook",), None, False),  # who names no events gets approvals alone
    ],
)
def test_alerts_go_where_the_rule_says_and_the_webhook_asks(
    routes: tuple[str, ...], events: list[str] | None, told: bool
) -> None:
    given: dict[str, Any] = {"name": "ops", "url": "https://hooks.example.com", "secret": "ops"}
    webhook = Webhook.model_validate(given | ({"events": events} if events else {}))
    event = AlertRaised(agent_id="worker-1", by="registry", at=AT, alert=an_alert(routes=routes))
    assert is_for(webhook, event) is told


def test_an_alert_rule_names_webhooks_that_there_are_and_that_take_alerts(tmp_path: Path) -> None:
    (tmp_path / "ops").write_text(SECRET)
    hook = "kind: webhook\nname: {}\nurl: https://hooks.example.com\nsecret: ops\nevents: [{}]\n---\n"
    rule = "kind: alert_rule\nname: down\nwhen: {phase: [failed]}\nroutes:\n  - webhook:"
    hooks = hook.format("ops", "alert_raised") + hook.format("deaf", "resolved")
    assert errors(f"{hooks}{rule}ops\n", tmp_path) == []
    [missing] = errors(f"{hooks}{rule}nowhere\n", tmp_path)
    assert (missing.line, missing.field) == (17, "routes.0")
    assert missing.message == "there is no webhook `nowhere`" and missing.allowed == "one of ops; or declare it"
    [deaf] = errors(f"{hooks}{rule}deaf\n", tmp_path)
    assert deaf.message == "webhook `deaf` asks for no alerts" and "alert_raised" in (deaf.allowed or "")
