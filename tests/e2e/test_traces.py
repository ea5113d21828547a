"""One trace from the agent's request to the effect and the ledger, received over real HTTP."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from countersign_contracts.event import CORE_SERVICES
from countersign_harness.otlp_receiver import OtlpReceiver, Seen
from countersign_harness.world import World

SECRET = "nobody is to read this in a trace"


def context(*, followed: bool = True) -> tuple[str, str]:
    """A caller's `traceparent`, and its trace's id."""
    trace_id = secrets.token_hex(16)
    return f"00-{trace_id}-{secrets.token_hex(8)}-{'01' if followed else '00'}", trace_id


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[OtlpReceiver]:
    receiver = OtlpReceiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


async def start(world: World, receiver: OtlpReceiver, ratio: float) -> None:
    settings = {"otlp_url": receiver.url, "trace_ratio": ratio}
    await world.start(overrides={service: dict(settings) for service in CORE_SERVICES})


@pytest_asyncio.fixture
async def traced(stack: Any, receiver: OtlpReceiver) -> AsyncIterator[World]:
    """The product, tracing what its callers ask for, and nothing by chance."""
    async with World(stack) as world:
        await start(world, receiver, 0.0)
        yield world


async def submit(world: World, tool: str, args: dict[str, Any], traceparent: str | None, **more: Any) -> Any:
    body = {"tool": tool, "args": args, "env": more.pop("env", "dev")}
    headers = {"Prefer": f"wait={more.pop('wait', 15)}"} | ({"traceparent": traceparent} if traceparent else {})
    status, answer, _ = await world.request("POST", "/api/v1/actions", body, as_="worker-1", headers=headers)
    assert status in (200, 202), answer
    return answer


def way(spans: list[Seen], last: Seen) -> list[str]:
    """The names from the first span of a trace to this one."""
    by_id = {span.span_id: span for span in spans}
    names = [last.name]
    while last.parent_id in by_id:
        last = by_id[last.parent_id]
        names.append(last.name)
    return names[::-1]


async def whole(receiver: OtlpReceiver, last: str, first: str, trace_id: str | None = None) -> list[Seen]:
    """The spans, once all on the way from `first` to `last` have come; services send theirs apart."""
    async with asyncio.timeout(30):
        while True:
            spans = await receiver.until(last, trace_id=trace_id)
            if way(spans, next(span for span in spans if span.name == last))[0] == first:
                return spans
            await asyncio.sleep(0.05)


async def test_one_trace_leads_from_the_request_to_the_effect_and_the_ledger(
    traced: World, receiver: OtlpReceiver
) -> None:
    traceparent, trace_id = context()
    done = await submit(traced, "write_thing", {"thing_id": 1, "status": SECRET}, traceparent)
    assert done["state"] == "succeeded"
    spans = await whole(receiver, "execute_tool write_thing", "POST", trace_id)
    (effect,) = [span for span in spans if span.name == "execute_tool write_thing"]
    assert way(spans, effect) == [
        "POST",
        "accept write_thing",
        "publish ACTIONS",
        "process policy-actions",
        "publish ACTIONS",
        "process executor-actions",
        "execute_tool write_thing",
    ]
    assert effect.service == "executor" and effect.kind == 3
    assert effect.attributes["gen_ai.operation.name"] == "execute_tool"
    assert effect.attributes["gen_ai.tool.call.id"] == done["request_id"]
    assert effect.attributes["countersign.outcome"] == "succeeded"
    called = traced.downstream.calls[-1]["traceparent"]
    assert called == f"00-{trace_id}-{effect.span_id}-01", "the business system goes on with the trace"

    async with asyncio.timeout(30):
        while len(recorded := [s for s in receiver.spans if s.name == "process audit-actions"]) < 3:
            await asyncio.sleep(0.05)
    kinds = {span.attributes["cloudevents.event_type"].split(".")[2] for span in recorded}
    assert {"requested", "granted", "executed"} <= kinds, "each is followed into the ledger"
    assert {span.trace_id for span in recorded} == {trace_id}
    (root,) = [span for span in spans if span.name == "POST"]
    assert root.parent_id == traceparent[36:52] and root.attributes["http.route"] == "/api/v1/actions"
    message = next(span for span in spans if span.name == "process policy-actions")
    assert message.attributes["messaging.system"] == "nats" and message.attributes["messaging.message.id"]
    assert message.attributes["countersign.request_id"] == done["request_id"]
    assert not any(span.failed for span in spans)
    assert SECRET.encode() not in b"".join(receiver.bodies)


async def test_the_wait_for_a_person_is_no_span_and_the_vote_is_linked(traced: World, receiver: OtlpReceiver) -> None:
    traceparent, trace_id = context()
    held = await submit(traced, "write_thing", {"thing_id": 1, "status": "x"}, traceparent, env="prod", wait=0)
    approval = await traced.approval_of(held["request_id"])
    await receiver.until("process approvals-actions", trace_id=trace_id)  # ended, though nobody voted yet
    waited = 1.5
    await asyncio.sleep(waited)
    vote, vote_trace = context()
    path = f"/api/v1/approvals/{approval['approval_id']}/votes"
    body = {"vote": "approve", "digest": approval["action"]["digest"]}
    status, answer, _ = await traced.request("POST", path, body, as_="alice", headers={"traceparent": vote})
    assert status < 300, answer
    await traced.until(held["request_id"], "succeeded")
    spans = await whole(receiver, "execute_tool write_thing", "POST", trace_id)
    assert max(span.seconds for span in spans) < waited
    (effect,) = [span for span in spans if span.name == "execute_tool write_thing"]
    names = way(spans, effect)
    assert names[0] == "POST" and names.index("process approvals-actions") < names.index("process policy-approvals")
    resolved = [span for span in spans if span.name == "publish APPROVALS" and span.links]
    assert resolved and all(span.links == (vote_trace,) for span in resolved)
    await receiver.until("POST", trace_id=vote_trace)


async def test_nobody_asked_and_chance_says_no(traced: World, receiver: OtlpReceiver) -> None:
    for given in (None, context(followed=False)[0]):
        done = await submit(traced, "read_thing", {"thing_id": 1}, given)
        assert done["state"] == "succeeded"
        assert traced.downstream.calls[-1]["traceparent"] == given, "handed on as it came"
    followed, trace_id = context()
    await submit(traced, "read_thing", {"thing_id": 1}, followed)
    await receiver.until("process gateway-finals", trace_id=trace_id)
    assert {span.trace_id for span in receiver.spans} == {trace_id}


async def test_by_chance_an_action_over_nats_is_followed_from_its_acceptance_on(
    stack: Any, receiver: OtlpReceiver
) -> None:
    async with World(stack) as world:
        await start(world, receiver, 1.0)
        async with world.agent() as agent:
            done = await agent.call("read_thing", {"thing_id": 1}, env="dev")
        spans = await whole(receiver, "execute_tool read_thing", "accept read_thing")
        first = next(span for span in spans if span.name == "accept read_thing")
        assert first.parent_id is None and first.attributes["countersign.request_id"] == done.request_id


async def test_a_receiver_that_is_away_holds_nothing_up(stack: Any) -> None:
    async with World(stack) as world:
        gone = OtlpReceiver()
        await gone.start()
        await gone.stop()
        await start(world, gone, 1.0)
        done = await submit(world, "read_thing", {"thing_id": 1}, None)
        assert done["state"] == "succeeded"


def test_off_imports_nothing() -> None:
    services = ", ".join(f"countersign_{service}.app" for service in CORE_SERVICES)
    asks = f"import sys, {services}; print(any(name.startswith('opentelemetry.sdk') for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
