"""Approvals with thousands pending: list pages, votes, votes at once on one, and how late deadlines fire.

The service runs in a process of its own and is asked over the bus, as the gateway does. Two replicas with
``--replicas 2``. Exit code 1 where anything but the time is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "harness"))

from countersign_chassis import Bus, Projector
from countersign_chassis.run import run as run_service
from countersign_cli.bootstrap import build_service
from countersign_cli.embedded.postgres import EmbeddedPostgres
from countersign_contracts.actions import Action, ActionHeld, Decision, Reason
from countersign_contracts.approval_commands import (
    ApprovalView,
    CastVote,
    CommitApprovalRules,
    ListApprovals,
    PrepareApprovalRules,
)
from countersign_contracts.canonical import action_digest
from countersign_contracts.catalogue import Document
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import PersonRecord
from countersign_contracts.ids import new_id, prefixed
from countersign_contracts.model import now
from countersign_contracts.projection import PEOPLE
from countersign_harness.stack import SUPERUSER_PASSWORD, Stack

RESULTS = Path(__file__).parent / "results" / "approvals.json"
QUORUM = 3
RULES = f"""
kind: approval_rule
name: quorum
match: {{environments: [quorum]}}
stages: [{{name: security, approvers: ["group:security"], quorum: {QUORUM}}}]
---
kind: approval_rule
name: two-stages
match: {{environments: [prod]}}
stages:
  - {{name: owner, approvers: ["group:owners"]}}
  - {{name: security, approvers: ["group:security"], quorum: 2}}
remind_after_s: [3600]
escalate: [{{after_s: 7200, to: [anyone]}}]
deadline_s: 86400
"""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pending", type=int, default=10_000)
    parser.add_argument("--asks", type=int, default=1000, help="list pages and votes to be timed")
    parser.add_argument("--at-once", type=int, default=4, help="asks in flight")
    parser.add_argument("--deadlines", type=int, default=500, help="deadlines within the same second")
    parser.add_argument("--replicas", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("nats").setLevel(logging.CRITICAL)
    figures, wrong = uvloop.run(run(options))
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        **vars(options),
        **figures,
    }
    for key, value in document.items():
        print(f"{key.replace('_', ' ')}: {value}")
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    if wrong:
        sys.exit("\n".join(wrong))


async def run(options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """The figures, and what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        postgres = EmbeddedPostgres(Path(folder) / "postgres", None, SUPERUSER_PASSWORD)
        await asyncio.to_thread(postgres.start)
        stack = Stack(Path(folder) / "data", postgres)
        replicas = []
        try:
            await stack.start()
            settings = stack.settings("approvals") | {"log_level": "error"}
            context = get_context("spawn")
            replicas = [context.Process(target=serve, args=(settings,)) for _ in range(options.replicas)]
            for replica in replicas:
                replica.start()
            return await measure(stack, options, [replica.pid or 0 for replica in replicas])
        finally:
            for replica in replicas:
                replica.terminate()
                replica.join()
            await stack.stop()
            await asyncio.to_thread(postgres.stop)


def serve(settings: dict[str, Any]) -> None:
    """One replica as it runs in production, until it is terminated."""
    run_service(lambda: build_service("approvals", settings, None))


async def measure(stack: Stack, options: argparse.Namespace, pids: list[int]) -> tuple[dict[str, Any], list[str]]:
    """Everything, one after the other."""
    policy, gateway, registry = [await stack.bus(name) for name in ("policy", "gateway", "registry")]
    people = [person(f"p{n}", "security" if n % 2 else "owners") for n in range(100)]
    people += [person(f"s{n}", "security") for n in range(100)]
    await Projector(PEOPLE, registry.connection, stack.key("registry")).rebuild({each.key: each for each in people})
    await answered(gateway)
    documents = (Document(path="rules.yaml", text=RULES),)
    plan = await gateway.ask(PrepareApprovalRules(change_id="chg_1", documents=documents))
    await gateway.ask(CommitApprovalRules(change_id="chg_1", base=plan.base, by="bench", documents=documents))
    connection = await asyncpg.connect(stack.superuser_dsn())
    wrong: list[str] = []

    events = [held("prod", n) for n in range(options.pending)]
    began = time.perf_counter()
    for first in range(0, len(events), 200):
        await policy.publish_all([(event, None) for event in events[first : first + 200]])
    await rows(connection, "approvals.approval", options.pending)
    asking_s = time.perf_counter() - began
    await connection.execute("ANALYZE")

    chance = random.Random(1)  # noqa: S311
    last = events[chance.randrange(len(events))].approval_id
    pages: list[Callable[[], Awaitable[Any]]] = [
        lambda: gateway.ask(ListApprovals(state="pending", limit=50)),
        lambda: gateway.ask(ListApprovals(state="pending", limit=50, after=last)),
        lambda: gateway.ask(ListApprovals(voter="p2", limit=50)),
        lambda: gateway.ask(ListApprovals(state="pending", tool="t7", limit=50)),
    ]
    used = cpu_s(pids)
    listed = await timed([pages[n % len(pages)] for n in range(options.asks)], options.at_once)
    list_cpu_s, used = cpu_s(pids) - used, cpu_s(pids)
    chosen = chance.sample(events, options.asks)
    votes = [vote(event, f"p{2 * chance.randrange(50)}") for event in chosen]
    voted = await timed([lambda v=v: gateway.ask(v) for v in votes], options.at_once)  # type: ignore[misc]

    vote_cpu_s = cpu_s(pids) - used

    one = held("quorum", 0)
    await policy.publish(one)
    await rows(connection, "approvals.approval", options.pending + 1)
    began = time.perf_counter()
    answers = await asyncio.gather(
        *(gateway.ask(vote(one, f"s{n}"), timeout_s=60) for n in range(100)), return_exceptions=True
    )
    at_once_s = time.perf_counter() - began
    counted = sum(isinstance(answer, ApprovalView) for answer in answers)
    ends = await connection.fetchval(
        "SELECT count(*) FROM approvals.event WHERE approval_id = $1 AND type = 'countersign.approvals.resolved.v1'",
        one.approval_id,
    )
    if counted != QUORUM or ends != 1:
        wrong.append(f"of 100 votes at once {counted} counted, not {QUORUM}; {ends} resolutions")
    if odd := [answer for answer in answers if isinstance(answer, Exception) and not _conflict(answer)]:
        wrong.append(f"votes at once: {odd[0]!r}")

    late = await deadlines(policy, connection, options.deadlines)
    await connection.close()
    return {
        "asked_per_second": round(options.pending / asking_s),
        "list_ms": listed,
        "vote_ms": voted,
        "list_cpu_ms": round(list_cpu_s * 1000 / options.asks, 1),
        "vote_cpu_ms": round(vote_cpu_s * 1000 / options.asks, 1),
        "hundred_votes_at_once_s": round(at_once_s, 3),
        "hundred_votes_counted": counted,
        "deadlines_late_ms": late,
    }, wrong


async def deadlines(policy: Bus, connection: Any, many: int) -> dict[str, float]:
    """How long after their deadlines approvals ended, all of them within the same second."""
    await policy.publish_all([(held("short", n, deadline_s=5), None) for n in range(many)])
    query = (
        "SELECT extract(epoch FROM resolved_at - deadline) * 1000 AS late FROM approvals.approval"
        " WHERE env = 'short' AND state = 'expired'"
    )
    async with asyncio.timeout(120):
        while len(found := await connection.fetch(query)) < many:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return spread([float(row["late"]) for row in found])


async def rows(connection: Any, table: str, wanted: int) -> None:
    """Wait until there are so many."""
    async with asyncio.timeout(600):
        while await connection.fetchval(f"SELECT count(*) FROM {table}") < wanted:  # noqa: ASYNC110, S608
            await asyncio.sleep(0.05)


async def answered(gateway: Bus) -> None:
    """Wait until the service answers."""
    async with asyncio.timeout(60):
        while True:
            try:
                await gateway.ask(ListApprovals(limit=1))
                return
            except CountersignError:
                await asyncio.sleep(0.1)


async def timed(asks: list[Callable[[], Awaitable[Any]]], at_once: int) -> dict[str, float]:
    """Milliseconds of each, so many in flight; the first ones warm up and do not count."""
    # what this process made before is no part of what is measured, and a full collection would walk all of it
    gc.collect()
    gc.freeze()
    times: list[float] = []
    waiting = iter(enumerate(asks))

    async def caller() -> None:
        for n, ask in waiting:
            began = time.perf_counter()
            await ask()
            if n >= len(asks) // 20:
                times.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(caller() for _ in range(at_once)))
    return spread(times)


def cpu_s(pids: list[int]) -> float:
    """Seconds of processor that the replicas have used: what they cost, whatever else the machine does (Linux)."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def spread(times: list[float]) -> dict[str, float]:
    """Percentiles."""
    ordered = sorted(times)
    return {
        name: round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1)
        for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    }


def person(name: str, group: str) -> PersonRecord:
    """An approver."""
    return PersonRecord(name=name, roles=("approver",), token_sha256="0" * 64, groups=(group,), revision=1)


def held(env: str, n: int, deadline_s: int = 3600) -> ActionHeld:
    """One action that policy holds."""
    at = now() - timedelta(milliseconds=1)
    parts: dict[str, Any] = {
        "principal_chain": (f"person:requester-{n % 50}",),
        "env": env,
        "tool": f"t{n % 20}",
        "tool_version": 1,
        "args": {"thing_id": n, "note": "x" * 400},
    }
    agent = f"worker-{n % 10}"
    digest = action_digest(agent=agent, session=None, **parts)
    action = Action(request_id=new_id(), agent_id=agent, digest=digest, requested_at=at, **parts)
    reasons = (Reason(code="approval_required", message="high risk needs approval"),)
    decision = Decision(outcome="hold", reasons=reasons, policy_version="v", risk="high", decided_at=at)
    return ActionHeld(
        action=action, decision=decision, approval_id=prefixed("apr"), owner_team="ops", deadline_s=deadline_s
    )


def vote(event: ActionHeld, voter: str) -> CastVote:
    """A yes."""
    return CastVote(
        approval_id=event.approval_id,
        voter=f"person:{voter}",
        vote="approve",
        digest=event.action.digest,
        channel="http",
    )


def _conflict(answer: BaseException) -> bool:
    return isinstance(answer, CountersignError) and answer.code == "conflict"


if __name__ == "__main__":
    main()
