"""`countersign agents`: who may ask."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table

from countersign_contracts.errors import CountersignError
from countersign_contracts.heartbeat import HEARTBEAT_S

from ..client import Client, segment
from ..embedded.datadir import write_secret
from ..output import ago, command, console, laid_out, print_json, table, tell_of_more
from .agent_config import app as config
from .agent_telemetry import health, logs, metrics
from .agent_upkeep import delete, update
from .enrolment import packages, tokens
from .observing import observe, observers

app = typer.Typer(
    no_args_is_help=True,
    help="Agents: packages, tokens, register, list, update, delete, pause, resume, revoke, credentials, logs, metrics.",
)
app.add_typer(tokens, name="token")
app.add_typer(config, name="config")
app.command("packages")(packages)
app.command("logs")(logs)
app.command("metrics")(metrics)
app.command("health")(health)
app.command("update")(update)
app.command("delete")(delete)
app.command("observe")(observe)
app.add_typer(observers, name="observers")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
#: Seconds between two looks of `watch`.
_WATCH_S = 2.0
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
    heartbeat_s: Annotated[int, typer.Option(min=1, max=3600, help="Seconds between two heartbeats.")] = HEARTBEAT_S,
    json: Json = False,
) -> None:
    """Register an agent."""
    body = {
        "agent_id": agent_id,
        "name": name,
        "owner": {"team": team, "oncall": oncall},
        "profile": profile,
        "environments": env,
        "heartbeat_s": heartbeat_s,
    }
    view = Client.find().post("/api/v1/agents", body)
    if json:
        return print_json(view)
    console.print(f"{agent_id} is registered; give it credentials: countersign agents credentials {agent_id}")


Status = Annotated[str | None, typer.Option(help="active, paused or revoked.")]
Phase = Annotated[str | None, typer.Option(help="registered, running, stopped or failed.")]
Team = Annotated[str | None, typer.Option(help="Only this team's.")]
Type = Annotated[str | None, typer.Option("--type", help="Only those of this type.")]
_COLUMNS = ("AGENT", "NAME", "TEAM", "PROFILE", "ENVIRONMENTS", "STATUS", "SEEN", "LAST SEEN")


@app.command("list")
@command
def list_(
    status: Status = None,
    phase: Phase = None,
    team: Team = None,
    type_: Type = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 100,
    after: Annotated[str | None, typer.Option(help="Go on after this agent: the last of the page before.")] = None,
    json: Json = False,
) -> None:
    """List agents: what is ordered of them (status), and what they are seen to do."""
    query = {"status": status, "phase": phase, "team": team, "agent_type": type_, "limit": limit, "after": after}
    page = Client.find().get("/api/v1/agents", query)
    if json:
        return print_json(page)
    table(_COLUMNS, _rows(page), "no agents")
    tell_of_more(page, "agents list --after")


@app.command()
@command
def watch(status: Status = None, phase: Phase = None, team: Team = None, type_: Type = None) -> None:
    """The list, live, until Ctrl-C."""
    client = Client.find()
    query = {"status": status, "phase": phase, "team": team, "agent_type": type_, "limit": 500}

    def now() -> Table | str:
        return laid_out(_COLUMNS, _rows(client.get("/api/v1/agents", query)), "no agents")

    with Live(now(), console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            time.sleep(_WATCH_S)
            live.update(now(), refresh=True)


def _rows(page: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (
            i["agent"]["agent_id"],
            i["agent"]["name"],
            i["agent"]["owner"]["team"],
            i["agent"]["profile"],
            ", ".join(i["agent"]["environments"]),
            i["agent"]["status"],
            i["phase"],
            ago(i.get("last_seen")),
        )
        for i in page["items"]
    ]


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
        *([("type", f"{agent['agent_type']} {agent['version']}")] if agent.get("agent_type") else []),
        ("registered", ago(view["created_at"])),
        ("seen to be", _seen(view)),
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


def _seen(view: dict[str, Any]) -> str:
    if not view.get("phase_since"):
        return str(view["phase"])
    return f"{view['phase']} since {ago(view['phase_since'])}: {view['phase_cause']}"


def _order(verb: str, done: str, doc: str) -> None:
    @app.command(verb, help=f"{doc} Of one agent, or with --team and --type of many.")
    @command
    def order(
        reason: Reason,
        agent_id: Annotated[str | None, typer.Argument(help="One agent.", show_default=False)] = None,
        team: Annotated[str | None, typer.Option(help="Every agent of this team.")] = None,
        type_: Annotated[str | None, typer.Option("--type", help="Every agent of this type.")] = None,
        json: Json = False,
    ) -> None:
        if (agent_id is None) == (team is None and type_ is None):
            raise CountersignError("name one agent, or say whose with --team, --type or both", code="invalid")
        if agent_id is not None:
            view = Client.find().post(f"/api/v1/agents/{segment(agent_id)}/{verb}", {"reason": reason})
            return print_json(view) if json else console.print(f"{agent_id} is {done}")
        body = {"order": verb, "team": team, "agent_type": type_, "reason": reason}
        ordered = Client.find().post("/api/v1/agents/orders", body)
        if json:
            return print_json(ordered)
        console.print(
            f"{len(ordered['changed'])} now {ordered['status']}, {ordered['unchanged']} were so before,"
            f" {ordered['revoked']} stay revoked"
        )
        if ordered["more"]:
            console.print("there are more than one order takes: give it again")


_order("pause", "paused: its actions are denied", "Deny actions until resumed.")
_order("resume", "active", "Let paused agents act again.")
_order("revoke", "revoked: its credentials are void", "Void credentials for good.")


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
