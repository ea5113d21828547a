"""The support agent: works the queue of open tickets, and means well.

It is over-eager on purpose. It takes any hopeful word for a solved problem, so it also closes tickets that
are not solved, and it writes to every customer, also to one who asked not to be contacted. Plain
deterministic Python, no language model: what goes wrong here goes wrong in every run.

`plan` decides what the agent wants, purely. A `Desk` is its hands: `DirectDesk` goes straight to the business
API, `GovernedDesk` asks Countersign. The rest of the agent is the same for both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, assert_never

import aiohttp

from ticketing.model import Status

HOPEFUL = ("solved", "can close", "all good", "works now", "fixed", "gone now", "thanks")
SUBJECT = "Your tickets have been resolved"


class Outcome(Protocol):
    """What became of one tool call; countersign_sdk's outcome has this shape.

    `state` is `succeeded`, `failed`, `unknown`, or what Countersign made of the action (`denied`, `held`...).
    """

    @property
    def state(self) -> str: ...
    @property
    def result(self) -> Any: ...
    @property
    def reason(self) -> str | None: ...


class Desk(Protocol):
    """The agent's tools. `reason` says why the agent wants it, for whoever has to agree."""

    async def list_tickets(self, *, status: Status, reason: str) -> Outcome:
        """The tickets of one status, as the API lists them."""

    async def update_ticket(self, *, ticket_id: int, status: Status, reason: str) -> Outcome:
        """Set a ticket's status."""

    async def send_customer_email(self, *, customer_id: int, subject: str, body: str, reason: str) -> Outcome:
        """Write to a customer."""


@dataclass(frozen=True)
class DirectOutcome:
    """What the business API answered."""

    state: Literal["succeeded", "failed", "unknown"]
    result: Any = None
    reason: str | None = None


class DirectDesk:
    """No control layer: every tool is an HTTP call to the business API, and `reason` reaches nobody."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url.rstrip("/")

    async def list_tickets(self, *, status: Status, reason: str) -> Outcome:
        return await self._call("GET", "/tickets", params={"status": status})

    async def update_ticket(self, *, ticket_id: int, status: Status, reason: str) -> Outcome:
        return await self._call("PATCH", f"/tickets/{ticket_id}", json={"status": status})

    async def send_customer_email(self, *, customer_id: int, subject: str, body: str, reason: str) -> Outcome:
        return await self._call("POST", f"/customers/{customer_id}/email", json={"subject": subject, "body": body})

    async def _call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        json: dict[str, str] | None = None,
    ) -> DirectOutcome:
        try:
            async with self._http.request(method, self._url + path, params=params, json=json) as response:
                answer = await response.json(content_type=None)
        except aiohttp.ClientConnectorError as error:
            return DirectOutcome("failed", reason=str(error))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            # The request was sent and no answer understood: the effect may or may not have happened.
            return DirectOutcome("unknown", reason=str(error) or type(error).__name__)
        if response.ok:
            return DirectOutcome("succeeded", answer)
        reason = answer.get("detail") if isinstance(answer, dict) else None
        return DirectOutcome("failed", answer, reason or f"HTTP {response.status}")


class Agent(Protocol):
    """The part of countersign_sdk's Agent that the desk uses."""

    async def call(
        self,
        tool: str,
        args: dict[str, Any],
        /,
        *,
        env: str,
        session_id: str | None = None,
        on_behalf_of: Any = None,
        reason: str | None = None,
        wait_s: float = 25,
    ) -> Outcome:
        """Ask for one action and wait up to `wait_s` seconds for its outcome."""


class GovernedDesk:
    """Under Countersign: the same tools, each through one call of the agent's SDK."""

    def __init__(
        self,
        agent: Agent,
        *,
        env: str,
        session_id: str | None = None,
        on_behalf_of: Any = None,
        wait_s: float = 25,
    ) -> None:
        self._agent = agent
        self._env = env
        self._session_id = session_id
        self._on_behalf_of = on_behalf_of
        self._wait_s = wait_s

    async def list_tickets(self, *, status: Status, reason: str) -> Outcome:
        return await self._call("list_tickets", {"status": status}, reason)

    async def update_ticket(self, *, ticket_id: int, status: Status, reason: str) -> Outcome:
        return await self._call("update_ticket", {"ticket_id": ticket_id, "status": status}, reason)

    async def send_customer_email(self, *, customer_id: int, subject: str, body: str, reason: str) -> Outcome:
        args = {"customer_id": customer_id, "subject": subject, "body": body}
        return await self._call("send_customer_email", args, reason)

    async def _call(self, tool: str, args: dict[str, Any], reason: str) -> Outcome:
        return await self._agent.call(
            tool,
            args,
            env=self._env,
            session_id=self._session_id,
            on_behalf_of=self._on_behalf_of,
            reason=reason,
            wait_s=self._wait_s,
        )


@dataclass(frozen=True)
class Intent:
    """One thing the agent wants to do, and why."""

    tool: Literal["list_tickets", "update_ticket", "send_customer_email"]
    args: Mapping[str, Any]
    reason: str


@dataclass(frozen=True)
class Step:
    """One thing the agent tried, and what became of it."""

    intent: Intent
    outcome: Outcome


LOOK = Intent("list_tickets", {"status": "open"}, "see what is open")


def plan(tickets: Sequence[Mapping[str, Any]]) -> list[Intent]:
    """What the agent wants, given the open tickets: close every hopeful one, then write to every customer."""
    wanted: list[Intent] = []
    for ticket in tickets:
        text = f"{ticket['title']} {ticket['description'] or ''}".lower()
        sign = next((phrase for phrase in HOPEFUL if phrase in text), None)
        if sign is not None:
            reason = f"the customer says {sign!r}"
            wanted.append(Intent("update_ticket", {"ticket_id": ticket["id"], "status": "closed"}, reason))
    for customer_id in sorted({ticket["customer_id"] for ticket in tickets}):
        numbers = ", ".join(f"#{ticket['id']}" for ticket in tickets if ticket["customer_id"] == customer_id)
        body = f"Thank you for your patience. We have taken care of {numbers}."
        args = {"customer_id": customer_id, "subject": SUBJECT, "body": body}
        wanted.append(Intent("send_customer_email", args, f"tell customer {customer_id} the good news"))
    return wanted


async def perform(desk: Desk, intent: Intent) -> Step:
    """Do one thing, and say what became of it."""
    match intent.tool:
        case "list_tickets":
            outcome = await desk.list_tickets(**intent.args, reason=intent.reason)
        case "update_ticket":
            outcome = await desk.update_ticket(**intent.args, reason=intent.reason)
        case "send_customer_email":
            outcome = await desk.send_customer_email(**intent.args, reason=intent.reason)
        case _:
            assert_never(intent.tool)
    return Step(intent, outcome)


async def work_queue(desk: Desk, tell: Callable[[Step], None] | None = None) -> list[Step]:
    """Look at the open tickets and do everything `plan` wants; `tell` hears of each step as it ends.

    A refusal does not stop the agent: it goes on with the next thing. If it may not even look, it ends there.
    """
    steps: list[Step] = []

    async def step(intent: Intent) -> Step:
        done = await perform(desk, intent)
        steps.append(done)
        if tell is not None:
            tell(done)
        return done

    seen = (await step(LOOK)).outcome
    if seen.state == "succeeded":
        for intent in plan(seen.result):
            await step(intent)
    return steps
