"""Traffic: agents over both doors, a person who votes, cancellations and stops. It keeps what was accepted and told."""

from __future__ import annotations

import asyncio
import base64
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from countersign_contracts.actions import FINAL_STATES, ActionResult
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import new_id
from countersign_sdk import Agent

from .declarations import AGENTS, PAIR, SECRET, SESSION_LIMIT, STANDING_USES, documents, rules
from .downstream import CountingDownstream
from .history import Accepted
from .system import NotAnswered, System

#: How often each tool is asked for, in relation to the others.
_WEIGHTS = {
    "look": 2,
    "put_note": 3,
    "pay": 5,
    "dismiss": 1,
    "limited": 1,
    "trim": 1,
    "restock": 1,
    "pair": 0.5,
    "ignored": 0.5,
}
#: What every agent begins with, so that a short run has all of it.
_FIRST = ("pair", "trim", "restock", "restock", "ignored")
#: What nobody answers at once: who asks does not wait for it.
_UNHURRIED = {"dismiss", "pair", "ignored"}

#: The agent that asks for nothing, and is paused and resumed: changes of the fleet are traffic too.
_IDLE_AGENT = AGENTS[2]


@dataclass(frozen=True)
class Pace:
    """How much is asked for: agents at each door, and their mean pause between two actions in seconds."""

    agents_each: int = 2
    pause_s: float = 0.05


def write_webhook_secret(system: System) -> None:
    """The secret that the declared webhook names."""
    secret = "whsec_" + base64.b64encode(b"of no other system than this").decode()
    (system.layout.webhook_secrets / SECRET).write_text(secret)


@dataclass
class Traffic:
    """Started by :meth:`prepare` and :meth:`run`; ``seed`` fixes what is asked for, not when it is answered."""

    system: System
    downstream: CountingDownstream
    seed: int
    pace: Pace = field(default_factory=Pace)
    accepted: list[Accepted] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    """Requests that were answered with a problem, or not at all, by the problem's code."""
    first_refusals: dict[str, str] = field(default_factory=dict)
    """The detail of the first refusal with each code."""
    status_wanted: set[str] = field(default_factory=lambda: {"active"})
    """What the idle agent's status may be: the last one that was confirmed, and those asked for in vain since."""
    _tokens: dict[str, str] = field(default_factory=dict)
    _count: Any = field(default_factory=lambda: itertools.count(1))

    async def prepare(self) -> None:
        """Declare what is governed, issue the agents' credentials, appoint a person who votes."""
        write_webhook_secret(self.system)
        given = {"documents": documents(self.downstream.url), "dry_run": False}
        applied = await self.system.ok("POST", "/api/v1/apply", given)
        assert not applied["errors"], applied["errors"]
        for name in ("vera", "wanda"):
            body = {"name": name, "roles": ["approver"], "groups": [PAIR]}
            self._tokens[name] = (await self.system.ok("POST", "/api/v1/people", body))["token"]
        for agent in AGENTS:
            issued = await self.system.ok("POST", f"/api/v1/agents/{agent}/credentials", {})
            self._tokens[agent] = issued["http_token"]
            (self.system.layout.root / f"{agent}.creds").write_text(issued["nats_creds"])

    async def run(self, until: asyncio.Event) -> None:
        """Keep asking until told to end; what is under way then is ended properly."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(self.pace.agents_each):
                for agent, door in ((AGENTS[0], "nats"), (AGENTS[1], "http")):
                    dice = random.Random(f"{self.seed}.{agent}.{number}")
                    tasks.create_task(self._agent(agent, door, dice, until))
            tasks.create_task(self._voter(until))
            tasks.create_task(self._operator(random.Random(f"{self.seed}.operator"), until))
            tasks.create_task(self._fleet(until))
            tasks.create_task(self._group(until))
            tasks.create_task(self._rules(until))

    def agent(self, agent_id: str, door: str) -> Agent:
        """An agent through the SDK."""
        if door == "http":
            return Agent.http(self.system.url, self._tokens[agent_id])
        return Agent.nats(self.system.nats_url, self.system.layout.root / f"{agent_id}.creds")

    async def probe(self, deadline_s: float) -> bool:
        """Ask for an action ten times a second; whether one that was asked for from now on succeeded in time."""
        done = asyncio.Event()

        async def once() -> None:
            body = {"tool": "look", "args": {"n": next(self._count)}, "env": "dev"}
            try:
                status, answer = await self.system.ask(
                    "POST", "/api/v1/actions", body, token=self._tokens[AGENTS[1]], wait_s=deadline_s
                )
            except NotAnswered:
                return
            if status in (200, 202):
                self._note("look", "http", ActionResult.model_validate(answer), None)
                if answer["state"] == "succeeded":
                    done.set()

        asked: set[asyncio.Task[None]] = set()
        try:
            async with asyncio.timeout(deadline_s):
                while not done.is_set():
                    asked.add(asyncio.create_task(once()))
                    try:
                        async with asyncio.timeout(0.1):
                            await done.wait()
                    except TimeoutError:
                        continue
        except TimeoutError:
            return False
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        return True

    # --- who acts -------------------------------------------------------------------------------------

    async def _agent(self, agent_id: str, door: str, dice: random.Random, until: asyncio.Event) -> None:
        agent = self.agent(agent_id, door)
        session, left = "", 0
        first = iter(_FIRST)
        async with agent:
            while not until.is_set():
                tool = next(first, None) or dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
                if tool == "limited":
                    if left == 0:
                        session, left = f"s-{agent_id}-{next(self._count)}", SESSION_LIMIT + 2
                    left -= 1
                agent.log(f"next is {tool}")
                given: dict[str, Any] = {"session_id": session if tool == "limited" else None}
                await self._act(agent, tool, door, dice, given)
                await asyncio.sleep(dice.random() * 2 * self.pace.pause_s)

    async def _act(self, agent: Agent, tool: str, door: str, dice: random.Random, given: dict[str, Any]) -> None:
        request_id = new_id()
        args = {"n": next(self._count)}
        waits, cancels = dice.random() < 0.7 and tool not in _UNHURRIED, dice.random() < 0.04
        try:
            if waits:
                result = await agent.call(tool, args, env="dev", request_id=request_id, wait_s=5, **given)
            else:
                result = await agent.submit(tool, args, env="dev", request_id=request_id, timeout_s=20, **given)
            self._note(tool, door, result, given["session_id"])
            if cancels and result.state not in FINAL_STATES:
                self._note(tool, door, await agent.cancel(result.request_id, "changed its mind"), None)
        except CountersignError as error:
            self._refused(error.code, error.detail)

    def _refused(self, code: str, detail: str) -> None:
        self.refused[code] += 1
        self.first_refusals.setdefault(code, detail)

    def _note(self, tool: str, door: str, result: ActionResult, session: str | None) -> None:
        self.accepted.append(Accepted(result.request_id, tool, door, result.state, session))
        if result.state in FINAL_STATES:
            self.told.append((result.request_id, result.state))

    async def _voter(self, until: asyncio.Event) -> None:
        while not until.is_set():
            await self.vote_on_all()
            await asyncio.sleep(0.5)

    async def vote_on_all(self) -> None:
        """People vote on everything that waits for them: two times of three yes, each tool's rule made use of."""
        try:
            _, page = await self.system.ask("GET", "/api/v1/approvals?state=pending&limit=50")
            for approval in page.get("items", []):
                await self._vote(approval)
        except NotAnswered:
            pass  # the next round comes soon

    async def _vote(self, approval: dict[str, Any]) -> None:
        action, chance = approval["action"], int(approval["approval_id"][-4:], 16)
        body: dict[str, Any] = {"vote": "approve" if chance % 3 else "reject", "digest": action["digest"]}
        voters = ["vera"]
        match action["tool"]:
            case "ignored":
                return
            case "pair":
                # one at a time: the first vote waits for the other, and may be voided meanwhile
                voted = {vote["voter"] for vote in approval["votes"]}
                body["vote"], voters = "approve", [name for name in ("wanda", "vera") if name not in voted][:1]
            case "trim" if body["vote"] == "approve":
                body["changes"] = {"n": action["args"]["n"] - 1}
            case "restock" if body["vote"] == "approve":
                body["standing"] = {"for_s": 30, "max_uses": STANDING_USES, "resource": "things/*"}
        path = f"/api/v1/approvals/{approval['approval_id']}/votes"
        for voter in voters:
            await self.system.ask("POST", path, body, token=self._tokens[voter])

    async def _group(self, until: asyncio.Event) -> None:
        """Takes a person out of the group that she votes for, and back in: her votes that count so far are voided."""
        groups: list[str] = []
        while not until.is_set():
            await asyncio.sleep(0.7)
            try:
                await self.system.ask("PUT", "/api/v1/people/wanda/groups", {"groups": groups}, timeout_s=3)
            except NotAnswered:
                continue
            groups = [] if groups else [PAIR]
        await self.system.ok("PUT", "/api/v1/people/wanda/groups", {"groups": [PAIR]})

    async def _rules(self, until: asyncio.Event) -> None:
        """Says again who approves what, in other words."""
        for turn in itertools.count(1):
            await asyncio.sleep(1)
            if until.is_set():
                return
            try:
                body = {"documents": rules(turn), "dry_run": False}
                await self.system.ask("POST", "/api/v1/apply", body, timeout_s=10)
            except NotAnswered:
                continue  # half applied, it goes on by itself

    async def _operator(self, dice: random.Random, until: asyncio.Event) -> None:
        """Now and then stops one tool for a moment."""
        while not until.is_set():
            try:
                async with asyncio.timeout(2 + 4 * dice.random()):
                    await until.wait()
                return
            except TimeoutError:
                pass
            try:
                body = {"scope": "tool:put_note", "reason": "a look at it"}
                status, _ = await self.system.ask("POST", "/api/v1/stops", body)
                if status == 201:
                    await asyncio.sleep(0.3)
            except NotAnswered:
                continue  # it may be in force: lift_all finds it
            await self.lift_all()

    async def _fleet(self, until: asyncio.Event) -> None:
        """Pauses and resumes an agent all the time."""
        verb, status = "pause", "paused"
        while not until.is_set():
            self.status_wanted.add(status)
            try:
                path, body = f"/api/v1/agents/{_IDLE_AGENT}/{verb}", {"reason": "a look at it"}
                code, answer = await self.system.ask("POST", path, body, timeout_s=3)
                if code == 200:
                    self.status_wanted = {status}
                    verb, status = ("resume", "active") if verb == "pause" else ("pause", "paused")
                else:
                    self._refused(answer["type"].rsplit(":", 1)[1], answer["detail"])
            except NotAnswered:
                pass  # it may have been done: both count until one is confirmed
            await asyncio.sleep(0.3)

    async def status_now(self) -> str:
        """The idle agent's status."""
        found: str = (await self.system.ok("GET", f"/api/v1/agents/{_IDLE_AGENT}"))["agent"]["status"]
        return found

    async def lift_all(self) -> None:
        """Lift every stop."""
        try:
            _, found = await self.system.ask("GET", "/api/v1/stops")
            for stop in found.get("items", []):
                await self.system.ask("DELETE", f"/api/v1/stops/{stop['stop_id']}")
        except NotAnswered:
            pass
