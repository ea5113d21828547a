"""`countersign agents`: who may ask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..client import Client, segment
from ..embedded.datadir import write_secret
from ..output import ago, command, console, print_json, table

app = typer.Typer(no_args_is_help=True, help="Agents: register, list, pause, resume, revoke, credentials.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str, typer.Option(help="Why; it goes on record.")]


@app.command()
@command
def register(
    agent_id: str,
    name: Annotated[str, typer.Option(help="For people.")],
    team: Annotated[str, typer.Option(help="The team that answers for it.")],
    profile: Annotated[str, typer.Option(help="Its permission profile.")],
    env: Annotated[list[str], typer.Option(help="An environment it may act in; repeat for several.")],
    oncall: Annotated[str | None, typer.Option(help="Who is on call for it.")] = None,
    json: Json = False,
) -> None:
    """Register an agent."""
    body = {
        "agent_id": agent_id,
        "name": name,
        "owner": {"team": team, "oncall": oncall},
        "profile": profile,
        "environments": env,
    }
    view = Client.find().post("/api/v1/agents", body)
    if json:
        return print_json(view)
    console.print(f"{agent_id} is registered; give it credentials: countersign agents credentials {agent_id}")


@app.command("list")
@command
def list_(
    status: Annotated[str | None, typer.Option(help="active, paused or revoked.")] = None,
    team: Annotated[str | None, typer.Option(help="Only this team's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 100,
    json: Json = False,
) -> None:
    """List agents."""
    page = Client.find().get("/api/v1/agents", {"status": status, "team": team, "limit": limit})
    if json:
        return print_json(page)
    rows = [
        (
            i["agent"]["agent_id"],
            i["agent"]["name"],
            i["agent"]["owner"]["team"],
            i["agent"]["profile"],
            ", ".join(i["agent"]["environments"]),
            i["agent"]["status"],
            ago(i.get("last_seen")),
        )
        for i in page["items"]
    ]
    table(("AGENT", "NAME", "TEAM", "PROFILE", "ENVIRONMENTS", "STATUS", "LAST SEEN"), rows, "no agents")


@app.command()
@command
def show(agent_id: str, json: Json = False) -> None:
    """Show one agent."""
    view = Client.find().get(f"/api/v1/agents/{segment(agent_id)}")
    if json:
        return print_json(view)
    agent = view["agent"]
    rows = [
        ("agent", agent["agent_id"]),
        ("name", agent["name"]),
        ("team", agent["owner"]["team"]),
        ("on call", agent["owner"].get("oncall")),
        ("profile", agent["profile"]),
        ("environments", ", ".join(agent["environments"])),
        ("status", agent["status"]),
        ("registered", ago(view["created_at"])),
        ("last seen", ago(view.get("last_seen"))),
    ]
    rows += [
        (
            f"{c['kind']} credential",
            f"{c['credential_id']} (ends {ago(c['expires_at']) if c.get('expires_at') else 'never'})",
        )
        for c in agent.get("credentials", [])
    ]
    table(("", ""), rows, "")


def _order(verb: str, done: str, doc: str) -> None:
    @app.command(verb, help=doc)
    @command
    def order(agent_id: str, reason: Reason, json: Json = False) -> None:
        view = Client.find().post(f"/api/v1/agents/{segment(agent_id)}/{verb}", {"reason": reason})
        print_json(view) if json else console.print(f"{agent_id} is {done}")


_order("pause", "paused: its actions are denied", "Deny the agent's actions until it is resumed.")
_order("resume", "active", "Let a paused agent act again.")
_order("revoke", "revoked: its credentials are void", "Void the agent's credentials for good.")


@app.command()
@command
def credentials(
    agent_id: str,
    kind: Annotated[list[str] | None, typer.Option(help="http or nats; repeat for both (default).")] = None,
    lifetime_s: Annotated[int | None, typer.Option(help="Seconds until they end; default: never.")] = None,
    replace: Annotated[bool, typer.Option(help="Void the older ones of these kinds.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for the files.")] = Path(),
    json: Json = False,
) -> None:
    """Issue credentials: `<agent>.token` for HTTP and `<agent>.creds` for NATS, mode 0600."""
    body = {"kinds": kind or ["http", "nats"], "lifetime_s": lifetime_s, "replace": replace}
    issued = Client.find().post(f"/api/v1/agents/{segment(agent_id)}/credentials", body)
    if json:
        return print_json(issued)
    for field, suffix in (("http_token", "token"), ("nats_creds", "creds")):
        if issued.get(field):
            path = output / f"{agent_id}.{suffix}"
            write_secret(path.absolute(), issued[field] + ("\n" if field == "http_token" else ""))
            console.print(f"wrote {path}")
