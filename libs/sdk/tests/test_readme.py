"""The README's agent does what it says, over both ways, against the running product."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[1] / "README.md"
DECLARED = """
kind: tool
name: update_ticket
effect: write
idempotent: true
arguments:
  type: object
  additionalProperties: false
  required: [ticket_id, status]
  properties: {ticket_id: {type: integer}, status: {type: string}}
http: {method: PATCH, url: "URL/tickets/{ticket_id}", path: [ticket_id], body: [status], allow_private: true}
---
kind: profile
name: worker
environments: [prod]
tools: [update_ticket]
"""


@pytest.mark.parametrize("over", ["nats", "http"])
async def test_the_code_in_the_readme_runs(world: Any, over: str, capsys: pytest.CaptureFixture[str]) -> None:
    defined, used = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert (await world.apply({"tickets.yaml": DECLARED}))["errors"] == []
    support: dict[str, Any] = {}
    exec(compile(defined, str(README), "exec"), support)
    # what the reader has at hand: an address, and credentials
    text = used.replace('Agent.nats("nats://127.0.0.1:4222", "support.creds")', "agent_at_hand")
    assert text != used
    body = "".join(f"    {line}\n" for line in text.splitlines())
    exec(compile(f"async def run(agent_at_hand):\n{body}", str(README), "exec"), support)

    class Approving:
        """Stands for the person: approves whatever the agent reports as held."""

        async def __aenter__(self) -> Any:
            self.agent = await world.agent(over=over).__aenter__()
            wait = self.agent.wait

            async def approve_and_wait(request_id: str, timeout_s: float) -> Any:
                await world.vote(await world.approval_of(request_id), "approve")
                return await wait(request_id, timeout_s)

            self.agent.wait = approve_and_wait
            return self.agent

        async def __aexit__(self, *_: object) -> None:
            await self.agent.__aexit__(None, None, None)

    await support["run"](Approving())
    assert capsys.readouterr().out == "held: high risk needs approval\nsucceeded\n"
    assert [(call["method"], call["path"]) for call in world.downstream.calls] == [("PATCH", "/tickets/7")]
