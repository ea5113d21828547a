"""`countersign agents observe` and `observers`: who may see agents as the NATS service API shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..client import Client, segment
from ..embedded.datadir import write_secret
from ..output import ago, command, console, print_json, table

observers = typer.Typer(no_args_is_help=True, help="Who was given a NATS user by `countersign agents observe`.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@command
def observe(
    lifetime_s: Annotated[int, typer.Option(min=10, max=3600, help="Seconds until it ends.")] = 900,
    output: Annotated[Path, typer.Option(help="Folder for the file.")] = Path(),
    json: Json = False,
) -> None:
    """Make `observer.creds`, a NATS user that can ask which agents run and nothing else: for `nats micro ls`."""
    issued = Client.find().post("/api/v1/agents/observers", {"lifetime_s": lifetime_s})
    if json:
        return print_json(issued)
    path = output / "observer.creds"
    write_secret(path.absolute(), issued["nats_creds"])
    console.print(f"wrote {path}, ends {ago(issued['expires_at'])}; with it and the address of your nats-server:")
    console.print(f"nats --creds {path} --inbox-prefix {issued['inbox_prefix']} micro ls", soft_wrap=True)


@observers.command("list")
@command
def list_(json: Json = False) -> None:
    """List observers, the latest first; those that ended for a day."""
    found = list(Client.find().all("/api/v1/agents/observers"))
    if json:
        return print_json({"items": found})
    rows = [
        (
            each["observer_id"],
            each["created_by"],
            ago(each["created_at"]),
            f"revoked by {each['revoked_by']}" if each.get("revoked_at") else ago(each["expires_at"]),
        )
        for each in found
    ]
    table(("OBSERVER", "MADE BY", "MADE", "ENDS"), rows, "no observers")


@observers.command("revoke")
@command
def revoke(observer_id: str, json: Json = False) -> None:
    """Revoke an observer before it ends: its connections are dropped, and it is let in no more."""
    revoked = Client.find().delete(f"/api/v1/agents/observers/{segment(observer_id)}")
    if json:
        return print_json(revoked)
    console.print(f"{observer_id} is revoked")
