"""`countersign agents observe`: agents as the NATS service API shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..client import Client
from ..embedded.datadir import write_secret
from ..output import ago, command, console, print_json

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
