"""An alert from its declared rule to its place in the ledger, through the HTTP API, on the whole product."""

from __future__ import annotations

import asyncio
from typing import Any

RULE = """\
kind: alert_rule
name: stopped
severity: critical
description: start it again
when: {phase: [stopped]}
select: {teams: [ops]}
for_s: 0
clear_for_s: 0
"""


async def until(world: Any, path: str, count: int) -> list[Any]:
    async with asyncio.timeout(30):
        while len(items := (await world.ok("GET", path))["items"]) < count:
            await asyncio.sleep(0.05)
    assert len(items) == count
    return list(items)


async def refused(world: Any, status: int, says: str, method: str, path: str, body: Any = None, **more: Any) -> None:
    got, problem, _ = await world.request(method, path, body, **more)
    assert got == status and says in problem["detail"], problem


async def beat(world: Any, status: str) -> None:
    await world.ok("POST", "/api/v1/heartbeat", {"status": status}, as_="worker-1")


async def test_an_agent_that_stops_is_told_of_until_it_is_back(world: Any) -> None:
    wrong = RULE.replace("[stopped]", "[asleep]") + "routes: [webhook:ops]\nselekt: {}\n"
    found = await world.apply({"alerts.yaml": wrong})
    assert not found["applied"] and {(e["path"], e["line"], e["field"]) for e in found["errors"]} == {
        ("alerts.yaml", 5, "when.phase.0"),
        ("alerts.yaml", 10, "selekt"),
    }
    found = await world.apply({"alerts.yaml": RULE + "routes: [webhook:ops]\n"})
    assert [(e["line"], e["message"]) for e in found["errors"]] == [(9, "there is no webhook `ops`")]
    await world.apply({"alerts.yaml": RULE}, dry_run=True)
    assert (await world.ok("GET", "/api/v1/alert-rules"))["items"] == []
    found = await world.apply({"alerts.yaml": RULE})
    assert [(c["kind"], c["name"], c["action"]) for c in found["changes"]] == [("alert_rule", "stopped", "create")]

    await beat(world, "stopping")
    (alert,) = await until(world, "/api/v1/alerts?state=active", 1)
    assert (alert["agent_id"], alert["summary"], alert["description"]) == (
        "worker-1",
        "it is stopped",
        "start it again",
    )
    path = f"/api/v1/alerts/{alert['alert_id']}"
    await refused(world, 403, "", "POST", f"{path}/acknowledge", {}, as_="alice")
    await refused(world, 403, "", "GET", path, as_="worker-1")
    seen = await world.ok("POST", f"{path}/acknowledge", {"comment": "maintenance"})
    assert (seen["state"], seen["acknowledged"]["by"]) == ("acknowledged", "admin")
    assert await world.ok("GET", path, as_="alice") == seen
    assert len(await until(world, "/api/v1/alerts?agent_id=worker-1&rule=stopped&severity=critical", 1)) == 1
    assert (await world.ok("GET", "/api/v1/alerts?agent_id=worker-2"))["items"] == []

    await beat(world, "healthy")
    (over,) = await until(world, "/api/v1/alerts?state=resolved", 1)
    assert over["resolution"] == "its condition has not held for 0 s"
    await refused(world, 404, "there is no alert", "GET", f"/api/v1/alerts/alt_{0:032x}")
    await refused(world, 403, "", "DELETE", "/api/v1/alert-rules/stopped", as_="alice")
    assert (await world.ok("DELETE", "/api/v1/alert-rules/stopped"))["name"] == "stopped"
    await refused(world, 404, "there is no alert rule", "DELETE", "/api/v1/alert-rules/stopped")

    kinds = [f"alert_{name}" for name in ("raised", "acknowledged", "resolved")]
    async with asyncio.timeout(30):
        while True:
            timeline = await world.ok("GET", "/api/v1/audit/timeline?agent_id=worker-1&limit=500")
            told = [e for e in timeline["items"] if "alert" in e["kind"]]
            if len(told) >= 3:
                break
            await asyncio.sleep(0.05)
    assert [event["kind"].split(".")[-2 if event["kind"].endswith(".v1") else -1] for event in told] == kinds
