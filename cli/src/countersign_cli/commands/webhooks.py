"""`countersign webhooks`: where events of approvals are posted, and what did not arrive."""

from __future__ import annotations

from typing import Annotated

import typer

from ..client import Client, segment
from ..output import Misused, ago, command, console, print_json, table

app = typer.Typer(no_args_is_help=True, help="Webhooks: how they fare, what did not arrive, post it again.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
@command
def list_(json: Json = False) -> None:
    """List webhooks, what waits for them, and what was given up."""
    found = Client.find().get("/api/v1/webhooks")
    if json:
        return print_json(found)
    rows = [
        (
            each["webhook"]["name"],
            each["webhook"]["url"],
            ", ".join(each["webhook"]["events"]),
            "enabled" if each["webhook"]["enabled"] else "disabled",
            f"{each['pending']}" + (f" (since {ago(each['oldest'])})" if each.get("oldest") else ""),
            f"{each['given_up']}",
        )
        for each in found["items"]
    ]
    table(("NAME", "URL", "EVENTS", "STATUS", "PENDING", "GIVEN UP"), rows, "no webhooks")


@app.command()
@command
def deliveries(
    webhook: Annotated[str | None, typer.Option(help="Only this one's.")] = None,
    state: Annotated[str | None, typer.Option(help="pending, delivered or given_up.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    json: Json = False,
) -> None:
    """List what was posted, is to be posted, or was given up; newest first."""
    query = {"webhook": webhook, "state": state, "limit": limit}
    page = Client.find().get("/api/v1/webhooks/deliveries", query)
    if json:
        return print_json(page)
    rows = [
        (
            each["webhook"],
            each["event_id"],
            each["state"],
            str(each["tries"]),
            ago(each["created_at"]),
            ago(each["next_at"]) if each.get("next_at") else None,
            each.get("last_error"),
        )
        for each in page["items"]
    ]
    table(("WEBHOOK", "EVENT", "STATE", "TRIES", "HAPPENED", "AGAIN", "LAST ERROR"), rows, "no deliveries")


@app.command()
@command
def repeat(
    webhook: str,
    event: Annotated[str | None, typer.Argument(help="The event's id.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Everything that was given up.")] = False,
    json: Json = False,
) -> None:
    """Post again what was given up."""
    if all_ == (event is not None):
        raise Misused("name the event, or say --all; `countersign webhooks deliveries --state given_up` shows them")
    done = Client.find().post(f"/api/v1/webhooks/{segment(webhook)}/repeat", {"event_id": event})
    if json:
        return print_json(done)
    console.print(f"{done['count']} {'is' if done['count'] == 1 else 'are'} posted to {webhook} again")
