"""`countersign actions`: what agents asked for, and what became of it."""

from __future__ import annotations

from typing import Annotated

import typer

from countersign_contracts.plain_text import printable
from countersign_contracts.sealed import shown

from ..client import Client, segment
from ..output import ago, command, console, print_json, table, tell_of_more

app = typer.Typer(no_args_is_help=True, help="What agents asked for, and what became of it.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
@command
def list_(
    agent: Annotated[str | None, typer.Option(help="Only this agent's.")] = None,
    session: Annotated[str | None, typer.Option(help="Only this session's.")] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(help="accepted, held, granted, executing, succeeded, failed, …; repeat it for any."),
    ] = None,
    tool: Annotated[str | None, typer.Option(help="Only this tool's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
    before: Annotated[str | None, typer.Option(help="Go on before this action: the last of the page before.")] = None,
    json: Json = False,
) -> None:
    """List actions, newest first."""
    page = Client.find().get(
        "/api/v1/actions",
        {"agent_id": agent, "session_id": session, "state": state, "tool": tool, "limit": limit, "before": before},
    )
    if json:
        return print_json(page)
    rows = [
        (i["request_id"], i["agent_id"], i["tool"], i["env"], i["state"], ago(i["at"]), i.get("reason"))
        for i in page["items"]
    ]
    table(("REQUEST", "AGENT", "TOOL", "ENV", "STATE", "CHANGED", "REASON"), rows, "no actions")
    tell_of_more(page, "actions list --before")


@app.command()
@command
def show(request_id: str, json: Json = False) -> None:
    """Show one action: its arguments, state, reasons and result."""
    found = Client.find().get(f"/api/v1/actions/{segment(request_id)}")
    if json:
        return print_json(found)
    action = found["action"]
    rows = [
        ("state", found["state"]),
        ("reason", found.get("reason")),
        ("agent", action["agent_id"]),
        ("on behalf of", " → ".join(action.get("principal_chain", []))),
        ("session", action.get("session_id")),
        ("tool", f"{action['tool']} (version {action['tool_version']})"),
        ("environment", action["env"]),
        ("risk", found.get("risk")),
        ("asked", ago(action["requested_at"])),
        ("why", action.get("reason")),
        ("approval", found.get("approval_id")),
        ("digest", action["digest"]),
    ]
    sometimes = [
        ("waits for", ", ".join((found.get("approval") or {}).get("waits_for", []))),
        ("takes the place of", action.get("amends")),
        ("changed into", found.get("superseded_by")),
    ]
    rows += [row for row in sometimes if row[1]]
    table(("", ""), rows, "")
    console.print("\n[bold]arguments[/]")
    print_json(shown(action["args"]))
    if "result" in found:
        console.print("\n[bold]result[/]" + (" (cut at the tool's limit)" if found.get("truncated") else ""))
        print_json(found["result"])


@app.command()
@command
def cancel(
    request_id: str,
    reason: Annotated[str | None, typer.Option(help="Why; it goes on record.")] = None,
    json: Json = False,
) -> None:
    """Withdraw an action that is not granted yet."""
    result = Client.find().post(f"/api/v1/actions/{segment(request_id)}/cancel", {"reason": reason})
    print_json(result) if json else console.print(f"{request_id} is cancelled")


@app.command()
@command
def reconcile(
    request_id: str,
    outcome: Annotated[str, typer.Option(help="What really happened: succeeded or failed.")],
    note: Annotated[str, typer.Option(help="How you know; it goes on record.")],
    json: Json = False,
) -> None:
    """Say what became of an action whose outcome is unknown."""
    result = Client.find().post(f"/api/v1/actions/{segment(request_id)}/reconcile", {"outcome": outcome, "note": note})
    print_json(result) if json else console.print(f"{request_id} is reconciled: {printable(outcome)}")
