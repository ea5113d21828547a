"""The five acts. Each returns when its story is told; what it claims, it has checked."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

from rich.markup import escape

from countersign_contracts.errors import CountersignError
from ticketing.agent import DirectDesk, Step, plan, work_queue
from ticketing.seed import AMBIGUOUS

from ..client import Client
from ..commands.audit import export_lines, verify_file
from .stage import APPROVER, COLLEAGUE, ONCALL, Stage, apply


class StoryBroken(CountersignError):
    """The demonstration did not go as it must; nothing is glossed over."""


def require(condition: bool, claim: str) -> None:
    """A claim of the story that must hold."""
    if not condition:
        raise StoryBroken(f"the demonstration expected that {claim}; this is a defect, please report it")


async def without(stage: Stage) -> None:
    """Act 1: the agent acts directly; the harm is real."""
    stage.narrator.act(
        1, "Without a control layer", "An eager support agent works the queue, straight against the business API."
    )
    steps = await work_queue(DirectDesk(stage.http, stage.ungoverned_url), lambda step: _tell(stage, step))
    journal = await stage.journal(stage.ungoverned_url)
    closed = [e for e in journal if e["effect"] == "ticket_updated"]
    emails = [e for e in journal if e["effect"] == "email_sent"]
    wrong = sorted(int(e["resource"].split("/")[1]) for e in closed if int(e["resource"].split("/")[1]) in AMBIGUOUS)
    stage.narrator.blank()
    stage.narrator.say(
        f"[red]The harm:[/] {len(closed)} tickets closed in one run, {len(wrong)} of them unresolved ({_ids(wrong)});"
    )
    stage.narrator.say(f"{len(emails)} emails sent, one to a customer who asked not to be contacted. Nobody was asked,")
    stage.narrator.say("nothing could stop it, and nothing says who did it.")
    require(bool(wrong) and len(emails) == 2 and len(steps) > 5, "the ungoverned agent does harm")


async def approval(stage: Stage) -> str:
    """Act 2: what production needs waits for people. Returns the request id of the action that two approved."""
    stage.narrator.act(
        2, "Approval", "The same agent, through Countersign: one call around each tool. Writes in prod need a person."
    )
    asked = await stage.agent.submit(
        "update_ticket",
        {"ticket_id": 2, "status": "closed"},
        env="prod",
        session_id="demo-approval",
        on_behalf_of="person:john@example.com",
        reason="the customer says 'solved'",
    )
    found = await stage.held(asked.request_id)
    stage.narrator.say("the agent asks:    update_ticket(ticket_id=2, status='closed') in prod")
    stage.narrator.say(f"policy says:       [yellow]held[/] — {escape(_reasons(found))}")
    stage.narrator.say(f"people are asked:  {found['approval_id']}")
    stage.narrator.say(f"   arguments       {json.dumps(found['action']['args'])}")
    stage.narrator.say(f"   digest          {found['action']['digest']}")
    require(not await stage.journal(stage.ticketing_url), "nothing runs while an action waits")
    try:
        await stage.vote(stage.oncall, found, "approve", "it is my agent, trust me")
    except CountersignError as refusal:
        stage.narrator.say(f"{ONCALL} votes:  [red]refused[/] — {escape(refusal.detail)}")
    else:
        raise StoryBroken("an agent's own on-call could approve")
    await stage.vote(stage.approver, found, "approve", "checked with the customer")
    outcome = await stage.agent.wait(asked.request_id, 15)
    stage.narrator.say(f"{APPROVER} votes:  approve, for exactly that digest")
    stage.narrator.outcome("→ executed", outcome)
    require(outcome.state == "succeeded" and len(await stage.journal(stage.ticketing_url)) == 1, "it runs once")
    stage.narrator.blank()
    rejected = await stage.call_and_vote(
        "update_ticket",
        {"ticket_id": 3, "status": "closed"},
        "reject",
        "the second charge is still open",
        session_id="demo-approval",
        reason="the customer says 'gone'",
    )
    stage.narrator.say("the agent asks to close ticket 3, which is not solved; alice rejects:")
    stage.narrator.outcome("→ not executed", rejected)
    require(
        rejected.state == "denied" and len(await stage.journal(stage.ticketing_url)) == 1, "a rejected one does not"
    )
    stage.narrator.blank()
    await apply(stage.admin, stage.rules)
    stage.narrator.say("Rules say who approves what:  [bold]countersign apply examples/ticketing/approvals[/]")
    request_id = await _quorum(stage)
    await _expiry(stage)
    return request_id


async def _quorum(stage: Stage) -> str:
    """An email needs two people of support; the agent hears whom it waits for."""
    asked = await stage.agent.submit(
        "send_customer_email",
        {"customer_id": 1, "subject": "Your password reset", "body": "It was in the spam folder. Is all well now?"},
        env="prod",
        session_id="demo-approval",
        on_behalf_of="person:john@example.com",
        reason="to be sure",
    )
    found = await stage.held(asked.request_id)
    stage.narrator.say(f"the agent asks:    {escape(found['preview'])}")
    stage.narrator.say(f"it waits for:      [yellow]{escape(', '.join(found['waits_for']))}[/]")
    await stage.vote(stage.approver, found, "approve", "kind of it to ask")
    stage.narrator.say(f"{APPROVER} votes:  approve")
    more = await stage.waits_for(asked.request_id, APPROVER)
    stage.narrator.say(f"the agent hears:   it waits for [yellow]{escape(more)}[/]")
    await stage.vote(stage.approver, found, "approve", "once more, to be sure")
    require(await stage.waits_for(asked.request_id, APPROVER) == more, "a person counts once")
    require(len(await stage.journal(stage.ticketing_url)) == 1, "one of two does not suffice")
    await stage.vote(stage.colleague, found, "approve", "John is my customer")
    stage.narrator.say(f"{COLLEAGUE} votes:    approve")
    outcome = await stage.agent.wait(asked.request_id, 15)
    stage.narrator.outcome("→ executed", outcome)
    require(outcome.state == "succeeded" and len(await stage.journal(stage.ticketing_url)) == 2, "two suffice, once")
    return asked.request_id


async def _expiry(stage: Stage) -> None:
    """Nobody answers: at the deadline the answer is no."""
    stage.narrator.blank()
    asked = await stage.agent.submit(
        "update_ticket", {"ticket_id": 4, "status": "resolved"}, env="prod", session_id="demo-approval"
    )
    await stage.held(asked.request_id)
    stage.narrator.say("the agent asks to resolve ticket 4; the rule gives people two seconds, and nobody is there:")
    outcome = await stage.agent.wait(asked.request_id, 15)
    stage.narrator.outcome("→ not executed", outcome)
    require(
        outcome.state == "expired" and len(await stage.journal(stage.ticketing_url)) == 2, "no answer in time is a no"
    )


async def guardrails(stage: Stage) -> None:
    """Act 3: limits that no approval lifts."""
    stage.narrator.act(
        3,
        "Guardrails",
        "Even with an approver who says yes to everything: five updates a run, and do-not-contact holds.",
    )
    async with stage.http.get(f"{stage.ticketing_url}/tickets", params={"status": "open"}) as response:
        wanted = plan(await response.json())
    updates = 0
    refused = 0
    for intent in wanted:
        if intent.tool == "send_customer_email" and intent.args["customer_id"] != 2:
            continue
        outcome = await stage.call_and_vote(
            intent.tool,
            dict(intent.args),
            "approve",
            "fine",
            session_id="demo-guardrails",
            reason=intent.reason,
        )
        stage.narrator.outcome(_what(intent.tool, dict(intent.args)), outcome)
        updates += intent.tool == "update_ticket" and outcome.state == "succeeded"
        refused += outcome.state == "denied"
    emails = [e["resource"] for e in await stage.journal(stage.ticketing_url) if e["effect"] == "email_sent"]
    to_jane = any(resource.startswith("customers/2/") for resource in emails)
    require(updates == 5 and refused >= 2 and not to_jane, "the sixth update and the email are refused")


async def stop(stage: Stage) -> None:
    """Act 4: one order halts everything, even what a person approves afterwards."""
    stage.narrator.act(4, "Kill switch", "Something looks wrong. One order stops everything at once.")
    before = len(await stage.journal(stage.ticketing_url))
    waiting = await stage.agent.submit(
        "update_ticket", {"ticket_id": 1, "status": "in_progress"}, env="prod", session_id="demo-stop"
    )
    found = await stage.held(waiting.request_id)
    stage.narrator.say("an update of ticket 1 waits for approval")
    order = await asyncio.to_thread(
        stage.admin.post, "/api/v1/stops", {"scope": "all", "reason": "incident 4711: the agent misbehaves"}
    )
    stage.narrator.say(f"admin:  countersign stops set --scope all   [bold red]stopped[/] ({order['stop_id']})")
    await stage.vote(stage.approver, found, "approve", "I had not heard of the incident")
    outcome = await stage.agent.wait(waiting.request_id, 15)
    stage.narrator.outcome("→ approved all the same", outcome)
    look = await stage.agent.call("list_tickets", {"status": "open"}, env="prod", session_id="demo-stop")
    stage.narrator.outcome("→ even reading", look)
    require(outcome.state == "denied" and look.state == "denied", "a stop halts what was approved, and reads")
    require(len(await stage.journal(stage.ticketing_url)) == before, "nothing happens downstream under a stop")
    await asyncio.to_thread(stage.admin.delete, f"/api/v1/stops/{order['stop_id']}")
    again = await stage.agent.call("list_tickets", {"status": "open"}, env="prod", session_id="demo-stop")
    stage.narrator.outcome("lifted; the agent reads again", again)
    require(again.state == "succeeded", "a lifted stop stops nothing")


async def trail(stage: Stage, request_id: str) -> None:
    """Act 5: the ledger answers, and cannot be quietly changed."""
    stage.narrator.act(5, "The trail", f"Six questions about action {request_id}, answered from the ledger.")
    found = await asyncio.to_thread(stage.admin.get, "/api/v1/audit/timeline", {"request_id": request_id})
    by_kind = {item["kind"]: item for item in found["items"]}
    requested, resolved = by_kind["actions.requested"]["body"], by_kind["approvals.resolved"]["body"]
    granted, executed = by_kind["actions.granted"]["body"], by_kind["actions.executed"]
    action, run = requested["action"], executed["body"]["execution"]
    votes = "; ".join(f"{v['voter']} by {v['channel']}: {v.get('comment', '')}" for v in resolved["votes"])
    for question, answer in (
        ("who acted?", f"{action['agent_id']}, for {', '.join(action['principal_chain'])}"),
        ("what did it attempt?", f"{action['tool']} {json.dumps(action['args'])} in {action['env']}"),
        ("why was it allowed?", f"{_reasons(granted)} (policies: {', '.join(granted['decision']['policies'])})"),
        ("when?", f"asked {action['requested_at'][:19]}Z, executed {run['finished_at'][:19]}Z"),
        ("who approved?", votes),
        ("what ran?", f"{run['outcome']}, HTTP {run['status_code']}, response sha256 {run['response_sha256'][:16]}…"),
    ):
        stage.narrator.say(f"[bold]{question:<22}[/]{escape(answer)}")
    grant, effect = by_kind["actions.granted"]["seq"], executed["seq"]
    stage.narrator.say(f"[dim]the grant is entry {grant}, on record before the effect, entry {effect}[/]")
    stage.narrator.blank()
    export = stage.folder / "ledger-export.jsonl"
    await asyncio.to_thread(write_export, stage.admin, export)
    tampered = stage.folder / "ledger-tampered.jsonl"
    seq = tamper(export, tampered, by_kind["approvals.resolved"]["seq"])
    report = await asyncio.to_thread(verify_file, tampered, stage.trust, stage.checkpoints)
    stage.narrator.say(f"somebody changes entry {seq} of a copy: one byte of who approved. The verifier says:")
    for finding in report.findings[:2]:
        stage.narrator.say(f"[red]entry {finding.seq}[/]: {escape(finding.message)}")
    require(not report.ok and any(f.seq == seq for f in report.findings), "tampering is found, with its sequence")
    report = await asyncio.to_thread(verify_file, export, stage.trust, stage.checkpoints)
    require(report.ok, "the real export verifies")
    stage.narrator.say("the real one, offline, with nothing but the export and the trust bundle:")
    stage.narrator.blank()


def write_export(client: Client, path: Path) -> int:
    """Write an export; returns how many lines it has."""
    lines = list(export_lines(client))
    path.write_text("".join(line + "\n" for line in lines))
    return len(lines)


def tamper(source: Path, target: Path, seq: int) -> int:
    """Copy an export with one byte of one entry's body changed; returns the entry's sequence."""

    lines = []
    for line in source.read_text().splitlines():
        item: dict[str, Any] = json.loads(line)
        if item.get("entry", {}).get("seq") == seq:
            body = bytearray(base64.b64decode(item["entry"]["body"]))
            body[body.index(b"alice")] ^= 0x01
            item["entry"]["body"] = base64.b64encode(bytes(body)).decode()
            line = json.dumps(item)
        lines.append(line)
    target.write_text("\n".join(lines) + "\n")
    return seq


def _tell(stage: Stage, step: Step) -> None:
    stage.narrator.outcome(_what(step.intent.tool, dict(step.intent.args)), step.outcome)


def _what(tool: str, args: dict[str, Any]) -> str:
    shown = ", ".join(f"{k}={v!r}" for k, v in args.items() if k not in ("subject", "body"))
    return f"{tool}({shown})"


def _reasons(found: dict[str, Any]) -> str:
    return "; ".join(reason["message"] for reason in found["decision"]["reasons"])


def _ids(numbers: list[int]) -> str:
    return ", ".join(f"#{n}" for n in numbers)
