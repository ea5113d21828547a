"""The whole product in one process on real servers: six services, a counting business system, agents and people."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Self

import aiohttp

from countersign_chassis import Failpoints
from countersign_contracts.event import CORE_SERVICES
from countersign_sdk import Agent

from .downstream import Downstream
from .stack import Stack

TOOLS = """
kind: tool
name: read_thing
effect: read
idempotent: true
resource: things/{thing_id}
arguments:
  type: object
  additionalProperties: false
  required: [thing_id]
  properties: {thing_id: {type: integer, minimum: 1}}
http: {method: GET, url: "URL/things/{thing_id}", path: [thing_id], allow_private: true}
---
kind: tool
name: write_thing
effect: write
idempotent: false
resource: things/{thing_id}
arguments:
  type: object
  additionalProperties: false
  required: [thing_id]
  properties:
    thing_id: {type: integer, minimum: 1}
    status: {type: string, maxLength: 2000}
    note: {type: string}
http:
  method: PATCH
  url: URL/things/{thing_id}
  path: [thing_id]
  body: [status, note]
  allow_private: true
  timeout_s: 5
---
kind: tool
name: send_message
effect: external
idempotent: true
resource: messages/{to}
arguments:
  type: object
  additionalProperties: false
  required: [to]
  properties: {to: {type: integer}, text: {type: string}}
http: {method: POST, url: "URL/messages/{to}", path: [to], body: [text], allow_private: true}
"""
PROFILES = """
kind: profile
name: worker
environments: [dev, prod]
tools: [read_thing, write_thing, send_message]
fields: {write_thing: [status]}
guardrails:
  - {kind: session_calls, name: writes per run, tools: [write_thing], limit: 5}
approval_deadline_s: 3600
---
kind: profile
name: hurried
environments: [dev, prod]
tools: [write_thing]
approval_deadline_s: 1
"""
AGENTS = """
kind: agent
agent_id: worker-1
name: Worker
owner: {team: ops, oncall: carol@example.com}
profile: worker
environments: [dev, prod]
---
kind: agent
agent_id: worker-2
name: Another worker
owner: {team: ops}
profile: hurried
environments: [dev, prod]
"""


_ENDS = ("actions.executed", "actions.denied", "actions.cancelled", "actions.refused", "actions.reconciled")


class World:
    """``async with`` it, and start it whole with :meth:`start` or its door alone with :meth:`start_door`.

    ``http`` carries the gateway's API.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.downstream = Downstream()
        self.services: dict[str, Any] = {}
        self.http = aiohttp.ClientSession()
        self.scheme = "http"
        self.url = ""
        self.tokens: dict[str, str] = {}
        self.creds: dict[str, Path] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(
        self,
        failpoints: dict[str, Failpoints] | None = None,
        overrides: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        """Start everything, apply the declarations, add people, issue credentials."""
        await self.downstream.start()
        names = [name for name in CORE_SERVICES if name != "gateway"]
        started = await asyncio.gather(*(self._start(name, failpoints, overrides) for name in names))
        self.services = dict(zip(names, started, strict=True))
        self.services["gateway"] = await self._start("gateway", failpoints, overrides)
        self._use(self.services["gateway"])
        result = await self.apply({"tools.yaml": TOOLS, "profiles.yaml": PROFILES, "agents.yaml": AGENTS})
        assert result["errors"] == [], result
        for name in ("alice", "bob", "carol@example.com"):
            await self.add_person(name, "approver")
        for agent in ("worker-1", "worker-2"):
            await self.issue(agent)

    async def start_door(self, **gateway: Any) -> None:
        """Start the registry and the gateway alone: who may come in is known, and nothing is decided."""
        self.services["registry"] = await self.stack.service("registry")
        await self.open_gateway(**gateway)

    async def open_gateway(self, **settings: Any) -> Any:
        """Start a gateway, and go through it from now on."""
        self.services["gateway"] = await self.stack.service("gateway", **settings)
        self._use(self.services["gateway"])
        return self.services["gateway"]

    def _use(self, gateway: Any) -> None:
        self.url = f"{self.scheme}://127.0.0.1:{gateway.http.port}"
        self.tokens["admin"] = self.stack.layout.admin_token.read_text().strip()

    async def add_person(self, name: str, role: str, **more: Any) -> None:
        """Add a person, whose token is kept."""
        added = await self.ok("POST", "/api/v1/people", {"name": name, "roles": [role], **more})
        self.tokens[name] = added["token"]

    async def add_agent(self, agent_id: str = "bot", **more: Any) -> None:
        """Register an agent, whose credentials are kept."""
        body = {"agent_id": agent_id, "name": "Bot", "owner": {"team": "t"}, "profile": "p", "environments": ["dev"]}
        await self.ok("POST", "/api/v1/agents", body | more)
        await self.issue(agent_id)

    async def issue(self, agent_id: str) -> None:
        """Issue credentials to an agent, for HTTP and for NATS, and keep them."""
        issued = await self.ok("POST", f"/api/v1/agents/{agent_id}/credentials", {})
        self.tokens[agent_id] = issued["http_token"]
        self.creds[agent_id] = self.stack.layout.root / f"{agent_id}.creds"
        self.creds[agent_id].write_text(issued["nats_creds"])

    async def _start(self, name: str, failpoints: Any, overrides: Any) -> Any:
        return await self.stack.service(name, (failpoints or {}).get(name), **(overrides or {}).get(name, {}))

    async def stop(self) -> None:
        """Close what the stack does not own."""
        await self.http.close()
        await self.downstream.stop()

    def agent(self, agent_id: str = "worker-1", *, over: str = "nats") -> Agent:
        """An agent through the SDK."""
        if over == "http":
            return Agent.http(self.url, self.tokens[agent_id])
        return Agent.nats(self.stack.nats_url, self.creds[agent_id], trust=self.stack.trust())

    async def apply(self, files: dict[str, str], *, dry_run: bool = False) -> Any:
        """`countersign apply`."""
        documents = [
            {"path": path, "text": text.replace("URL", f"http://127.0.0.1:{self.downstream.port}")}
            for path, text in files.items()
        ]
        return await self.ok("POST", "/api/v1/apply", {"documents": documents, "dry_run": dry_run})

    async def request(
        self, method: str, path: str, body: Any = None, *, as_: str = "admin", headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON body and headers of one request."""
        given = {"Authorization": f"Bearer {self.tokens[as_]}"} if as_ else {}
        async with self.http.request(method, self.url + path, json=body, headers=given | (headers or {})) as response:
            raw = await response.read()
            return response.status, (await response.json(content_type=None)) if raw else None, dict(response.headers)

    async def ok(self, method: str, path: str, body: Any = None, *, as_: str = "admin") -> Any:
        """The body of a request that must succeed."""
        status, answer, _ = await self.request(method, path, body, as_=as_)
        assert status < 300, (status, answer)
        return answer

    async def submit(
        self, tool: str, args: dict[str, Any], *, env: str = "dev", as_: str = "worker-1", wait: float = 15, **more: Any
    ) -> Any:
        """Ask for an action over HTTP and wait for its outcome."""
        body = {"tool": tool, "args": args, "env": env, **more}
        headers = {"Prefer": f"wait={wait}"} if wait else {}
        status, answer, _ = await self.request("POST", "/api/v1/actions", body, as_=as_, headers=headers)
        assert status in (200, 202), (status, answer)
        return answer

    async def state(self, request_id: str) -> str:
        """The action's state."""
        found: str = (await self.ok("GET", f"/api/v1/actions/{request_id}"))["state"]
        return found

    async def until(self, request_id: str, *states: str, seconds: float = 15) -> str:
        """Wait until the action is in one of ``states``."""
        async with asyncio.timeout(seconds):
            while (state := await self.state(request_id)) not in states:
                await asyncio.sleep(0.02)
        return state

    async def approval_of(self, request_id: str, seconds: float = 10) -> Any:
        """The approval of a held action."""
        async with asyncio.timeout(seconds):
            while not (page := await self.ok("GET", f"/api/v1/approvals?request_id={request_id}"))["items"]:
                await asyncio.sleep(0.02)
        return page["items"][0]

    async def vote(self, approval: Any, vote: str, *, as_: str = "alice", digest: str | None = None) -> tuple[int, Any]:
        """Vote; the status and the answer."""
        body = {"vote": vote, "digest": digest or approval["action"]["digest"]}
        status, answer, _ = await self.request(
            "POST", f"/api/v1/approvals/{approval['approval_id']}/votes", body, as_=as_
        )
        return status, answer

    async def trail(self, request_id: str) -> list[Any]:
        """The ledger's entries about an action that has ended; its end is there a moment after the answer."""
        async with asyncio.timeout(5):
            while True:
                found: list[Any] = (await self.ok("GET", f"/api/v1/audit/timeline?request_id={request_id}"))["items"]
                if found and found[-1]["kind"] in _ENDS:
                    return found
                await asyncio.sleep(0.01)
