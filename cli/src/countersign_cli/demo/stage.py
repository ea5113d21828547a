"""What the acts play on: a narrator, people with tokens, the governed agent, and the two ticketing systems."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.markup import escape

from countersign_contracts.errors import CountersignError
from countersign_contracts.plain_text import printable
from countersign_sdk import Agent, Outcome

from ..client import Client, segment
from ..commands.apply import read_documents
from ..output import cell

AGENT = "agent-support-001"
#: The agent's own on-call, who may not decide on it, and the person who may.
ONCALL = "oncall-support@example.com"
APPROVER = "alice@example.com"
#: Another one; both are of support.
COLLEAGUE = "bob@example.com"
SUPPORT = "support"


class Narrator:
    """Prints what happens as a person would want to follow it."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)

    def act(self, number: int, title: str, about: str) -> None:
        """A new act."""
        self._console.print(f"\n[bold cyan]Act {number} · {escape(title)}[/]")
        self._console.print(f"[dim]{escape(about)}[/]\n")

    def say(self, text: str) -> None:
        """A line of the story; may hold markup."""
        self._console.print("  " + text)

    def outcome(self, what: str, outcome: Any) -> None:
        """What became of one thing the agent wanted."""
        reason = f" [dim]{escape(printable(str(outcome.reason)))}[/]" if outcome.reason else ""
        self._console.print(f"  {escape(printable(what)):<44} {cell(outcome.state)}{reason}")

    def blank(self) -> None:
        """An empty line."""
        self._console.print()


@dataclass(slots=True)
class Stage:
    """Everything an act needs."""

    narrator: Narrator
    admin: Client
    approver: Client
    colleague: Client
    oncall: Client
    agent: Agent
    http: aiohttp.ClientSession
    ticketing_url: str
    ungoverned_url: str
    rules: list[dict[str, str]]
    folder: Path
    trust: Path
    checkpoints: Path | None

    async def held(self, request_id: str) -> dict[str, Any]:
        """The approval of a held action, once it is asked for."""
        async with asyncio.timeout(10):
            while True:
                page = await asyncio.to_thread(self.approver.get, "/api/v1/approvals", {"request_id": request_id})
                if page["items"]:
                    found: dict[str, Any] = page["items"][0]
                    return found
                await asyncio.sleep(0.02)

    async def waits_for(self, request_id: str, voter: str) -> str:
        """Whom the agent hears that its action waits for, once it heard of a vote."""
        async with asyncio.timeout(10):
            while True:
                approval = (await self.agent.get(request_id)).approval
                if approval is not None and voter in approval["voters"]:
                    return ", ".join(approval["waits_for"])
                await asyncio.sleep(0.02)

    async def vote(self, client: Client, approval: dict[str, Any], vote: str, comment: str) -> None:
        """Vote on exactly what was shown."""
        body = {"vote": vote, "digest": approval["action"]["digest"], "comment": comment, "channel": "cli"}
        await asyncio.to_thread(client.post, f"/api/v1/approvals/{segment(approval['approval_id'])}/votes", body)

    async def call_and_vote(
        self, tool: str, args: dict[str, Any], vote: str, comment: str, *, session_id: str, reason: str
    ) -> Outcome:
        """The agent asks; if the action is held, the approver votes; returns the outcome."""
        accepted = await self.agent.submit(
            tool, args, env="prod", session_id=session_id, on_behalf_of="person:john@example.com", reason=reason
        )
        async with asyncio.timeout(15):
            while (state := await self.agent.get(accepted.request_id)).state not in ("held", *ENDED):
                await asyncio.sleep(0.02)
        if state.state == "held":
            await self.vote(self.approver, await self.held(accepted.request_id), vote, comment)
        return await self.agent.wait(accepted.request_id, 20)

    async def journal(self, url: str) -> list[dict[str, Any]]:
        """What really happened in a ticketing system."""
        async with self.http.get(f"{url}/journal") as response:
            found: list[dict[str, Any]] = await response.json()
            return found


ENDED = ("succeeded", "failed", "unknown", "denied", "expired", "cancelled")


def governance(folder: Path, ticketing_url: str) -> list[dict[str, str]]:
    """The example's declared files, pointed at where its API runs this time."""
    return [
        {"path": document["path"], "text": document["text"].replace("http://127.0.0.1:8000", ticketing_url)}
        for document in read_documents(folder)
    ]


async def apply(admin: Client, documents: list[dict[str, str]]) -> None:
    """`countersign apply`."""
    applied = await asyncio.to_thread(admin.post, "/api/v1/apply", {"documents": documents, "dry_run": False})
    if applied["errors"]:
        raise CountersignError(f"the example's files are not valid: {applied['errors']}")
