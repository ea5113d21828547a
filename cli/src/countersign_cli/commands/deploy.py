"""`countersign bootstrap` and `countersign serve`: the same system in containers or on several hosts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from countersign_contracts.services import SERVICES

from ..output import command, console

app = typer.Typer(no_args_is_help=True, help="Make a deployment's keys, and prepare its servers. Safe to repeat.")

FolderOption = Annotated[Path, typer.Option(help="Where the deployment's keys are kept. Only bootstrap reads it.")]
NatsUrl = Annotated[
    str,
    typer.Option(
        envvar="COUNTERSIGN_NATS_URL", help="nats-server, as the services reach it; several of a cluster with commas."
    ),
]
Postgres = Annotated[str, typer.Option(envvar="COUNTERSIGN_POSTGRES", help="PostgreSQL: host:port.")]
NatsCa = Annotated[
    Path | None,
    typer.Option(envvar="COUNTERSIGN_NATS_CA_FILE", help="Speak TLS with nats-server: who signed its certificate."),
]
PostgresCa = Annotated[
    Path | None,
    typer.Option(envvar="COUNTERSIGN_POSTGRES_CA_FILE", help="Speak TLS with PostgreSQL, likewise (verify-full)."),
]


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
    nats_node: Annotated[
        list[str] | None,
        typer.Option(
            help="A node of a cluster, NAME=HOST[:PORT[:CLUSTER_PORT]]; give it 3 or 5 times. Each gets a configuration"
            " of its own, nats/NAME/server.conf."
        ),
    ] = None,
    nats_tls: Annotated[
        Path | None,
        typer.Option(
            help="nats-server speaks TLS: the folder where it finds tls.crt, tls.key and ca.crt, as it sees them."
        ),
    ] = None,
) -> None:
    """Make what is missing: keys, users, trust bundle, passwords, nats-server's configuration."""
    from countersign_chassis.natsauth import ServerTls

    from ..bootstrap import Layout, prepare_material, read_node
    from ..deploy import hand_out

    material = prepare_material(
        Layout(folder),
        nats_host=nats_host,
        nats_port=nats_port,
        monitor_port=nats_monitor_port,
        nodes=[read_node(text) for text in nats_node or ()],
        nats_tls=ServerTls(nats_tls / "tls.crt", nats_tls / "tls.key", nats_tls / "ca.crt") if nats_tls else None,
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
    replicas: Annotated[
        int | None,
        typer.Option(
            min=1, max=5, help="Of how many nats-servers each stream has a copy. Default: as it is; at first 1."
        ),
    ] = None,
    nats_ca: NatsCa = None,
    postgres_ca: PostgresCa = None,
) -> None:
    """Make what is missing in the servers: database roles and schemas, streams, consumers, buckets."""
    from ..bootstrap import Layout
    from ..deploy import prepare_servers

    prepared = prepare_servers(
        Layout(folder),
        nats_url=nats_url,
        postgres=postgres,
        within_s=within,
        replicas=replicas,
        nats_ca=nats_ca,
        postgres_ca=postgres_ca,
    )
    asyncio.run(prepared)
    console.print("the servers are prepared")


@command
def serve_(
    service: Annotated[str, typer.Argument(help=f"One of: {', '.join(SERVICES)}.")],
    folder: Annotated[Path, typer.Option(envvar="COUNTERSIGN_FOLDER", help="What is this service's own.")],
    nats_url: NatsUrl,
    postgres: Postgres,
    postgres_ca: PostgresCa = None,
    connector_secrets: Annotated[
        Path | None,
        typer.Option(envvar="COUNTERSIGN_SECRETS_FILE", help="executor: connectors' secrets, if not in the folder."),
    ] = None,
    checkpoint_file: Annotated[
        Path | None,
        typer.Option(envvar="COUNTERSIGN_CHECKPOINT_FILE", help="audit: its checkpoints, if not in the folder."),
    ] = None,
) -> None:
    """Run one service; its other settings are read from the environment."""
    from ..deploy import serve, settings_in

    if service not in SERVICES:
        raise typer.BadParameter(f"there is no service {service}; there are: {', '.join(SERVICES)}")
    settings = settings_in(
        folder,
        service,
        nats_url=nats_url,
        postgres=postgres,
        postgres_ca=postgres_ca,
        elsewhere={"secrets_file": connector_secrets, "checkpoint_file": checkpoint_file},
    )
    raise typer.Exit(serve(service, settings))
