"""`countersign alerts`: what alert rules found of agents, and that somebody has seen it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..client import Client, segment
from ..output import ago, cell, command, console, print_json, table

app = typer.Typer(no_args_is_help=True, help="Alerts about agents: list, show, acknowledge; the rules that raise them.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
@command
def list_(
    state: Annotated[str, typer.Option(help="active, open, acknowledged, resolved or all.")] = "active",
    agent: Annotated[str | None, typer.Option(help="Only of this agent.")] = None,
    rule: Annotated[str | None, typer.Option(help="Only of this rule.")] = None,
    severity: Annotated[str | None, typer.Option(help="info, warning or critical.")] = None,
    before: Annotated[str | None, typer.Option(help="Only those raised before this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    json: Json = False,
) -> None:
    """List alerts, those raised last first."""
    query = {"agent_id": agent, "rule": rule, "severity": severity, "before": before, "limit": limit}
    page = Client.find().get("/api/v1/alerts", query | ({} if state == "all" else {"state": state}))
    if json:
        return print_json(page)
    rows = [
        (
            each["alert_id"],
            each["severity"],
            each["rule"],
            each["agent_id"],
            each["state"],
            ago(each["raised_at"]),
            each["summary"],
        )
        for each in page["items"]
    ]
    table(("ALERT", "SEVERITY", "RULE", "AGENT", "STATE", "RAISED", "FOUND"), rows, "no alerts")
    if page.get("next"):
        console.print(f"[dim]more: --before {page['next']}[/]")


@app.command()
@command
def show(alert_id: str, json: Json = False) -> None:
    """Show an alert."""
    found = Client.find().get(f"/api/v1/alerts/{segment(alert_id)}")
    if json:
        return print_json(found)
    for name, value in _told(found):
        console.print(f"[bold]{name:<13}[/]{cell(value)}")


@app.command()
@command
def ack(
    alert_id: str,
    comment: Annotated[str, typer.Option(help="What you know or do about it; it goes on record.")] = "",
    json: Json = False,
) -> None:
    """Acknowledge an alert: somebody has seen it. It stays active until it is resolved."""
    done = Client.find().post(f"/api/v1/alerts/{segment(alert_id)}/acknowledge", {"comment": comment})
    if json:
        return print_json(done)
    console.print(f"acknowledged {done['rule']} of {done['agent_id']} as {done['acknowledged']['by']}", markup=False)


@app.command()
@command
def rules(json: Json = False) -> None:
    """List the alert rules, and how many agents each of them finds."""
    found = Client.find().get("/api/v1/alert-rules")
    if json:
        return print_json(found)
    rows = [
        (
            each["rule"]["name"],
            each["version"],
            "enabled" if each["rule"]["enabled"] else "disabled",
            each["rule"]["severity"],
            ", ".join(each["rule"]["routes"]),
            str(each["pending"]),
            str(each["active"]),
            ago(each.get("evaluated_at")),
        )
        for each in found["items"]
    ]
    columns = ("RULE", "VERSION", "STATUS", "SEVERITY", "ROUTES", "PENDING", "ACTIVE", "LOOKED AT")
    table(columns, rows, "no alert rules; `countersign apply` declares them (kind: alert_rule)")


@app.command("remove-rule")
@command
def remove_rule(name: str, json: Json = False) -> None:
    """Remove an alert rule. Its alerts are resolved with that reason, and stay in the history."""
    gone = Client.find().delete(f"/api/v1/alert-rules/{segment(name)}")
    print_json(gone) if json else console.print(f"removed alert rule {gone['name']}", markup=False)


def _told(alert: dict[str, Any]) -> list[tuple[str, str]]:
    told = [
        ("alert", alert["alert_id"]),
        ("state", alert["state"]),
        ("severity", alert["severity"]),
        ("rule", f"{alert['rule']} (version {alert['rule_version']})"),
        ("agent", f"{alert['agent_id']} of team {alert['owner_team']}"),
        ("found", alert["summary"]),
        ("since", ago(alert["since"])),
        ("raised", ago(alert["raised_at"])),
    ]
    if alert["description"]:
        told.append(("what to do", alert["description"]))
    if (seen := alert.get("acknowledged")) is not None:
        comment = f": {seen['comment']}" if seen["comment"] else ""
        told.append(("acknowledged", f"by {seen['by']} {ago(seen['at'])}{comment}"))
    if alert.get("resolved_at"):
        told.append(("resolved", f"{ago(alert['resolved_at'])}: {alert['resolution']}"))
    if alert["routes"]:
        told.append(("routes", ", ".join(alert["routes"])))
    return told
