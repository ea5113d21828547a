"""`countersign bootstrap` and `countersign serve`: the same system in containers or on several hosts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from countersign_contracts.event import SERVICES

from ..output import command, console

app = typer.Typer(no_args_is_help=True, help="Make a deployment's keys, and prepare its servers. Safe to repeat.")

FolderOption = Annotated[Path, typer.Option(help="Where the deployment's keys are kept. Only bootstrap reads it.")]
NatsUrl = Annotated[str, typer.Option(envvar="COUNTERSIGN_NATS_URL", help="nats-server, as the services reach it.")]
Postgres = Annotated[str, typer.Option(envvar="COUNTERSIGN_POSTGRES", help="PostgreSQL: host:port.")]


@app.command()
@command
def keys(
    folder: FolderOption,
    services: Annotated[Path, typer.Option(help="Gets a folder for each service, with what is its own.")],
    nats_host: Annotated[str, typer.Option(help="Where nats-server listens.")] = "0.0.0.0",  # noqa: S104
    nats_port: Annotated[int, typer.Option(help="nats-server's port.")] = 4222,
    nats_monitor_port: Annotated[
        int | None, typer.Option(help="nats-server's monitoring page, on its loopback only; default: none.")
    ] = None,
) -> None:
    """Make what is missing: keys, users, trust bundle, passwords, nats-server's configuration."""
    from ..bootstrap import Layout, prepare_material
    from ..deploy import hand_out

    material = prepare_material(
        Layout(folder), nats_host=nats_host, nats_port=nats_port, monitor_port=nats_monitor_port
    )
    hand_out(material, services)
    console.print(f"deployment {material.deployment}: keys are in {folder}, what each service needs in {services}")


@app.command()
@command
def servers(
    folder: FolderOption,
    nats_url: NatsUrl,
    postgres: Postgres,
    within: Annotated[float, typer.Option(help="Seconds to wait for the servers to answer.")] = 60,
) -> None:
    """Make what is missing in the servers: database roles and schemas, streams, consumers, buckets."""
    from ..bootstrap import Layout
    from ..deploy import prepare_servers

    asyncio.run(prepare_servers(Layout(folder), nats_url=nats_url, postgres=postgres, within_s=within))
    console.print("the servers are prepared")


@command
def serve_(
    service: Annotated[str, typer.Argument(help=f"One of: {', '.join(SERVICES)}.")],
    folder: Annotated[Path, typer.Option(envvar="COUNTERSIGN_FOLDER", help="What is this service's own.")],
    nats_url: NatsUrl,
    postgres: Postgres,
) -> None:
    """Run one service; its other settings are read from the environment."""
    from ..deploy import serve, settings_in

    if service not in SERVICES:
        raise typer.BadParameter(f"there is no service {service}; there are: {', '.join(SERVICES)}")
    raise typer.Exit(serve(service, settings_in(folder, service, nats_url=nats_url, postgres=postgres)))
