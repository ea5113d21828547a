"""`countersign agents packages` and `agents token`: which agents there could be, and what they register with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from countersign_contracts.heartbeat import HEARTBEAT_S

from ..client import Client, segment
from ..embedded.datadir import write_secret
from ..output import ago, command, console, errors, print_json, table

tokens = typer.Typer(no_args_is_help=True, help="Discovery tokens: what agents register with.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@command
def packages(json: Json = False) -> None:
    """List the packages of agents in the registry's folders, and what is wrong there."""
    client = Client.find()
    page = client.get("/api/v1/agents/packages", {"limit": 500})
    found, after = list(page["items"]), page.get("next")
    while after:
        further = client.get("/api/v1/agents/packages", {"limit": 500, "after": after})
        found, after = [*found, *further["items"]], further.get("next")
    if json:
        return print_json({"folders": page["folders"], "items": found, "errors": page["errors"]})
    folders = ", ".join(map(_near, page["folders"])) or "any folder: `countersign up --agents-dir` says which"
    rows = [(_package(view["package"]), view["agents"], ago(view["discovered_at"])) for view in found]
    table(
        ("TYPE", "NAME", "VERSION", "DESCRIPTION", "AGENTS", "DISCOVERED"),
        [(*package, agents, discovered) for package, agents, discovered in rows],
        f"no packages in {folders}",
    )
    for error in page["errors"]:
        path = _near(error["path"])
        where = path if error.get("line") is None else f"{path}:{error['line']}"
        allowed = f" (allowed: {error['allowed']})" if error.get("allowed") else ""
        errors.print(escape(f"{where}: {error['message']}{allowed}"), soft_wrap=True)


def _near(path: str) -> str:
    """The path from here, if it is below; else as it is."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _package(package: dict[str, Any]) -> tuple[str, ...]:
    return (package["agent_type"], package["name"], package["version"], package["description"])


@tokens.command("create")
@command
def create(
    agent_type: str,
    team: Annotated[str, typer.Option(help="The team that answers for the agents.")],
    profile: Annotated[str, typer.Option(help="Their permission profile.")],
    env: Annotated[list[str], typer.Option(help="An environment they may act in; repeat for several.")],
    oncall: Annotated[str | None, typer.Option(help="Who is on call for them.")] = None,
    heartbeat_s: Annotated[int, typer.Option(min=1, max=3600, help="Seconds between two heartbeats.")] = HEARTBEAT_S,
    expires_in_s: Annotated[int, typer.Option(min=1, help="Seconds until the token ends.")] = 3600,
    uses: Annotated[int, typer.Option(min=1, max=10_000, help="How many agents may register with it.")] = 1,
    output: Annotated[Path, typer.Option(help="Folder for the files.")] = Path(),
    json: Json = False,
) -> None:
    """Make a discovery token: `<type>.discovery` for HTTP and `<type>.bootstrap.creds` for NATS, mode 0600."""
    body = {
        "agent_type": agent_type,
        "owner": {"team": team, "oncall": oncall},
        "profile": profile,
        "environments": env,
        "heartbeat_s": heartbeat_s,
        "expires_in_s": expires_in_s,
        "uses": uses,
    }
    issued = Client.find().post("/api/v1/agents/tokens", body)
    if json:
        return print_json(issued)
    for text, suffix in ((issued["secret"] + "\n", "discovery"), (issued["nats_creds"], "bootstrap.creds")):
        path = output / f"{agent_type}.{suffix}"
        write_secret(path.absolute(), text)
        console.print(f"wrote {path}")
    token = issued["token"]
    console.print(f"{token['token_id']}: for {_agents(uses)} of type {agent_type}, ends {ago(token['expires_at'])}")


@tokens.command("list")
@command
def list_(
    limit: Annotated[int, typer.Option(min=1, max=500)] = 100,
    json: Json = False,
) -> None:
    """List discovery tokens, the latest first."""
    page = Client.find().get("/api/v1/agents/tokens", {"limit": limit})
    if json:
        return print_json(page)
    rows = [
        (
            token["token_id"],
            token["grant"]["agent_type"],
            token["grant"]["owner"]["team"],
            token["grant"]["profile"],
            f"{token['used']} of {token['uses']}",
            f"revoked by {token['revoked_by']}" if token.get("revoked_at") else ago(token["expires_at"]),
        )
        for token in page["items"]
    ]
    table(("TOKEN", "TYPE", "TEAM", "PROFILE", "USED", "ENDS"), rows, "no tokens")


@tokens.command("revoke")
@command
def revoke(token_id: str, json: Json = False) -> None:
    """Revoke a discovery token: nobody registers with it any more."""
    token = Client.find().delete(f"/api/v1/agents/tokens/{segment(token_id)}")
    if json:
        return print_json(token)
    console.print(f"{token_id} is revoked; {_agents(token['used'])} registered with it before")


def _agents(count: int) -> str:
    return "1 agent" if count == 1 else f"{count} agents"
