"""One agent over HTTP: read with its ETag, put in whole, deleted; and each refusal with its status."""

from __future__ import annotations

from typing import Any

from countersign_harness.world import World

BOT = "/api/v1/agents/bot"
BODY: dict[str, Any] = {
    "name": "Bot",
    "owner": {"team": "t"},
    "profile": "p",
    "environments": ["dev"],
    "heartbeat_s": 30,
}


async def answered(
    world: World, method: str, path: str, body: Any = None, as_: str = "admin", match: str | None = None
) -> tuple[int, str]:
    """Status, and the problem's code if it is one."""
    headers = {"If-Match": match} if match else {}
    status, answer, _ = await world.request(method, path, body, as_=as_, headers=headers)
    return status, answer["type"].rsplit(":", 1)[1] if status >= 400 else ""


async def test_an_agent_is_put_in_whole_once_and_deleted(door: World) -> None:
    _, _, headers = await door.request("GET", BOT)
    tag = headers["Etag"]
    status, view, headers = await door.request("PUT", BOT, BODY | {"name": "Robot"}, headers={"If-Match": tag})
    assert (status, view["agent"]["name"]) == (200, "Robot") and headers["Etag"] != tag
    assert await answered(door, "PUT", BOT, BODY | {"name": "Robot"}, match=tag) == (200, "")
    refused: list[tuple[Any, ...]] = [
        (400, "malformed", "PUT", BOT, BODY, "admin", "W/7"),
        (401, "unauthenticated", "PUT", BOT, BODY, "", None),
        (403, "forbidden", "PUT", BOT, BODY, "alice", None),
        (403, "forbidden", "DELETE", BOT, None, "bot", None),
        (404, "not_found", "PUT", f"{BOT}-2", BODY, "admin", None),
        (404, "not_found", "DELETE", f"{BOT}-2", None, "admin", None),
        (409, "stale", "PUT", BOT, BODY | {"name": "Third"}, "admin", tag),
        (422, "invalid", "PUT", BOT, BODY | {"environments": []}, "admin", None),
        (422, "invalid", "PUT", BOT, {"name": "Robot"}, "admin", None),
    ]
    for status, code, method, path, body, as_, match in refused:
        assert await answered(door, method, path, body, as_, match) == (status, code), (method, path, match)
    # an action that never ends: nothing decides here
    bot = {"tool": "t", "args": {}, "env": "dev"}
    gateway = door.services["gateway"]
    status, accepted, _ = await door.request("POST", "/api/v1/actions", bot, as_="bot", headers={"Prefer": "wait=0"})
    assert status == 202, accepted
    status, problem, _ = await door.request("DELETE", BOT)
    assert (status, problem["type"]) == (409, "urn:countersign:problem:conflict")
    assert "1 accepted" in problem["detail"] and "agents revoke bot" in problem["detail"]
    assert (await door.ok("GET", BOT))["agent"]["status"] == "active"
    await gateway.db.pool.execute("DELETE FROM action")
    for _ in range(2):
        status, gone, _ = await door.request("DELETE", f"{BOT}?reason=replaced")
        assert (status, gone["agent"]["status"]) == (200, "revoked")
    assert await answered(door, "GET", BOT) == (404, "not_found")
    assert await answered(door, "GET", "/api/v1/actions", as_="bot") == (401, "unauthenticated")
    assert await answered(door, "POST", "/api/v1/agents", BODY | {"agent_id": "bot"}) == (409, "conflict")
    await door.services["registry"].stop()
    assert await answered(door, "PUT", BOT, BODY) == (503, "unavailable")
