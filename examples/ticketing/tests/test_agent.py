"""The over-eager agent: what it wants, the harm it does on its own, and how little governing it takes."""

from dataclasses import dataclass, field
from typing import Any

import aiohttp

from ticketing.agent import DirectDesk, GovernedDesk, Step, plan, work_queue
from ticketing.seed import AMBIGUOUS, CUSTOMERS, TICKETS

HOPEFUL_TICKETS = [2, 3, 4, 5, 7, 8, 10, 12]
OPEN = [row.ticket.model_dump(mode="json") for row in TICKETS if row.ticket.status == "open"]


def updated(steps: list[Step]) -> list[int]:
    """The tickets whose closing was tried, in order."""
    return [step.intent.args["ticket_id"] for step in steps if step.intent.tool == "update_ticket"]


def test_it_wants_to_close_everything_hopeful_and_to_write_to_everybody() -> None:
    wanted = plan(OPEN)
    assert [i.args["ticket_id"] for i in wanted if i.tool == "update_ticket"] == HOPEFUL_TICKETS
    assert {i.args["status"] for i in wanted if i.tool == "update_ticket"} == {"closed"}
    assert [i.args["customer_id"] for i in wanted if i.tool == "send_customer_email"] == [1, 2]


def test_the_queue_has_enough_hopeful_tickets_to_reach_a_limit_of_five_and_to_do_harm() -> None:
    assert len(HOPEFUL_TICKETS) > 5
    assert sorted(AMBIGUOUS) == [3, 7, 10, 12]
    assert set(HOPEFUL_TICKETS) > AMBIGUOUS
    assert [customer.do_not_contact for customer in CUSTOMERS] == [False, True]


def test_it_leaves_alone_what_shows_no_hope_and_copes_with_a_missing_description() -> None:
    ticket = {"id": 1, "customer_id": 1, "title": "Issue", "description": None}
    assert [intent.tool for intent in plan([ticket])] == ["send_customer_email"]
    assert plan([]) == []


async def test_without_a_control_layer_the_harm_happens(spawn: Any) -> None:
    api = (await spawn()).api
    told: list[Step] = []
    steps = await work_queue(DirectDesk(api.http, api.url), told.append)
    assert told == steps
    assert {step.outcome.state for step in steps} == {"succeeded"}
    journal = await api.journal()
    closed = [int(e["resource"].removeprefix("tickets/")) for e in journal if e["effect"] == "ticket_updated"]
    assert closed == HOPEFUL_TICKETS
    emailed = [entry["resource"] for entry in journal if entry["effect"] == "email_sent"]
    assert emailed == ["customers/1", "customers/2"]
    assert all(entry["idempotency_key"] is None for entry in journal)


async def test_a_refused_call_fails_with_the_apis_reason(api: Any) -> None:
    outcome = await DirectDesk(api.http, api.url).update_ticket(ticket_id=99, status="closed", reason="")
    assert (outcome.state, outcome.reason) == ("failed", "there is no ticket 99")


async def test_nobody_there_is_a_failure_and_ends_the_work(unused_port: int) -> None:
    async with aiohttp.ClientSession() as http:
        [step] = await work_queue(DirectDesk(http, f"http://127.0.0.1:{unused_port}"))
    assert (step.intent.tool, step.outcome.state) == ("list_tickets", "failed")


async def test_an_answer_lost_on_the_way_is_unknown(dropping_port: int) -> None:
    async with aiohttp.ClientSession() as http:
        desk = DirectDesk(http, f"http://127.0.0.1:{dropping_port}")
        outcome = await desk.update_ticket(ticket_id=1, status="closed", reason="")
    assert outcome.state == "unknown"


@dataclass(frozen=True)
class Answer:
    state: str
    result: Any = None
    reason: str | None = None


@dataclass
class RecordingAgent:
    """Takes the place of the SDK's agent: allows looking, refuses everything else."""

    calls: list[dict[str, Any]] = field(default_factory=list)

    async def call(self, tool: str, args: dict[str, Any], **how: Any) -> Answer:
        self.calls.append({"tool": tool, "args": args, **how})
        if tool == "list_tickets":
            return Answer("succeeded", OPEN)
        return Answer("denied", reason="not today")


async def test_the_governed_desk_makes_each_tool_one_call_of_the_agent() -> None:
    agent = RecordingAgent()
    desk = GovernedDesk(agent, env="prod", session_id="s-1", on_behalf_of=("person:ada",), wait_s=2)
    steps = await work_queue(desk)
    assert [(call["tool"], call["args"], call["reason"]) for call in agent.calls] == [
        (step.intent.tool, step.intent.args, step.intent.reason) for step in steps
    ]
    how = {"env": "prod", "session_id": "s-1", "on_behalf_of": ("person:ada",), "wait_s": 2}
    assert all(how.items() <= call.items() for call in agent.calls)


async def test_a_refusal_does_not_stop_it() -> None:
    steps = await work_queue(GovernedDesk(RecordingAgent(), env="prod"))
    assert updated(steps) == HOPEFUL_TICKETS
    assert {(s.outcome.state, s.outcome.reason) for s in steps[1:]} == {("denied", "not today")}
