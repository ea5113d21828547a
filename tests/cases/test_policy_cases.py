"""Runs the policy cases beside this file: each says what is declared, what is asked, and the decision it wants.

The world of every case is ``world/``; ``declared`` adds files to it, or replaces a profile of the same name. Used-up
guardrails are given by name; stops by scope, with id ``stop_<scope>``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from countersign_contracts.actions import Action, Decision, Reason
from countersign_contracts.catalogue import AgentDeclaration, Document, Tool, ToolRecord
from countersign_contracts.control import Stop
from countersign_contracts.documents import read_documents
from countersign_contracts.fleet import AgentRecord
from countersign_contracts.yaml_text import read_yaml
from countersign_policy.conclude import Approved, conclude
from countersign_policy.engine import build_engine
from countersign_policy.examine import World, examine
from countersign_policy.plan import plan_change

HERE = Path(__file__).parent
MONDAY_NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def cases() -> Iterator[Any]:
    for path in sorted(HERE.glob("*.yaml")):
        (document,) = read_yaml(path.read_text())
        for case in document.data["cases"]:
            yield pytest.param(case, id=f"{path.stem}: {case['case']}")


@pytest.mark.parametrize("case", list(cases()))
def test_policy_case(case: dict[str, Any]) -> None:
    given, want = case.get("given", {}), case["want"]
    decision = decide(case, given)
    shown = orjson.dumps(decision.model_dump(mode="json"), option=orjson.OPT_INDENT_2).decode()
    assert decision.outcome == want["outcome"], shown
    for name in ("risk", "effect", "profile"):
        assert name not in want or getattr(decision, name) == want[name], shown
    if "policies" in want:
        assert decision.policies == tuple(want["policies"]), shown
    if "guardrails" in want:
        uses = [use.model_dump(include=set(w)) for use, w in zip(decision.guardrails, want["guardrails"], strict=True)]
        assert uses == want["guardrails"], shown
    if "reasons" in want:
        assert [r.code for r in decision.reasons] == [w["code"] for w in want["reasons"]], shown
        for reason, wanted in zip(decision.reasons, want["reasons"], strict=True):
            assert wanted.get("says", "") in reason.message, shown
            assert "policy" not in wanted or reason.policy == wanted["policy"], shown


def decide(case: dict[str, Any], given: dict[str, Any]) -> Decision:
    at = datetime.fromisoformat(given["at"]) if "at" in given else MONDAY_NOON
    world = world_of(case, given)
    examined = examine(action_of(case["action"]), world, at)
    used = {count.key: Decimal(str(given.get("used", {}).get(count.name, 0))) for count in examined.counts}
    approved = Approved("apr_1", given["approved_by"], examined.risk) if "approved_by" in given else None
    return conclude(
        examined,
        used=used,
        facts=tuple(Reason(**fact) for fact in given.get("facts", ())),
        approved=approved,
        policy_version=world.engine.policy_set.version,
        at=at,
    )


def world_of(case: dict[str, Any], given: dict[str, Any]) -> World:
    extra = [
        Document(path=name, text=text if isinstance(text, str) else yaml.safe_dump(text))
        for name, text in case.get("declared", {}).items()
    ]
    base = [Document(path=path.name, text=path.read_text()) for path in sorted((HERE / "world").iterdir())]
    first = plan_change(base, (), {})
    assert first.errors == () and first.policy_set is not None
    tools, agents = {}, {}
    for item in read_documents(base)[0]:
        if isinstance(item.model, Tool):
            tools[item.name] = ToolRecord(tool=item.model, version=1, revision=1)
        if isinstance(item.model, AgentDeclaration):
            agents[item.name] = agent_of(item.model, given)
    plan = plan_change(extra, first.items, tools)
    assert plan.errors == () and plan.policy_set is not None
    stops = {
        scope: [Stop(stop_id=f"stop_{scope}", scope=scope, reason="incident", set_by="ann", set_at=MONDAY_NOON)]
        for scope in given.get("stops", ())
    }
    engine = build_engine(plan.policy_set, list(tools.values()))
    return World(agents.get, stops, engine, frozenset({"prod"}))


def agent_of(declared: AgentDeclaration, given: dict[str, Any]) -> AgentRecord:
    return AgentRecord(
        agent_id=declared.agent_id,
        name=declared.name,
        owner=declared.owner,
        profile=given.get("profile", declared.profile),
        environments=declared.environments,
        status=given.get("status", "active"),
        revision=1,
    )


def action_of(asked: dict[str, Any]) -> Action:
    action = Action(
        request_id="0198c0de-0000-7000-8000-000000000001",
        agent_id=asked["agent"],
        principal_chain=tuple(asked.get("on_behalf_of", ())),
        session_id=asked.get("session"),
        env=asked["env"],
        tool=asked["tool"],
        tool_version=asked.get("version", 1),
        args=asked.get("args", {}),
        digest="sha256:" + "0" * 64,
        requested_at=MONDAY_NOON,
    )
    return action.model_copy(update={"digest": asked.get("digest", action.computed_digest())})
