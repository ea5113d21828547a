"""nats-server's configuration: of one server, or of each node of a cluster.

A node's files are in a folder of its own, so that it can be copied to the node's host as it is.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from countersign_chassis.natsauth import Cluster, ServerTls
from countersign_contracts.errors import CountersignError

from ..embedded.datadir import write_secret
from .layout import Layout

#: Makes the text, given ``server_name``, ``jetstream_dir``, ``resolver_dir``, ``port``, ``cluster``.
Text = Callable[..., str]
CLUSTER = "countersign"


@dataclass(frozen=True, slots=True)
class Node:
    """One nats-server of a cluster, at the address where the other nodes and the clients reach it."""

    name: str
    host: str
    port: int = 4222
    cluster_port: int = 6222


def read_node(text: str) -> Node:
    """``NAME=HOST[:PORT[:CLUSTER_PORT]]``; raises :class:`CountersignError` saying what is allowed."""
    name, equals, address = text.partition("=")
    host, *ports = address.split(":")
    well = equals and host and name.replace("-", "").isalnum() and name.isascii() and len(ports) <= 2
    if not well or not all(port.isascii() and port.isdigit() and 0 < int(port) < 65536 for port in ports):
        raise CountersignError(
            f"a node of nats-server is NAME=HOST, NAME=HOST:PORT or NAME=HOST:PORT:CLUSTER_PORT, not {text!r}"
        )
    return Node(name, host, *(int(port) for port in ports))


def check_nodes(nodes: Sequence[Node]) -> None:
    """Raises :class:`CountersignError` unless they can be a cluster that outlives one of them."""
    names = [node.name for node in nodes]
    if len(set(names)) != len(names):
        raise CountersignError(f"two nodes of nats-server have one name: {', '.join(names)}")
    if nodes and len(nodes) not in (3, 5):
        raise CountersignError(
            f"a cluster of nats-server has 3 or 5 nodes, not {len(nodes)}: it works while most of them do"
        )


def write_configs(
    layout: Layout,
    text: Text,
    *,
    nodes: Sequence[Node],
    host: str,
    port: int,
    tls: ServerTls | None,
    ports_file_dir: Path | None,
) -> None:
    """``nats/server.conf``, or ``nats/<node>/server.conf`` for each node. ``host`` is where each listens."""
    if not nodes:
        config = text(
            server_name=CLUSTER,
            jetstream_dir=layout.nats / "jetstream",
            resolver_dir=layout.nats / "resolver",
            port=port,
            host=host,
            tls=tls,
            ports_file_dir=ports_file_dir,
        )
        write_secret(layout.nats_config, config)
        return
    secret = layout.cluster_secret
    if not secret.exists():
        write_secret(secret, secrets.token_urlsafe(24) + "\n")
    routes = [f"{node.host}:{node.cluster_port}" for node in nodes]
    for node in nodes:
        folder = layout.node(node.name)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = text(
            server_name=node.name,
            jetstream_dir=folder / "jetstream",
            resolver_dir=folder / "resolver",
            port=node.port,
            host=host,
            tls=tls,
            cluster=Cluster(CLUSTER, host, node.cluster_port, routes, secret.read_text().strip(), node.host),
        )
        write_secret(folder / "server.conf", config)
