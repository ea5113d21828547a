"""People over HTTP: who one is, groups, Slack, one-time codes; for oneself, and for an admin."""

from __future__ import annotations

import hmac
from base64 import b32decode
from datetime import datetime
from typing import Any

from countersign_contracts.model import now
from countersign_contracts.people_commands import ConfirmEnrolment
from countersign_harness.world import World


async def refused(
    world: World, status: int, code: str, says: str, method: str, path: str, body: Any = None, **k: Any
) -> None:
    got, problem, _ = await world.request(method, f"/api/v1{path}", body, **k)
    assert (got, problem["type"]) == (status, f"urn:countersign:problem:{code}"), problem
    assert says in problem["detail"], problem


def code(secret: str, away: int = 0) -> str:
    """What an authenticator app shows (RFC 6238), some steps away."""
    step = int(now().timestamp()) // 30 + away
    mac = hmac.digest(b32decode(secret), step.to_bytes(8, "big"), "sha1")
    start = mac[-1] & 15
    return f"{(int.from_bytes(mac[start : start + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06}"


async def test_one_says_who_one_is_and_an_admin_sets_groups(door: World) -> None:
    me = await door.ok("GET", "/api/v1/me", as_="alice")
    assert me == {
        "name": "alice",
        "roles": ["approver"],
        "permissions": ["read", "revoke", "vote"],
        "groups": ["security"],
        "channels": [],
        "totp": False,
    }
    view = await door.ok("PUT", "/api/v1/people/alice/groups", {"groups": ["Payments Team", "b"]})
    assert view["groups"] == ["Payments Team", "b"]
    assert (await door.ok("GET", "/api/v1/me", as_="alice"))["groups"] == ["Payments Team", "b"]

    await door.add_person("alice", "approver")
    assert (await door.ok("GET", "/api/v1/me", as_="alice"))["groups"] == ["Payments Team", "b"]
    listed = await door.ok("GET", "/api/v1/people")
    assert {p["name"]: p["groups"] for p in listed["items"]} == {"admin": [], "alice": ["Payments Team", "b"]}

    await refused(door, 403, "forbidden", "person's token", "GET", "/me", as_="bot")
    await refused(door, 403, "forbidden", "takes admin", "PUT", "/people/alice/groups", {"groups": []}, as_="alice")
    await refused(door, 404, "not_found", "no person `zoe`", "PUT", "/people/zoe/groups", {"groups": []})
    await refused(door, 422, "invalid", "groups", "PUT", "/people/alice/groups", {"groups": ["a\nb"]})
    await refused(door, 422, "invalid", "groups", "PUT", "/people/alice/groups", {"groups": ["g"] * 65})


async def test_slack_is_linked_by_oneself_and_unlinked_by_oneself_or_an_admin(door: World) -> None:
    slack = await door.stack.bus("slack")

    async def linked(user: str) -> None:
        issued = await door.ok("POST", "/api/v1/me/channels/slack", as_="alice")
        assert 590 < (datetime.fromisoformat(issued["expires_at"]) - now()).total_seconds() <= 600
        await slack.ask(ConfirmEnrolment(channel="slack", identity=f"T1/{user}", code=issued["code"]))

    for user in ("U1", "U2"):
        await linked(user)
    path = "/people/alice/channels/slack/T1"
    for user, who in (("U1", "alice"), ("U2", "admin"), ("U2", "admin")):
        view = await door.ok("DELETE", f"/api/v1{path}/{user}", as_=who)
    assert view["channels"] == [] and (await door.ok("GET", "/api/v1/me", as_="alice"))["channels"] == []
    await door.add_person("ben", "approver")
    await refused(door, 403, "forbidden", "takes admin", "DELETE", f"{path}/U1", as_="ben")
    await refused(door, 403, "forbidden", "person's token", "DELETE", f"{path}/U1", as_="bot")
    await refused(door, 403, "forbidden", "person's token", "POST", "/me/channels/slack", as_="bot")
    await refused(door, 422, "invalid", "user", "DELETE", f"{path}/u%201")
    await refused(door, 404, "not_found", "no person `zoe`", "DELETE", "/people/zoe/channels/slack/T1/U1")


async def test_one_time_codes_are_set_up_by_oneself_and_removed_with_a_code_or_by_an_admin(door: World) -> None:
    new = await door.ok("POST", "/api/v1/me/totp", {}, as_="alice")
    assert new["uri"].startswith("otpauth://totp/Countersign:alice?secret=" + new["secret"])
    await refused(door, 422, "invalid", "code", "POST", "/me/totp/confirm", {"code": "12345"}, as_="alice")
    view = await door.ok("POST", "/api/v1/me/totp/confirm", {"code": code(new["secret"], -1)}, as_="alice")
    assert view["totp"] and (await door.ok("GET", "/api/v1/me", as_="alice"))["totp"]

    await refused(door, 403, "wrong_code", "give a code of it", "POST", "/me/totp", {}, as_="alice")
    await refused(door, 403, "wrong_code", "give a code of it", "DELETE", "/people/alice/totp", as_="alice")
    newer = await door.ok("POST", "/api/v1/me/totp", {"code": code(new["secret"])}, as_="alice")
    await door.ok("POST", "/api/v1/me/totp/confirm", {"code": code(newer["secret"])}, as_="alice")
    headers = {"X-One-Time-Code": code(newer["secret"], 1)}
    status, view, _ = await door.request("DELETE", "/api/v1/people/alice/totp", as_="alice", headers=headers)
    assert (status, view["totp"]) == (200, False)

    again = await door.ok("POST", "/api/v1/me/totp", {}, as_="alice")
    await door.ok("POST", "/api/v1/me/totp/confirm", {"code": code(again["secret"])}, as_="alice")
    wrong = {"code": "000000" if code(again["secret"]) != "000000" else "000001"}
    for _ in range(5):
        await refused(door, 403, "wrong_code", "the one-time code", "POST", "/me/totp", wrong, as_="alice")
    status, problem, sent = await door.request("POST", "/api/v1/me/totp", wrong, as_="alice")
    assert (status, problem["type"]) == (429, "urn:countersign:problem:locked_out")
    assert 890 < int(sent["Retry-After"]) <= 900 and problem["until"]
    assert not (await door.ok("DELETE", "/api/v1/people/alice/totp"))["totp"]
    await refused(door, 403, "forbidden", "person's token", "POST", "/me/totp", {}, as_="bot")
