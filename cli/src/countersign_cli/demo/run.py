"""Sets the stage and plays the acts against a running system."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from countersign_ledger import TrustBundle
from countersign_sdk import Agent

from ..bootstrap import Layout
from ..client import Client
from ..commands.audit import verify_file
from ..embedded.datadir import write_secret
from ..output import console
from . import acts
from .stage import AGENT, APPROVER, COLLEAGUE, ONCALL, SUPPORT, Narrator, Stage, apply, governance


async def play(
    *,
    url: str,
    nats_url: str,
    layout: Layout,
    files: Path,
    ticketing_url: str,
    ungoverned_url: str,
    checkpoints: Path | None,
    called_at: str | None = None,
) -> int:
    """Play all five acts; returns the number of ledger entries verified at the end.

    ``files`` is the example's folder; ``called_at`` is where the executor reaches the ticketing API, if that is not
    ``ticketing_url``. Without ``checkpoints`` the export is verified by itself.
    """
    admin = Client(url, layout.admin_token.read_text().strip())
    await apply(admin, governance(files / "countersign", called_at or ticketing_url))
    creds = layout.root / f"{AGENT}.creds"
    issued = await asyncio.to_thread(admin.post, f"/api/v1/agents/{AGENT}/credentials", {"kinds": ["nats"]})
    write_secret(creds, issued["nats_creds"])
    trust = TrustBundle.from_json(layout.trust.read_text())
    async with aiohttp.ClientSession() as http, Agent.nats(nats_url, creds, trust=trust) as agent:
        stage = Stage(
            narrator=Narrator(),
            admin=admin,
            approver=await _person(admin, APPROVER, SUPPORT),
            colleague=await _person(admin, COLLEAGUE, SUPPORT),
            oncall=await _person(admin, ONCALL),
            agent=agent,
            http=http,
            ticketing_url=ticketing_url,
            ungoverned_url=ungoverned_url,
            rules=governance(files / "approvals", ticketing_url),
            folder=layout.root,
            trust=layout.trust,
            checkpoints=checkpoints,
        )
        await acts.without(stage)
        request_id = await acts.approval(stage)
        await acts.guardrails(stage)
        await acts.stop(stage)
        await acts.trail(stage, request_id)
    report = await asyncio.to_thread(verify_file, layout.root / "ledger-export.jsonl", layout.trust, checkpoints)
    console.print(f"ledger verified: {report.entries} entries")
    return report.entries


async def _person(admin: Client, name: str, *groups: str) -> Client:
    body = {"name": name, "roles": ["approver"], "groups": groups}
    issued = await asyncio.to_thread(admin.post, "/api/v1/people", body)
    return Client(admin.url, issued["token"])
