"""`countersign approvals`: what waits for people, their votes, and what is approved ahead."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.markup import escape

from countersign_contracts.errors import CountersignError

from ..approving import sheet
from ..approving.ballot import changes_of, standing_of, vote_body
from ..client import Client, segment
from ..output import REFUSED, Misused, ago, cell, command, console, errors, print_json, table, tell_of_more

app = typer.Typer(no_args_is_help=True, help="What waits for people, their votes, and what is approved ahead.")

PATH = "/api/v1/approvals"

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Comment = Annotated[str | None, typer.Option(help="Goes on record and to the requester.")]
Ids = Annotated[list[str], typer.Argument(metavar="APPROVAL...", help="Ids of approvals, or of their actions.")]
Digests = Annotated[
    list[str] | None,
    typer.Option(
        "--digest",
        help="The digest you decided on, one for each id, in their order; without it you are shown the actions and"
        " asked.",
    ),
]
Code = Annotated[
    str | None, typer.Option(help="A fresh one-time code, where a stage needs one; without it you are asked for it.")
]
Mine = Annotated[bool, typer.Option("--mine", help="Only what you may vote on now.")]
Agent = Annotated[str | None, typer.Option(help="Only this agent's.")]
Tool = Annotated[str | None, typer.Option(help="Only of this tool.")]
Env = Annotated[str | None, typer.Option(help="Only in this environment.")]
Risk = Annotated[str | None, typer.Option(help="Only of this risk: low, medium, high or critical.")]


@app.command("list")
@command
def list_(
    state: Annotated[
        str, typer.Option(help="pending, approved, rejected, expired, cancelled, amended, or all.")
    ] = "pending",
    agent: Agent = None,
    tool: Tool = None,
    env: Env = None,
    risk: Risk = None,
    mine: Mine = False,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    after: Annotated[str | None, typer.Option(help="Go on after this approval: the last of the page before.")] = None,
    json: Json = False,
) -> None:
    """List approvals, newest first."""
    wanted = {
        "state": None if state == "all" else state,
        "agent_id": agent,
        "tool": tool,
        "env": env,
        "risk": risk,
        "mine": mine or None,
        "limit": limit,
        "after": after,
    }
    page = Client.find().get(PATH, wanted)
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
            sheet.deadline(i),
            "; ".join(i.get("waits_for") or []) if i["state"] == "pending" else "",
        )
        for i in page["items"]
    ]
    columns = ["APPROVAL", "AGENT", "TOOL", "ENV", "RISK", "STATE"]
    columns.append("DEADLINE" if state == "pending" else "DEADLINE OR END")
    if any(sheet.is_declared(i.get("asked_by") or {}) for i in page["items"]):  # else it is the same for all
        columns.append("WAITS FOR")
    table(columns, [row[: len(columns)] for row in rows], "nothing waits for a decision")
    tell_of_more(page, "approvals list --after")


@app.command()
@command
def show(approval_id: str, json: Json = False) -> None:
    """Show what is to be approved: the exact arguments and their digest, who must approve, and who has."""
    found = Client.find().get(f"{PATH}/{segment(approval_id)}")
    print_json(found) if json else describe(found)


@app.command()
@command
def approve(
    approval_id: Ids,
    comment: Comment = None,
    digest: Digests = None,
    code: Code = None,
    change: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Approve with this argument instead; the value is JSON. Repeatable."),
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Approve without this argument.")] = None,
    standing: Annotated[
        str | None,
        typer.Option(help="Allow the same tool by the same agent ahead: for 30min, 8h or 2d, or until 18:00."),
    ] = None,
    uses: Annotated[int | None, typer.Option(min=1, max=10_000, help="At most so many times.")] = None,
    resource: Annotated[
        str | None, typer.Option(help="On these resources (`*` is any text); without it, on exactly this one.")
    ] = None,
    json: Json = False,
) -> None:
    """Approve exactly the arguments shown; several approvals in one step, each with its own vote."""
    changes = changes_of(change or (), drop or ())
    offer = standing_of(standing, uses, resource, datetime.now().astimezone())
    if len(approval_id) > 1 and (changes or offer):
        raise Misused("--change, --drop and --standing go with one approval at a time")
    _vote(approval_id, "approve", comment, digest, code, json, changes=changes, standing=offer)


@app.command()
@command
def reject(
    approval_id: Ids, comment: Comment = None, digest: Digests = None, code: Code = None, json: Json = False
) -> None:
    """Reject; several approvals in one step, each with its own vote."""
    _vote(approval_id, "reject", comment, digest, code, json)


def _vote(
    ids: list[str],
    vote: str,
    comment: str | None,
    digests: list[str] | None,
    code: str | None,
    json: bool,
    **more: Any,
) -> None:
    client = Client.find()
    if digests is None:
        seen = [client.get(f"{PATH}/{segment(name)}") for name in ids]
        for n, found in enumerate(seen):
            if n:
                console.print()
            describe(found)
        for change in sheet.changed(more.get("changes") or {}):
            console.print(f"[bold]changed by you:[/] {escape(change)}")
        typer.confirm(f"\n{vote} exactly {'this' if len(seen) == 1 else f'these {len(seen)}'}?", abort=True)
        digests = [found["action"]["digest"] for found in seen]
        if code is None and any(map(sheet.needs_code, seen)):
            code = _ask_code()
    elif len(digests) != len(ids):
        raise Misused(f"{len(ids)} approvals and {len(digests)} digests: give one --digest for each, in their order")
    if len(ids) > 1:
        return _several(client, dict(zip(ids, digests, strict=True)), vote_body(vote, comment, code), json)
    result = _send(client, ids[0], vote_body(vote, comment, code, digest=digests[0], **more))
    print_json(result) if json else console.print(f"{escape(ids[0])} is {_colour(result)}")


def _send(client: Client, approval_id: str, body: dict[str, Any]) -> dict[str, Any]:
    path = f"{PATH}/{segment(approval_id)}/votes"
    try:
        result: dict[str, Any] = client.post(path, body)
    except CountersignError as error:
        if error.code != "assurance" or "code" in body or not sys.stdin.isatty():
            raise
        result = client.post(path, body | {"code": _ask_code()})
    return result


def _ask_code() -> str:
    code: str = typer.prompt("one-time code (of your authenticator; this stage needs one)")
    return code.strip().replace(" ", "")


def _several(client: Client, ballots: dict[str, str], body: dict[str, Any], json: bool) -> None:
    items = [{"approval_id": name, "digest": digest} for name, digest in ballots.items()]
    tally = client.post(f"{PATH}/votes", body | {"items": items})
    if json:
        print_json(tally)
    failed = 0
    for name, counted in zip(ballots, tally["items"], strict=True):
        if counted.get("problem"):
            failed += 1
            why = CountersignError.from_problem(counted["problem"]).detail
            if not json:
                errors.print(f"{escape(name)}: [red]error:[/] {escape(why)}")
        elif not json:
            console.print(f"{escape(name)} is {_colour(counted)}")
    if failed:
        raise typer.Exit(REFUSED)


def _colour(found: dict[str, Any]) -> str:
    words = sheet.outcome(found)
    return cell(words) if words == found["state"] else escape(words)


def describe(found: dict[str, Any]) -> None:
    """Everything that an approver needs."""
    table(("", ""), sheet.facts(found), "")
    console.print("\n[bold]arguments, all of them[/]")
    for name, value in sheet.arguments(found):
        console.print(f"  {escape(name)} = {escape(value)}")
    if found.get("stages") and sheet.rule_words(found.get("asked_by") or {}):
        console.print("\n[bold]stages[/]")
        for stage in sheet.stages(found):
            console.print(f"  {escape(stage)}")
    for vote in sheet.votes(found):
        console.print(escape(vote))


@app.command()
@command
def standing(
    agent: Agent = None,
    all_: Annotated[bool, typer.Option("--all", help="Also what is used up, past or revoked.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    json: Json = False,
) -> None:
    """List what is approved ahead, and how much of it is used."""
    page = Client.find().get(f"{PATH}/standing", {"in_force": not all_, "agent_id": agent, "limit": limit})
    if json:
        return print_json(page)
    rows = [
        (
            s["standing_id"],
            s["agent_id"],
            s["tool"],
            s["env"],
            s["resource"],
            f"{s['used']} of {s['max_uses']}",
            f"revoked by {s['revoked_by']}" if s.get("revoked_by") else ago(s["until"]),
            ", ".join(s["granted_by"]),
        )
        for s in page["items"]
    ]
    columns = ("STANDING", "AGENT", "TOOL", "ENV", "RESOURCE", "USED", "ENDS", "GRANTED BY")
    table(columns, rows, "nothing is approved ahead")


@app.command()
@command
def revoke(
    standing_id: str, reason: Annotated[str, typer.Option(help="Why; everyone sees it.")], json: Json = False
) -> None:
    """Revoke a standing approval: once this returns, nothing more is approved by it."""
    path = f"{PATH}/standing/{segment(standing_id)}?reason={quote(reason, safe='')}"
    revoked = Client.find().delete(path)
    if json:
        return print_json(revoked)
    console.print(f"{escape(standing_id)} is revoked; it was used {revoked['used']} of {revoked['max_uses']} times")


@app.command()
@command
def watch(
    agent: Agent = None, tool: Tool = None, env: Env = None, risk: Risk = None, mine: Mine = False, json: Json = False
) -> None:
    """Watch what waits for people, live; decide with the keys shown. With `--json`: a line for each event."""
    from rich.console import Console

    from ..watching.loop import Watch, print_events

    client = Client.find()
    if json:
        return print_events(client, lambda words: errors.print(f"[dim]{escape(words)}[/]"))
    screen = Console(highlight=False)
    if not (sys.stdin.isatty() and screen.is_terminal) or screen.is_dumb_terminal:
        raise Misused(
            "the watch needs a terminal, and this is none: `countersign approvals watch --json` prints a line for each"
            " event, `countersign approvals list` what waits now"
        )
    filters = {"agent_id": agent, "tool": tool, "env": env, "risk": risk}
    for line in Watch(client, filters, mine, screen).run(sys.stdin.fileno()):
        console.print(escape(line))
