"""`countersign approvals`: what waits for a person, and the vote."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from countersign_contracts.plain_text import printable
from countersign_contracts.sealed import shown

from ..client import Client, segment
from ..output import ago, cell, command, console, print_json, table

app = typer.Typer(no_args_is_help=True, help="What waits for a person, and the vote.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Comment = Annotated[str | None, typer.Option(help="Goes on record and to the requester.")]
Digest = Annotated[
    str | None, typer.Option(help="The digest you decided on; without it you are shown the action and asked.")
]


@app.command("list")
@command
def list_(
    state: Annotated[str, typer.Option(help="pending, approved, rejected, expired, cancelled, or all.")] = "pending",
    agent: Annotated[str | None, typer.Option(help="Only this agent's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    json: Json = False,
) -> None:
    """List approvals, newest first."""
    page = Client.find().get(
        "/api/v1/approvals", {"state": None if state == "all" else state, "agent_id": agent, "limit": limit}
    )
    if json:
        return print_json(page)
    rows = [
        (
            i["approval_id"],
            i["action"]["agent_id"],
            i["action"]["tool"],
            i["action"]["env"],
            i["decision"].get("risk"),
            i["state"],
            deadline(i),
        )
        for i in page["items"]
    ]
    last = "DEADLINE" if state == "pending" else "DEADLINE OR END"
    table(("APPROVAL", "AGENT", "TOOL", "ENV", "RISK", "STATE", last), rows, "nothing waits for a decision")


def deadline(found: dict[str, Any]) -> str:
    """When it ends; how it ended, and when, if it has."""
    if found["state"] == "pending" or not found.get("resolved_at"):
        return ago(found["deadline"])
    said = {"approved": "approve", "rejected": "reject"}.get(found["state"])
    voters = [vote["voter"] for vote in found.get("votes", []) if vote["vote"] == said]
    return f"{found['state']}{' by ' if voters else ''}{', '.join(voters)} {ago(found['resolved_at'])}"


@app.command()
@command
def show(approval_id: str, json: Json = False) -> None:
    """Show what is to be approved: the exact arguments and their digest."""
    found = Client.find().get(f"/api/v1/approvals/{segment(approval_id)}")
    print_json(found) if json else describe(found)


@app.command()
@command
def approve(approval_id: str, comment: Comment = None, digest: Digest = None, json: Json = False) -> None:
    """Approve exactly the arguments shown."""
    _vote(approval_id, "approve", comment, digest, json)


@app.command()
@command
def reject(approval_id: str, comment: Comment = None, digest: Digest = None, json: Json = False) -> None:
    """Reject."""
    _vote(approval_id, "reject", comment, digest, json)


def _vote(approval_id: str, vote: str, comment: str | None, digest: str | None, json: bool) -> None:
    client = Client.find()
    if digest is None:
        found = client.get(f"/api/v1/approvals/{segment(approval_id)}")
        describe(found)
        typer.confirm(f"\n{vote} exactly this?", abort=True)
        digest = found["action"]["digest"]
    body = {"vote": vote, "digest": digest, "comment": comment, "channel": "cli"}
    result = client.post(f"/api/v1/approvals/{segment(approval_id)}/votes", body)
    print_json(result) if json else console.print(f"{approval_id} is {cell(result['state'])}")


def describe(found: dict[str, Any]) -> None:
    """Everything that an approver needs; what the agent wrote is shown as it is, control characters escaped."""
    action, decision = found["action"], found["decision"]
    table(
        ("", ""),
        [
            ("approval", found["approval_id"]),
            ("state", found["state"]),
            ("tool", f"{action['tool']} (version {action['tool_version']})"),
            ("environment", action["env"]),
            ("agent", f"{action['agent_id']} of team {found['owner_team']}"),
            ("on behalf of", " → ".join(action.get("principal_chain", []))),
            ("why the agent wants it", action.get("reason")),
            ("risk", decision.get("risk")),
            ("why it needs approval", "; ".join(r["message"] for r in decision["reasons"])),
            ("deadline", f"{deadline(found)} ({found.get('resolved_at') or found['deadline']})"),
            ("digest", action["digest"]),
        ],
        "",
    )
    console.print("\n[bold]arguments, all of them[/]")
    for name, value in shown(action["args"]).items():
        console.print(f"  {escape(printable(name))} = {escape(printable(repr(value)))}")
    for vote in found.get("votes", []):
        said = f": {escape(printable(vote['comment']))}" if vote.get("comment") else ""
        console.print(f"{cell(vote['voter'])} voted {vote['vote']} {ago(vote['voted_at'])}{said}")
