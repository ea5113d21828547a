"""`countersign stops`: the kill switch."""

from __future__ import annotations

from typing import Annotated

import typer

from ..client import Client, segment
from ..output import ago, command, console, print_json, table

app = typer.Typer(no_args_is_help=True, help="The kill switch: stop everything, or a part.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("set")
@command
def set_(
    scope: Annotated[
        str, typer.Option(help="all, env:prod, tool:NAME, profile:NAME, agent:ID or session:ID; no default on purpose.")
    ],
    reason: Annotated[str, typer.Option(help="Why; everyone who is stopped sees it.")],
    json: Json = False,
) -> None:
    """Stop: once this returns, no execution in the scope starts."""
    stop = Client.find().post("/api/v1/stops", {"scope": scope, "reason": reason})
    if json:
        return print_json(stop)
    console.print(f"[bold red]stopped[/] {stop['scope']}; lift it with: countersign stops lift {stop['stop_id']}")


@app.command("list")
@command
def list_(
    lifted: Annotated[bool, typer.Option(help="Lifted ones too.")] = False,
    json: Json = False,
) -> None:
    """List the stops in force."""
    found = Client.find().get("/api/v1/stops", {"lifted": lifted})
    if json:
        return print_json(found)
    rows = [
        (s["stop_id"], s["scope"], s["reason"], s["set_by"], ago(s["set_at"]), s.get("lifted_by"))
        for s in found["items"]
    ]
    table(("STOP", "SCOPE", "REASON", "BY", "SET", "LIFTED BY"), rows, "no stop is in force")


@app.command()
@command
def lift(stop_id: str, json: Json = False) -> None:
    """Lift a stop."""
    stop = Client.find().delete(f"/api/v1/stops/{segment(stop_id)}")
    print_json(stop) if json else console.print(f"lifted {stop['scope']}")
