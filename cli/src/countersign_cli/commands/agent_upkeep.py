"""`countersign agents update` and `delete`: what people change of an agent that there is."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from countersign_contracts.errors import CountersignError

from ..client import Client, segment
from ..output import command, console, print_json

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@command
def update(
    agent_id: str,
    name: Annotated[str | None, typer.Option(help="For people.")] = None,
    team: Annotated[str | None, typer.Option(help="The team that answers for it.")] = None,
    oncall: Annotated[str | None, typer.Option(help="Who is on call for it; empty: nobody.")] = None,
    profile: Annotated[str | None, typer.Option(help="Its permission profile.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="An environment it may act in, instead; repeat.")] = None,
    heartbeat_s: Annotated[
        int | None, typer.Option(min=1, max=3600, help="Seconds between two heartbeats, from its next start.")
    ] = None,
    json: Json = False,
) -> None:
    """Change what people say of an agent; what is not given stays. Refused if somebody else changes it meanwhile."""
    client, path = Client.find(), f"/api/v1/agents/{segment(agent_id)}"
    given: dict[str, Any] = {"name": name, "profile": profile, "environments": env, "heartbeat_s": heartbeat_s}
    changes = {field: value for field, value in given.items() if value is not None}
    if not changes and team is None and oncall is None:
        raise CountersignError(
            "say what changes: --name, --team, --oncall, --profile, --env or --heartbeat-s", code="invalid"
        )
    present = client.get(path)["agent"]
    owner = {
        "team": present["owner"]["team"] if team is None else team,
        "oncall": present["owner"].get("oncall") if oncall is None else oncall or None,
    }
    described = {field: present[field] for field in ("name", "profile", "environments", "heartbeat_s")}
    view = client.send(
        "PUT", path, described | changes | {"owner": owner}, headers={"If-Match": f'"{present["revision"]}"'}
    )
    if json:
        return print_json(view)
    after = view["agent"]["revision"]
    console.print(f"{agent_id} is changed" if after != present["revision"] else f"{agent_id} was like that before")


@command
def delete(
    agent_id: str,
    reason: Annotated[str, typer.Option(help="Why; it goes on record.")],
    json: Json = False,
) -> None:
    """Revoke an agent and list it no more; its history stays, and nobody else gets its id."""
    view = Client.find().delete(f"/api/v1/agents/{segment(agent_id)}?{urlencode({'reason': reason})}")
    if json:
        return print_json(view)
    console.print(f"{agent_id} is deleted: its credentials are void, and what it did stays on record")
