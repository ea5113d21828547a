"""`countersign agents config`: what counts for an agent, layer by layer; changing a layer; its versions."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated, Any

import typer

from ..client import Client, segment
from ..output import ago, command, console, print_json, table

app = typer.Typer(no_args_is_help=True, help="Agents' configuration, in layers with versions.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str, typer.Option(help="Why; it goes on record.")]
Runtime = Annotated[bool, typer.Option("--runtime", help="The layer above the agent's own, for now.")]
OfType = Annotated[bool, typer.Option("--type", help="WHOSE is a type of agents, not an agent.")]
_OWN = ("log_level", "metrics_enabled", "metrics_interval_s")


@app.command()
@command
def show(agent_id: str, json: Json = False) -> None:
    """What counts for an agent, and which layer says so."""
    found = Client.find().get(f"/api/v1/agents/{segment(agent_id)}/config")
    if json:
        return print_json(found)
    table(("NAME", "VALUE", "LAYER"), _rows(found), "nothing is configured")
    applied = found.get("applied")
    if found["in_force"]:
        console.print(f"\n{agent_id} applied it {ago(applied['at'])}")
    elif applied is None:
        console.print(f"\n{agent_id} has not said that it applied any configuration")
    elif applied["result"] == "rejected" and applied["digest"] == found["digest"]:
        console.print(f"\n{agent_id} rejected it {ago(applied['at'])}: {applied.get('reason')}", markup=False)
    else:
        console.print(f"\n{agent_id} has not said yet that it applied this one")


@app.command("set")
@command
def set_(
    whose: str,
    reason: Reason,
    setting: Annotated[list[str], typer.Argument(help="NAME=VALUE; a value is JSON, else text. NAME= takes it out.")],
    runtime: Runtime = False,
    of_type: OfType = False,
    json: Json = False,
) -> None:
    """Change values of a layer; the others of that layer stay. log_level, metrics_…, or the agent's own settings."""
    client, base = Client.find(), _path(whose, of_type)
    query = {} if of_type else {"layer": "runtime" if runtime else "agent"}
    versions = client.get(f"{base}/history", query | {"limit": 1})["items"]
    values = {name: value for name, value in versions[0]["values"].items() if value is not None} if versions else {}
    for each in setting:
        _change(values, each)
    body: dict[str, Any] = {"values": values, "reason": reason, "base": versions[0]["version"] if versions else 0}
    if of_type and versions and versions[0].get("settings_schema"):
        body["settings_schema"] = versions[0]["settings_schema"]
    layer = f"?layer={query['layer']}" if query else ""
    _tell(client.send("PUT", base + layer, body), json)


@app.command()
@command
def history(whose: str, runtime: Runtime = False, of_type: OfType = False, json: Json = False) -> None:
    """Versions of a layer, the latest first."""
    query = {} if of_type else {"layer": "runtime" if runtime else "agent"}
    found = Client.find().get(f"{_path(whose, of_type)}/history", query)
    if json:
        return print_json(found)
    rows = [(i["version"], i["by"], ago(i["at"]), i["reason"], _said(i["values"])) for i in found["items"]]
    table(("VERSION", "BY", "WHEN", "WHY", "VALUES"), rows, "nobody has set this layer")


@app.command()
@command
def rollback(
    whose: str, version: int, reason: Reason, runtime: Runtime = False, of_type: OfType = False, json: Json = False
) -> None:
    """Set a layer to what an earlier version said."""
    body: dict[str, Any] = {"version": version, "reason": reason}
    if not of_type:
        body["layer"] = "runtime" if runtime else "agent"
    _tell(Client.find().post(f"{_path(whose, of_type)}/rollback", body), json)


def _said(values: dict[str, Any]) -> str:
    return jsonlib.dumps({name: value for name, value in values.items() if value is not None})


def _path(whose: str, of_type: bool) -> str:
    return f"/api/v1/{'agent-types' if of_type else 'agents'}/{segment(whose)}/config"


def _change(values: dict[str, Any], setting: str) -> None:
    name, equals, text = setting.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"{setting!r} is not NAME=VALUE")
    where = values if name in _OWN else values.setdefault("settings", {})
    if not text:
        where.pop(name, None)
        return
    try:
        where[name] = jsonlib.loads(text)
    except jsonlib.JSONDecodeError:
        where[name] = text


def _rows(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    def said(name: str, of: dict[str, Any]) -> bool:
        return of.get(name) is not None if name in _OWN else name in (of.get("settings") or {})

    effective = found["effective"]
    values = {name: effective[name] for name in _OWN} | (effective.get("settings") or {})
    return [
        (
            name,
            jsonlib.dumps(value),
            next(layer["layer"] for layer in reversed(found["layers"]) if said(name, layer["values"])),
        )
        for name, value in values.items()
    ] + [("heartbeat_s", str(found["heartbeat_s"]), "registration")]


def _tell(change: dict[str, Any], json: bool) -> None:
    if json:
        return print_json(change)
    version = change["version"]
    if not change["changed"]:
        console.print(f"{version['scope']} says that already (version {version['version']})")
        return
    console.print(f"{version['scope']} is at version {version['version']}")
    if change["applied"] or change["rejected"] or change["pending"]:
        console.print(
            f"agents that run: {change['applied']} applied it, {len(change['rejected'])} rejected it,"
            f" {change['pending']} have not answered yet"
        )
    for each in change["rejected"]:
        console.print(f"  {each['agent_id']}: {each['reason']}", markup=False)
