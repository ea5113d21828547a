"""Alert rules on real servers: what they find, raised and resolved once each, whoever looks and whoever dies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest

from countersign_chassis import Failpoints, Service
from countersign_contracts.alerts import (
    AcknowledgeAlert,
    Alert,
    AlertAcknowledged,
    AlertEvent,
    AlertRaised,
    AlertResolved,
    AlertRules,
    Alerts,
    GetAlert,
    ListAlertRules,
    ListAlerts,
    RemoveAlertRule,
)
from countersign_contracts.catalogue import Document
from countersign_contracts.commands import ChangePlan, CommitAgents, PrepareAgents
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import new_id
from countersign_contracts.model import now

if TYPE_CHECKING:
    from .conftest import Fleet

#: Looks follow one another at once, as far as a test's patience goes.
SOON = {"alerts_every_s": 0.1, "heartbeat_flush_s": 0.2}


def rule(name: str, when: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"kind": "alert_rule", "name": name, "when": when, "for_s": 0, "clear_for_s": 0} | more


async def declare(fleet: Fleet, *rules: dict[str, Any], change_id: str | None = None) -> ChangePlan:
    change_id = change_id or f"chg_{new_id()}"
    files = tuple(Document(path=f"{each['name']}.yaml", text=orjson.dumps(each).decode()) for each in rules)
    plan: ChangePlan = await fleet.bus.ask(PrepareAgents(change_id=change_id, documents=files))
    assert plan.errors == ()
    order = CommitAgents(change_id=change_id, base=plan.base, by="ann", documents=files)
    return cast(ChangePlan, await fleet.bus.ask(order))


async def alerts(fleet: Fleet, **asked: Any) -> tuple[Alert, ...]:
    found: Alerts = await fleet.bus.ask(ListAlerts(**asked))
    return found.items


async def until_alerts(fleet: Fleet, count: int, **asked: Any) -> tuple[Alert, ...]:
    """The alerts, once there are so many."""
    async with asyncio.timeout(30):
        while len(found := await alerts(fleet, **asked)) != count:
            await asyncio.sleep(0.05)
    return found


async def until_looked(fleet: Fleet, *names: str) -> None:
    """Return when each rule was looked at, from its beginning to its end, after this was asked."""
    asked_at = now()

    async def looked() -> bool:
        found: AlertRules = await fleet.bus.ask(ListAlertRules())
        at = {view.rule.name: view.evaluated_at for view in found.items}
        return all((seen := at[name]) is not None and seen > asked_at for name in names)

    await fleet.until(looked, 30)


async def report(fleet: Fleet, agent_id: str, ago_s: float = 1, **said: Any) -> None:
    """An agent's report, as it is kept."""
    at = now() - timedelta(seconds=ago_s)
    given = {"interval_s": 10.0, "events_succeeded": 0, "events_failed": 0, "processing_s": 0.0} | said
    if "own" in given:
        given["own"] = orjson.dumps(given["own"]).decode()
    names = ["agent_id", "at", "received_at", "batch", *given]
    values = [agent_id, at, at, new_id(), *given.values()]
    places = ", ".join(f"${n}" for n in range(1, len(values) + 1))
    await fleet.sql(f"INSERT INTO agent_metrics ({', '.join(names)}) VALUES ({places})", *values)


async def log(fleet: Fleet, agent_id: str, severity: int, count: int) -> None:
    at = now()
    await fleet.sql(
        "INSERT INTO agent_log (agent_id, at, received_at, batch, place, severity, text)"
        " SELECT $1, $2, $2, $3, n, $4, 'x' FROM generate_series(1, $5) n",
        agent_id, at, new_id(), severity, count,
    )  # fmt: skip


async def phase(fleet: Fleet, agent_id: str, phase: str) -> None:
    await fleet.sql(
        "INSERT INTO phase VALUES ($1, $2, $3, 'because') ON CONFLICT (agent_id) DO UPDATE SET phase = $2",
        agent_id, phase, now(),
    )  # fmt: skip


async def told(fleet: Fleet, count: int) -> list[AlertEvent]:
    """The events of alerts on stream FLEET, once there are so many."""
    async with asyncio.timeout(30):
        while True:
            found = [event for event in await fleet.every_event() if isinstance(event, AlertEvent)]
            if len(found) >= count:
                assert len(found) == count
                return found
            await asyncio.sleep(0.05)


async def test_every_kind_of_condition_finds_its_agents_and_no_others(fleet: Fleet) -> None:
    await fleet.run(**SOON)
    for agent_id in ("alpha", "beta", "gamma", "delta"):
        await fleet.register(agent_id, environments=("dev",) if agent_id == "gamma" else ("prod",))
    # alpha fails a lot, uses much and grows; beta does well; gamma is like alpha, in dev
    for agent_id in ("alpha", "gamma"):
        await report(fleet, agent_id, 20, events_succeeded=90, events_failed=10, cpu_s=1.0, memory_bytes=100)
        await report(fleet, agent_id, 10, events_succeeded=10, events_failed=90, cpu_s=9.0, memory_bytes=300)
        await report(fleet, agent_id, 5, own={"queue": 7.5}, processing_s=1.0)
        await report(fleet, agent_id, 4000, events_failed=10_000, cpu_s=1e6, memory_bytes=10**15)  # long ago
        await log(fleet, agent_id, 3, 4)
        await log(fleet, agent_id, 2, 3)
    await report(fleet, "beta", 10, events_succeeded=100, cpu_s=0.1, memory_bytes=100, own={"queue": 1})
    await log(fleet, "beta", 1, 50)
    # numbers that overflow where nobody is careful
    for n in range(3):
        await report(fleet, "delta", n + 1, own={"queue": 1e308}, interval_s=1e-300, cpu_s=2.0**53)
    await phase(fleet, "beta", "failed")
    rules = {
        "mean": rule("mean", {"metric": "error_share", "above": 0.49}),  # 100 of 200
        "most": rule("most", {"metric": "error_share", "aggregate": "max", "above": 0.89}),
        "few": rule("few", {"metric": "error_share", "above": 0.1, "min_events": 1000}),
        "cpu": rule("cpu", {"metric": "cpu_share", "above": 0.49, "below": None}, select={"agents": ["alpha", "beta"]}),
        "memory": rule("memory", {"metric": "memory_bytes", "aggregate": "last", "above": 299}),
        "sum": rule("sum", {"metric": "events_failed", "aggregate": "sum", "above": 99}),
        "low": rule("low", {"metric": "events_per_second", "below": 6, "window_s": 60}),
        "own": rule("own", {"metric": "values.queue", "aggregate": "max", "above": 7, "below": None}),
        "total": rule("total", {"metric": "values.queue", "aggregate": "sum", "above": 7}),
        "logs": rule("logs", {"logs": "error", "above": 3}),
        "warned": rule("warned", {"logs": "warning", "above": 7}),
        "phase": rule("phase", {"phase": ["failed", "stopped"]}),
        "dev": rule("dev", {"metric": "error_share", "above": 0.4}, select={"environments": ["dev"]}),
    }
    await declare(fleet, *rules.values())
    await until_looked(fleet, *rules)
    found: dict[str, set[str]] = {}
    for alert in await alerts(fleet, limit=200):
        found.setdefault(alert.rule, set()).add(alert.agent_id)
    assert found == {
        "mean": {"alpha", "gamma"},
        "most": {"alpha", "gamma"},
        "cpu": {"alpha"},
        "memory": {"alpha", "gamma"},
        "sum": {"alpha", "gamma"},
        "low": {"delta"},
        "own": {"alpha", "gamma", "delta"},
        "total": {"alpha", "gamma", "delta"},
        "logs": {"alpha", "gamma"},
        "phase": {"beta"},
        "dev": {"gamma"},
    }
    (mean,) = await alerts(fleet, rule="mean", agent_id="alpha")
    assert (mean.value, mean.summary) == (0.5, "error_share (mean over 300 s) is 0.5, above 0.49")
    assert (mean.owner_team, mean.severity, mean.state, mean.revision) == ("support", "warning", "open", 1)
    page: Alerts = await fleet.bus.ask(ListAlerts(limit=3))
    rest: Alerts = await fleet.bus.ask(ListAlerts(limit=200, before=page.next))
    assert len(page.items) == 3 and len(rest.items) == sum(map(len, found.values())) - 3 and rest.next is None
    assert not {each.alert_id for each in page.items} & {each.alert_id for each in rest.items}


async def test_raised_acknowledged_and_resolved_once_each_and_told(fleet: Fleet) -> None:
    service = await fleet.run(**SOON)
    await fleet.register()
    await phase(fleet, "alpha", "failed")
    plan = await declare(fleet, rule("down", {"phase": ["failed"]}, severity="critical", routes=["slack"], for_s=1))
    assert [(c.kind, c.name, c.action) for c in plan.changes] == [("alert_rule", "down", "create")]
    (alert,) = await until_alerts(fleet, 1)
    assert alert.raised_at - alert.since >= timedelta(seconds=1)
    await fleet.until(open_are(service, 1), 30)
    seen: Alert = await fleet.bus.ask(AcknowledgeAlert(alert_id=alert.alert_id, by="ann", comment="on it"))
    assert seen.state == "acknowledged" and seen.acknowledged is not None
    assert (seen.acknowledged.by, seen.acknowledged.comment) == ("ann", "on it")
    again: Alert = await fleet.bus.ask(AcknowledgeAlert(alert_id=alert.alert_id, by="ann"))
    assert again == seen
    with pytest.raises(CountersignError, match=r"was acknowledged by ann at .* already") as refused:
        await fleet.bus.ask(AcknowledgeAlert(alert_id=alert.alert_id, by="bob"))
    assert refused.value.code == "conflict"
    assert [a.alert_id for a in await alerts(fleet, state="acknowledged")] == [alert.alert_id]
    await until_looked(fleet, "down")
    assert len(await alerts(fleet)) == 1, "it holds still: that is the same alert"
    await phase(fleet, "alpha", "running")
    (over,) = await until_alerts(fleet, 1, state="resolved")
    assert over.resolution == "its condition has not held for 0 s" and over.acknowledged == seen.acknowledged
    with pytest.raises(CountersignError, match=r"was resolved at .*: there is nothing to acknowledge"):
        await fleet.bus.ask(AcknowledgeAlert(alert_id=alert.alert_id, by="bob"))
    assert await fleet.bus.ask(GetAlert(alert_id=alert.alert_id)) == over
    events = await told(fleet, 3)
    assert [type(event) for event in events] == [AlertRaised, AlertAcknowledged, AlertResolved]
    assert [event.event_id() for event in events] == [
        f"alpha.alert_{name}.{alert.alert_id}" for name in ("raised", "acknowledged", "resolved")
    ]
    assert [(event.by, event.alert.revision) for event in events] == [("registry", 1), ("ann", 2), ("registry", 3)]
    assert events[-1].alert == over and events[0].alert.routes == ("slack",)
    await fleet.until(open_are(service, 0), 30)


def shown(service: Service, name: str, **labels: str) -> float | None:
    return service.metrics.registry.get_sample_value(name, labels)


def open_are(service: Service, count: int) -> Callable[[], Awaitable[bool]]:
    async def so() -> bool:
        return shown(service, "countersign_alerts_open", severity="critical") == count

    return so


async def test_what_flaps_is_one_alert(fleet: Fleet) -> None:
    await fleet.run(**SOON)
    await fleet.register()
    await declare(fleet, rule("down", {"phase": ["failed"]}, clear_for_s=3600))
    for _ in range(3):
        await phase(fleet, "alpha", "failed")
        await until_looked(fleet, "down")
        await phase(fleet, "alpha", "running")
        await until_looked(fleet, "down")
    (alert,) = await alerts(fleet)
    assert alert.state == "open"
    # the time to clear counts from the last flap
    await fleet.sql("UPDATE alert SET clearing_since = clearing_since - interval '3601 seconds'")
    await until_alerts(fleet, 1, state="resolved")
    assert len(await told(fleet, 2)) == 2


async def test_rules_that_are_changed_disabled_or_removed_and_agents_that_are_revoked_resolve(fleet: Fleet) -> None:
    await fleet.run(**SOON)
    for agent_id in ("alpha", "beta"):
        await fleet.register(agent_id)
        await phase(fleet, agent_id, "failed")
    down = rule("down", {"phase": ["failed"]})
    other = rule("other", {"phase": ["failed"]}, select={"agents": ["beta"]})
    third = rule("third", {"phase": ["failed"]}, select={"agents": ["beta"]})
    await declare(fleet, down, other, third)
    await until_alerts(fleet, 4)
    assert [c.action for c in (await declare(fleet, down, third)).changes] == ["unchanged", "unchanged"]
    plan = await declare(fleet, down | {"select": {"agents": ["alpha"]}}, third | {"enabled": False})
    assert [(c.name, c.action) for c in plan.changes] == [("down", "update"), ("third", "update")]
    gone = {a.rule: a.resolution for a in await until_alerts(fleet, 2, state="resolved")}
    assert gone == {"down": "the rule does not select the agent any more", "third": "the rule was disabled"}
    await fleet.bus.ask(RemoveAlertRule(name="other", by="ann"))
    with pytest.raises(CountersignError, match="there is no alert rule `other`; `countersign alerts rules` shows"):
        await fleet.bus.ask(RemoveAlertRule(name="other", by="ann"))
    await fleet.set_status("revoked")
    await until_alerts(fleet, 4, state="resolved")
    resolutions = {a.resolution for a in await alerts(fleet, limit=2)} | {a.resolution for a in await alerts(fleet)}
    assert {"the rule was removed", "the agent was revoked"} <= resolutions
    # removed and declared again: another version, and another alert
    await declare(fleet, other)
    (back,) = await until_alerts(fleet, 1, state="active")
    assert (back.rule, back.rule_version) == ("other", 3)


async def test_two_registries_look_and_each_alert_is_raised_and_resolved_once(fleet: Fleet) -> None:
    both = [await fleet.run(**SOON), await fleet.another(**SOON)]
    agents = [f"agent-{n}" for n in range(12)]
    for agent_id in agents:
        await fleet.register(agent_id)
        await phase(fleet, agent_id, "failed")
    await declare(fleet, rule("down", {"phase": ["failed"]}), rule("also", {"phase": ["failed"]}))
    await until_alerts(fleet, 24, state="active")
    await fleet.sql("UPDATE phase SET phase = 'running'")
    await until_alerts(fleet, 24, state="resolved")
    events = await told(fleet, 48)
    assert len({event.event_id() for event in events}) == 48
    # by their lock, not by what the database refuses to the second
    assert [shown(each, "countersign_background_failures_total", loop="alerts") for each in both] == [0, 0]


async def test_who_dies_in_a_look_has_done_nothing_and_another_goes_on(fleet: Fleet) -> None:
    reached, died = asyncio.Event(), asyncio.Event()

    async def die() -> None:
        if await fleet.sql("SELECT FROM alert_rule"):
            reached.set()
            await died.wait()
            raise RuntimeError("killed")

    await fleet.run(Failpoints({"registry.after_look_before_commit": die}), **SOON)
    await fleet.register()
    await phase(fleet, "alpha", "failed")
    # committed while nobody looks: the look that follows dies with all it had to say
    await declare(fleet, rule("down", {"phase": ["failed"]}))
    async with asyncio.timeout(30):
        await reached.wait()
    assert await alerts(fleet) == ()
    died.set()
    await fleet.another(**SOON)
    (alert,) = await until_alerts(fleet, 1)
    (event,) = await told(fleet, 1)
    assert event.alert == alert


async def test_silence_is_told_of_who_was_heard_and_did_not_stop_and_only_by_who_listened(fleet: Fleet) -> None:
    await fleet.run(**SOON)
    for agent_id in ("alpha", "beta", "gamma"):
        await fleet.register(agent_id)
    long_ago = now() - timedelta(hours=1)
    for agent_id in ("alpha", "beta"):
        await fleet.sql("INSERT INTO heartbeat VALUES ($1, $2, '{}')", agent_id, long_ago)
    await phase(fleet, "beta", "stopped")
    await declare(fleet, rule("silent", {"silent_s": 60}))
    await until_looked(fleet, "silent")
    assert await alerts(fleet) == (), "nobody has listened for a minute yet"
    await fleet.sql("UPDATE alert_rule SET watching_since = $1", long_ago)
    (alert,) = await until_alerts(fleet, 1)
    assert alert.agent_id == "alpha" and alert.summary.startswith("no heartbeat for 36")


async def test_after_a_gap_in_looking_times_begin_anew(fleet: Fleet) -> None:
    service = await fleet.run(**SOON)
    await fleet.register()
    await phase(fleet, "alpha", "failed")
    await declare(fleet, rule("down", {"phase": ["failed"]}, for_s=600))
    await until_looked(fleet, "down")
    await service.stop()
    hours = timedelta(hours=2)
    await fleet.sql("UPDATE alert_pending SET since = since - $1::interval", hours)
    await fleet.sql("UPDATE alert_rule SET evaluated_at = evaluated_at - $1::interval, watching_since = $2", hours, T0)
    again = now()
    await fleet.run(**SOON)
    await until_looked(fleet, "down")
    (pending,) = await fleet.sql("SELECT since FROM alert_pending")
    (watched,) = await fleet.sql("SELECT watching_since FROM alert_rule")
    assert await alerts(fleet) == () and pending["since"] > again and watched["watching_since"] > again


T0 = datetime.fromisoformat("2026-01-31T12:00:00+00:00")


async def test_a_condition_that_fails_holds_up_no_other_kind(fleet: Fleet) -> None:
    service = await fleet.run(**SOON)
    await fleet.register()
    await phase(fleet, "alpha", "failed")
    await fleet.sql(
        "INSERT INTO agent_metrics (agent_id, at, received_at, batch, interval_s, events_succeeded, events_failed,"
        " processing_s, own) VALUES ('alpha', $1, $1, 'b', 1, 0, 0, 0, 'no JSON')",
        now(),
    )
    await declare(fleet, rule("bad", {"metric": "values.queue", "above": 1}), rule("down", {"phase": ["failed"]}))
    (alert,) = await until_alerts(fleet, 1)
    assert alert.rule == "down"
    assert (shown(service, "countersign_alerts_looks_failed_total", kind="metric") or 0) > 0
    found: AlertRules = await fleet.bus.ask(ListAlertRules())
    assert {view.rule.name: view.evaluated_at is None for view in found.items} == {"bad": True, "down": False}


async def test_resolved_alerts_are_forgotten_after_their_time(fleet: Fleet) -> None:
    await fleet.run(**SOON)
    await fleet.register()
    await phase(fleet, "alpha", "failed")
    await declare(fleet, rule("down", {"phase": ["failed"]}))
    await until_alerts(fleet, 1)
    await phase(fleet, "alpha", "running")
    await until_alerts(fleet, 1, state="resolved")
    await phase(fleet, "alpha", "failed")
    await until_alerts(fleet, 2)
    await fleet.sql(
        "UPDATE alert SET resolved_at = resolved_at - interval '91 days', raised_at = raised_at - interval '91 days'"
    )
    await fleet.run(**SOON)
    (left,) = await until_alerts(fleet, 1)
    assert left.state == "open"
