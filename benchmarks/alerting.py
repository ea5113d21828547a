"""Fifty alert rules over ten thousand agents that report every 30 seconds: how long a look at all of them takes.

The rows are those that agents' reports would have left: half an hour of metrics and log records, in PostgreSQL. Each
look is at every rule at once, which happens when a registry starts; otherwise only those are looked at that are due.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "harness"))

from countersign_cli.embedded.postgres import EmbeddedPostgres
from countersign_contracts.alert_rules import AlertRule
from countersign_contracts.alerts import AlertRules, ListAlertRules
from countersign_harness.stack import SUPERUSER_PASSWORD, Stack

_AGENTS = """
INSERT INTO agent (agent_id, name, owner_team, profile, environments, status, status_by, status_at, revision,
                   created_by, created_at)
SELECT 'agent-' || n, 'Agent', 'team-' || n % 50, 'p', '{prod}', 'active', 'b', now(), 1, 'b', now()
FROM generate_series(1, $1) n
"""
_PHASES = "INSERT INTO phase SELECT agent_id, 'running', now(), 'a heartbeat' FROM agent"
_BEATS = "INSERT INTO heartbeat SELECT agent_id, now() + interval '1 hour', '{}' FROM agent"
_METRICS = """
INSERT INTO agent_metrics (agent_id, at, received_at, batch, interval_s, events_succeeded, events_failed, processing_s,
                           cpu_s, memory_bytes, own)
SELECT agent_id, t, t, 'b', 30, 100, (random() * 4)::int, 3, random() * 10, 1e8, '{"queue": ' || random() * 10 || '}'
FROM agent, LATERAL (SELECT now() - (n * 30 + random() * 30) * interval '1 second' AS t FROM generate_series(0, $1) n) s
ORDER BY t
"""
_LOGS = """
INSERT INTO agent_log (agent_id, at, received_at, batch, place, severity, text)
SELECT agent_id, t, t, 'b', 0, (random() * 3.2)::int, 'something happened'
FROM agent, LATERAL (SELECT now() - (n * 30 + random() * 30) * interval '1 second' AS t FROM generate_series(0, $1) n) s
ORDER BY t
"""


def rules() -> list[dict[str, Any]]:
    """Fifty, of every kind; few agents are found."""
    conditions: list[dict[str, Any]] = [
        {"metric": "error_share", "window_s": 300, "above": 0.032},
        {"metric": "cpu_share", "aggregate": "max", "window_s": 300, "above": 0.9},
        {"metric": "memory_bytes", "aggregate": "last", "window_s": 300, "above": 1e9},
        {"metric": "values.queue", "window_s": 300, "above": 9.9},
        {"metric": "events_per_second", "window_s": 900, "below": 0.1},
        {"metric": "processing_mean_s", "window_s": 900, "above": 5},
        {"logs": "error", "window_s": 300, "above": 9},
        {"logs": "critical", "window_s": 300, "above": 5},
        {"phase": ["failed", "stopped"]},
        {"silent_s": 300},
    ]
    return [
        {
            "kind": "alert_rule",
            "name": f"rule-{n}",
            "when": conditions[n % len(conditions)],
            "select": {"teams": [f"team-{n}"]} if n % 2 else {},
            "for_s": 0,
        }
        for n in range(50)
    ]


async def _measure(stack: Stack, options: argparse.Namespace) -> None:
    service = await stack.service("registry", alerts_every_s=0.5)
    admin = await asyncpg.connect(stack.superuser_dsn())
    await admin.execute("SET search_path = registry")
    reports = options.minutes * 2
    for query, *args in ((_AGENTS, options.agents), (_PHASES,), (_BEATS,), (_METRICS, reports), (_LOGS, reports)):
        await admin.execute(query, *args, timeout=600)
    await admin.execute("VACUUM ANALYZE", timeout=600)
    for given in rules():
        rule = AlertRule.model_validate(given)
        await admin.execute("INSERT INTO alert_rule VALUES ($1, 1, $2)", rule.name, rule.model_dump_json())
    gateway = await stack.bus("gateway")
    took: list[float] = []
    for _ in range(options.looks):
        seen = _seen(service)
        await admin.execute("UPDATE alert_rule SET evaluated_at = NULL")
        async with asyncio.timeout(120):
            while (now := _seen(service))[1] < seen[1] + 2:  # noqa: ASYNC110 (a metric tells nobody)
                await asyncio.sleep(0.05)
        took.append(now[0] - seen[0])
    began = _seen(service), time.perf_counter()
    await asyncio.sleep(options.seconds)
    ended = _seen(service), time.perf_counter()
    found: AlertRules = await gateway.ask(ListAlertRules())
    took.sort()
    print(f"{options.agents} agents, {len(found.items)} rules, {options.minutes} min of reports every 30 s")
    print(f"active alerts: {sum(view.active for view in found.items)}")
    print(f"a look at all rules: p50 {1000 * took[len(took) // 2]:.0f} ms, longest {1000 * took[-1]:.0f} ms")
    share = 100 * (ended[0][0] - began[0][0]) / (ended[1] - began[1])
    print(f"looking at what is due, twice a second: {share:.1f} % of the time (once in 5 s is usual)")
    await admin.close()


def _seen(service: Any) -> tuple[float, float]:
    """Seconds spent looking, and looks."""
    value = service.metrics.registry.get_sample_value
    name = "countersign_alerts_look_seconds"
    return value(f"{name}_sum") or 0.0, value(f"{name}_count") or 0.0


async def _run(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="countersign-alerting-") as folder:
        postgres = EmbeddedPostgres(Path(folder) / "postgres", None, SUPERUSER_PASSWORD)
        await asyncio.to_thread(postgres.start)
        stack = Stack(Path(folder) / "stack", postgres)
        try:
            await stack.start()
            await _measure(stack, options)
        finally:
            await stack.stop()
            await asyncio.to_thread(postgres.stop)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--minutes", type=int, default=30, help="of reports and log records")
    parser.add_argument("--looks", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=30.0, help="looking at what is due")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
