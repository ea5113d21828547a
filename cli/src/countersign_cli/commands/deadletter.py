"""`countersign deadletter`: messages that a service gave up on, and what to do with them."""

from __future__ import annotations

import json as json_text
from typing import Annotated, Any

import typer

from countersign_contracts.errors import CountersignError
from countersign_contracts.plain_text import printable

from ..client import Client
from ..output import REFUSED, USAGE, ago, command, console, errors, print_json, table, tell_of_more

app = typer.Typer(no_args_is_help=True, help="Messages that a service gave up on: look, handle again, drop.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Stream = Annotated[str | None, typer.Option(help="Only of this stream, e.g. ACTIONS.")]
Reason = Annotated[str, typer.Option(help="Why; it goes on record.")]
Consumer = Annotated[str | None, typer.Option(help="Only of this consumer, e.g. policy-actions.")]


@app.command("list")
@command
def list_(
    stream: Stream = None,
    consumer: Consumer = None,
    after: Annotated[int, typer.Option(min=0, help="Only those after this number.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 50,
    json: Json = False,
) -> None:
    """List open dead letters, oldest first."""
    page = _page(Client.find(), stream, consumer, after, limit)
    if json:
        return print_json(page)
    rows = [(i["seq"], i["consumer"], i["subject"], i["tries"], ago(i["at"]), i["reason"]) for i in page["items"]]
    table(("NO", "CONSUMER", "SUBJECT", "TRIES", "DIED", "REASON"), rows, "no dead letters")
    tell_of_more(page, "deadletter list --after")


@app.command()
@command
def show(number: int, json: Json = False) -> None:
    """Show one dead letter with the message in it."""
    found = Client.find().get(f"/api/v1/deadletters/{number}")
    if json:
        return print_json(found)
    rows = [
        ("subject", found["subject"]),
        ("stream", f"{found['stream']}, sequence {found['stream_seq']}"),
        ("consumer", found["consumer"]),
        ("tries", found["tries"]),
        ("died", ago(found["at"])),
        ("reason", found["reason"]),
        ("redrive", "possible" if found["redrivable"] else f"not possible: {found['why_not']}"),
    ]
    table(("", ""), rows, "")
    console.print("\n[bold]headers[/]")
    table(("", ""), sorted(found["headers"].items()), "none")
    console.print("\n[bold]body[/]" + ("" if found.get("text") is not None else " (base64: it is no text)"))
    _print_body(found)


@app.command()
@command
def redrive(
    reason: Reason,
    number: Annotated[int | None, typer.Argument(help="Which one.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every one that can be redriven.")] = False,
    stream: Stream = None,
    consumer: Consumer = None,
    json: Json = False,
) -> None:
    """Have its service handle the message again, exactly as the first time.

    Handled, the dead letter is gone; failed, it is a dead letter anew, with one more try.
    """
    if (number is None) is not every:
        errors.print("[red]error:[/] name one dead letter, or --all (with --consumer or --stream if you like)")
        raise typer.Exit(USAGE)
    client = Client.find()
    numbers = [number] if number is not None else _redrivable(client, stream, consumer)
    results = [_redrive(client, each, reason) for each in numbers]
    if json:
        print_json(results)
    elif not results:
        console.print("[dim]no dead letters to redrive[/]")
    for result in results if not json else ():
        console.print(_said(result), markup=False)
    if any(result["outcome"] != "handled" for result in results):
        raise typer.Exit(REFUSED)


@app.command()
@command
def drop(number: int, reason: Reason, json: Json = False) -> None:
    """End a dead letter unhandled."""
    result = Client.find().post(f"/api/v1/deadletters/{number}/drop", {"reason": reason})
    print_json(result) if json else console.print(f"dead letter {number} is dropped")


def _page(client: Client, stream: str | None, consumer: str | None, after: int, limit: int) -> Any:
    query = {"stream": stream, "consumer": consumer, "after": after, "limit": limit}
    return client.get("/api/v1/deadletters", query)


def _redrivable(client: Client, stream: str | None, consumer: str | None) -> list[int]:
    """The numbers of those that are open now: one that fails again is not tried for ever."""
    numbers: list[int] = []
    after: int | None = 0
    while after is not None:
        page = _page(client, stream, consumer, after, 100)
        numbers += [item["seq"] for item in page["items"] if item["redrivable"]]
        after = page.get("next")
    return numbers


def _redrive(client: Client, number: int, reason: str) -> Any:
    """What became of it; with several, one that is refused does not end the others."""
    try:
        return client.post(f"/api/v1/deadletters/{number}/redrive", {"reason": reason})
    except CountersignError as error:
        if error.code not in ("conflict", "not_found"):
            raise
        return {"seq": number, "outcome": "refused", "reason": error.detail}


def _said(result: Any) -> str:
    said = f"dead letter {result['seq']}: {result['outcome']}"
    if result["outcome"] == "failed":
        said += f" again (dead letter {result['again']})" if result.get("again") else " again"
    return said + (f": {printable(result['reason'])}" if result.get("reason") else "")


def _print_body(found: Any) -> None:
    text = found.get("text")
    try:
        print_json(json_text.loads(text))
    except (TypeError, ValueError):
        console.print(printable(found["body"] if text is None else text), markup=False)
