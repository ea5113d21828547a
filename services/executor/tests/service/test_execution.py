"""A granted action end to end through the executor, on real servers: executed once, on record first, or refused."""

import asyncio
from typing import Any

import pytest

from countersign_contracts.actions import ActionExecuted, ActionRefused, ActionStarted
from countersign_contracts.commands import GetExecution, ReconcileAction
from countersign_contracts.errors import CountersignError


def code(event: Any) -> str:
    assert isinstance(event, ActionRefused)
    return event.reasons[0].code


async def test_a_granted_action_is_executed_and_said(world: Any) -> None:
    await world.executor()
    await world.apply(world.tool())
    grant = world.grant()
    event = await world.execute(grant)
    assert isinstance(event, ActionExecuted)
    execution = event.execution
    assert (execution.outcome, execution.status_code, execution.result) == ("succeeded", 200, {"done": True})
    assert (execution.attempts, execution.fence) == (1, 1)
    assert execution.started_at is not None and execution.started_at <= execution.finished_at
    (request,) = world.downstream.requests
    assert (request.method, request.target, request.body) == ("POST", "/items/7", b'{"note":"hello"}')
    assert request.headers["idempotency-key"] == grant.about()
    assert world.asked == [(f"{grant.about()}.granted",)]
    view = await world.row(grant)
    assert (view.state, view.execution) == ("succeeded", execution)


async def test_a_repeat_is_answered_with_the_same_bytes_and_no_second_call(world: Any) -> None:
    service = await world.executor()
    published: list[tuple[str, bytes]] = []
    publish = service.bus.publish_sealed

    async def spy(messages: Any, **more: Any) -> None:
        published.extend((envelope.id, envelope.body) for _, _, envelope in messages)
        await publish(messages, **more)

    service.bus.publish_sealed = spy
    await world.apply(world.tool())
    grant = world.grant()
    await world.execute(grant)
    await world.repeat(grant)
    await world.until(lambda: [i for i, _ in published].count(f"{grant.about()}.executed") == 2)
    first, second = [body for i, body in published if i == f"{grant.about()}.executed"]
    assert first == second
    assert len(world.downstream.requests) == 1


async def test_a_repeat_while_it_runs_joins_it(world: Any) -> None:
    release = asyncio.Event()

    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    world.downstream.answer = answer
    service = await world.executor()
    await world.apply(world.tool())
    grant = world.grant()
    await world.policy.publish(grant)
    await world.until(lambda: len(world.downstream.requests) == 1)
    await world.repeat(grant)
    await asyncio.sleep(0.1)
    release.set()
    event = await world.final(grant)
    assert (event.execution.outcome, event.execution.fence) == ("succeeded", 1)
    await world.until(lambda: not service_holds(service))
    assert len(world.downstream.requests) == 1


def service_holds(service: Any) -> int:
    return sum(len(consumer._held) for consumer in service._consumers)


async def test_nothing_runs_that_audit_does_not_confirm(world: Any) -> None:
    confirmed = asyncio.Event()

    async def recorded(ids: tuple[str, ...]) -> tuple[str, ...]:
        return ids if confirmed.is_set() else ()

    world.recorded = recorded
    await world.executor()
    await world.apply(world.tool())
    grant = world.grant()
    await world.policy.publish(grant)
    await world.until(lambda: len(world.asked) >= 3)
    assert world.downstream.requests == []
    view = await world.row(grant)
    assert view.state in ("authorised", "started") and view.execution is None
    confirmed.set()
    event = await world.final(grant)
    assert isinstance(event, ActionExecuted) and event.execution.fence > 1
    assert len(world.downstream.requests) == 1


async def test_only_what_audit_has_runs(world: Any) -> None:
    first = world.grant()
    second = world.grant()

    async def recorded(ids: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(i for i in ids if i.startswith(first.about()))

    world.recorded = recorded
    await world.executor()
    await world.apply(world.tool())
    await world.policy.publish_all([(first, None), (second, None)])
    await world.final(first)
    await world.until(lambda: sum(f"{second.about()}.granted" in ids for ids in world.asked) >= 2)
    assert [r.headers["idempotency-key"] for r in world.downstream.requests] == [first.about()]


async def test_nothing_runs_while_audit_is_away(world: Any) -> None:
    await world.executor()
    await world.apply(world.tool())
    await world.audit.connection.close()
    grant = world.grant()
    await world.policy.publish(grant)
    with pytest.raises(TimeoutError):
        await world.final(grant, timeout_s=0.7)
    assert world.downstream.requests == []


async def test_what_does_not_fit_is_refused_before_anything_is_called(world: Any) -> None:
    await world.executor()
    await world.apply(world.tool())
    for changes, wanted in (
        ({"tool_version": 2}, "tool_changed"),
        ({"tool": "nope"}, "tool_changed"),
        ({"agent_id": "stranger"}, "unknown_agent"),
        ({"args": {"item": "../admin"}}, "invalid_arguments"),
        ({"args": {"item": "7", "stray": 1}}, "invalid_arguments"),
    ):
        grant = world.grant(**changes)
        assert code(await world.execute(grant)) == wanted
        assert (await world.row(grant)).state == "refused"
    altered = world.make_action(args={"item": "8"})
    grant = world.grant(request_id=altered.request_id).model_copy(update={"action": altered})
    assert code(await world.execute(grant)) == "warrant"
    expired = world.make_grant(world.stack.key("policy"), world.make_action(), lifetime_s=-1)
    assert code(await world.execute(expired)) == "warrant"
    assert world.downstream.requests == []


async def test_a_paused_or_revoked_agents_action_is_refused(world: Any) -> None:
    await world.executor()
    await world.apply(world.tool())
    for revision, status in ((2, "paused"), (3, "revoked")):
        await world.agents.put("bot", world.make_agent(status=status, revision=revision))
        await world.until(lambda status=status: world.executors[0]._mirrors[0].get("bot").status == status)
        assert code(await world.execute(world.grant())) == f"agent_{status}"
    assert world.downstream.requests == []


async def test_another_action_under_a_used_request_id_runs_nothing(world: Any) -> None:
    await world.executor()
    await world.apply(world.tool())
    grant = world.grant()
    await world.execute(grant)
    other = world.grant(request_id=grant.about(), args={"item": "8"})
    await world.repeat(other)
    await world.until(lambda: world.metric("countersign_messages_dead_total", consumer="executor-actions") == 1)
    assert len(world.downstream.requests) == 1


async def test_a_long_call_is_said_to_have_started_and_a_short_one_is_not(world: Any) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        if len(world.downstream.requests) == 2:
            await asyncio.sleep(0.2)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    world.downstream.answer = answer
    await world.executor(started_after_s=0.1)
    await world.apply(world.tool())
    short, long = world.grant(), world.grant()
    await world.execute(short)
    await world.execute(long)
    started = await world.hear(lambda event: isinstance(event, ActionStarted))
    assert isinstance(started, ActionStarted)
    assert (started.about(), started.fence) == (long.about(), 1)
    assert not [e for e in world.heard if isinstance(e, ActionStarted) and e.about() == short.about()]


async def test_facts_are_checked_again_before_the_call(world: Any) -> None:
    customer = {"do_not_contact": False}

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        body = b'{"do_not_contact":true}' if customer["do_not_contact"] else b'{"do_not_contact":false}'
        status = 500 if customer.get("broken") and request.method == "GET" else 200
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    world.downstream.answer = answer
    await world.executor()
    await world.apply(*fact_tools(world))
    assert isinstance(await world.execute(world.grant()), ActionExecuted)
    assert [r.method for r in world.downstream.requests] == ["GET", "POST"]
    assert "idempotency-key" not in world.downstream.requests[0].headers
    customer["do_not_contact"] = True
    refused = await world.execute(world.grant())
    assert code(refused) == "fact"
    assert refused.reasons[0].message == "item 7 must not be touched"
    customer["broken"] = True
    assert code(await world.execute(world.grant())) == "facts_unavailable"
    assert [r.method for r in world.downstream.requests].count("POST") == 1


def fact_tools(world: Any) -> list[Any]:
    look = world.tool(
        name="look",
        effect="read",
        http={"method": "GET", "url": world.downstream.url + "/items/{item}", "body": [], "query": []},
        arguments={
            "type": "object",
            "additionalProperties": False,
            "required": ["item"],
            "properties": {"item": {"type": "string"}},
        },
    )
    fact = {
        "name": "dnc",
        "tool": "look",
        "args": {"item": "{item}"},
        "deny_when": {"path": "do_not_contact", "equals": True},
        "message": "item {item} must not be touched",
    }
    return [look, world.tool(facts=[fact])]


async def test_secrets_reach_the_downstream_and_nothing_else(world: Any, tmp_path: Any) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_text("API_KEY=hunter2hunter2\n")
    secrets.chmod(0o600)

    async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
        body = b"you sent " + request.headers["authorization"].encode()
        writer.write(f"HTTP/1.1 500 X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    world.downstream.answer = answer
    await world.executor(secrets_file=secrets)
    await world.apply(world.tool(http={"headers": {"Authorization": "Bearer ${secret:API_KEY}"}}))
    await world.execute(world.grant())
    assert world.downstream.requests[0].headers["authorization"] == "Bearer hunter2hunter2"
    assert all(b"hunter2" not in body for _, body in world.bodies)
    assert any(b"you sent Bearer ***" in body for _, body in world.bodies)


async def test_a_secret_is_not_sent_where_it_is_not_for(world: Any, tmp_path: Any) -> None:
    (tmp_path / "API_KEY").write_text("hunter2hunter2")
    await world.executor(secrets_file=tmp_path)
    tool = world.tool(http={"headers": {"Authorization": "Bearer ${secret:API_KEY}"}})
    await world.apply(tool)
    # whoever keeps the secrets says where this one may go, after a tool was declared that sends it elsewhere
    (tmp_path / "API_KEY.hosts").write_text("api.example.com\n")
    plan = await world.prepare(tool)
    assert [error.message for error in plan.errors] == ["secret `API_KEY` is not for 127.0.0.1"]
    refused = await world.execute(world.grant())
    assert code(refused) == "secret_withheld"
    assert world.downstream.requests == []
    (tmp_path / "API_KEY.hosts").write_text("127.0.0.1\n")
    await world.apply(tool)
    await world.execute(world.grant())
    assert world.downstream.requests[0].headers["authorization"] == "Bearer hunter2hunter2"


async def test_an_unknown_outcome_is_reconciled_once(world: Any) -> None:
    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    world.downstream.answer = answer
    await world.executor()
    await world.apply(world.tool())
    grant = world.grant()
    event = await world.execute(grant)
    assert isinstance(event, ActionExecuted) and event.execution.outcome == "unknown"
    await world.until(lambda: world.metric("countersign_outcomes_unknown") == 1)

    def found(outcome: Any) -> ReconcileAction:
        return ReconcileAction(request_id=grant.about(), outcome=outcome, by="ada", note="looked")

    view = await world.gateway.ask(found("succeeded"))
    assert (view.state, view.reconciled) == ("unknown", "succeeded")
    reconciled = await world.hear(lambda event: event.spec.name == "reconciled")
    assert (reconciled.outcome, reconciled.by, reconciled.action) == ("succeeded", "ada", grant.action.ref())
    assert (await world.gateway.ask(found("succeeded"))).reconciled == "succeeded"
    with pytest.raises(CountersignError) as other:
        await world.gateway.ask(found("failed"))
    assert other.value.code == "already_final"
    assert len([e for e in world.heard if e.spec.name == "reconciled"]) == 1


async def test_only_an_unknown_outcome_can_be_reconciled(world: Any) -> None:
    await world.executor()
    await world.apply(world.tool())
    grant = world.grant()
    await world.execute(grant)
    for request_id, wanted in ((grant.about(), "conflict"), (world.grant().about(), "not_found")):
        with pytest.raises(CountersignError) as refused:
            await world.gateway.ask(ReconcileAction(request_id=request_id, outcome="failed", by="ada", note="looked"))
        assert refused.value.code == wanted
    with pytest.raises(CountersignError):
        await world.gateway.ask(GetExecution(request_id=world.grant().about()))


async def test_many_at_once_run_once_each_within_the_limits(world: Any) -> None:
    running = peak = 0

    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.01)
        running -= 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    world.downstream.answer = answer
    await world.executor(max_calls_per_host=10, max_grants_in_hand=20)
    await world.apply(world.tool())
    grants = [world.grant() for _ in range(60)]
    await world.policy.publish_all([(grant, None) for grant in grants])
    ends = [await world.final(grant) for grant in grants]
    assert [end for end in ends if end.spec.name != "executed"] == []
    keys = [r.headers["idempotency-key"] for r in world.downstream.requests]
    assert sorted(keys) == sorted(grant.about() for grant in grants)
    assert peak <= 10 and world.downstream.connections <= 10
    assert len(world.asked) < len(grants)
