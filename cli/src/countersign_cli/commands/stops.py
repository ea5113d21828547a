"""`countersign stops`: the kill switch."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer
from rich.markup import escape

from countersign_contracts.errors import CountersignError

from ..client import Client, segment
from ..output import ago, command, console, errors, print_json, table

app = typer.Typer(no_args_is_help=True, help="The kill switch: stop everything, or a part.")

#: The longest page of agents that the gateway gives.
_AGENTS = 500

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
    client = Client.find()
    stop = client.post("/api/v1/stops", {"scope": scope, "reason": reason})
    if json:
        print_json(stop)
    else:
        console.print(f"[bold red]stopped[/] {stop['scope']}; lift it with: countersign stops lift {stop['stop_id']}")
    # a stop may well come before what it is to stop; more often the name has a slip
    with suppress(CountersignError):
        if (nobody := unknown(client, scope)) is not None:
            errors.print(f"[yellow]warning:[/] {escape(nobody)}: the stop is in force all the same")


def unknown(client: Client, scope: str) -> str | None:
    """That nothing known is in a stop's scope, in words; None if something is. Raises what the gateway answers."""
    kind, _, name = scope.partition(":")
    match kind:
        case "agent":
            try:
                client.get(f"/api/v1/agents/{segment(name)}")
                return None
            except CountersignError as error:
                if error.code != "not_found":
                    raise
            return f"no agent {name} is known (yet)"
        case "tool":
            known = any(item["tool"]["name"] == name for item in client.all("/api/v1/tools"))
            return None if known else f"no tool {name} is known (yet)"
        case "session":
            known = bool(client.get("/api/v1/actions", {"session_id": name, "limit": 1})["items"])
            return None if known else f"no action of session {name} is known (yet)"
        case "env" | "profile":
            page = client.get("/api/v1/agents", {"limit": _AGENTS})["items"]
            agents = [item["agent"] for item in page]
            if any(name in (a["environments"] if kind == "env" else [a["profile"]]) for a in agents):
                return None
            if len(page) < _AGENTS:  # further pages are not worth it
                return f"no agent with {'environment' if kind == 'env' else 'profile'} {name} is known (yet)"
    return None


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
