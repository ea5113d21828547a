"""What a nats-server's configuration says beyond one plain server: TLS for clients, and the other nodes of a cluster.

Pure text. Certificates are named by path: the server reads them itself, and again at `nats-server --signal reload`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .permissions import InvalidClaimError


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files of one server. `authority` signed the certificates of every node: routes check it on both sides."""

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True, slots=True)
class Cluster:
    """The nodes that are one cluster. `host` and `port` are where this one listens for the others.

    `routes` are the addresses (`host:port`) of all, this one's may be among them; `advertise` is the name under
    which the others and clients find this node, if not every address of its machine is to be told. `secret` is
    what a node shows the others.
    """

    name: str
    host: str
    port: int
    routes: Sequence[str]
    secret: str
    advertise: str | None = None


def tls_lines(tls: ServerTls) -> list[str]:
    """Clients speak TLS or not at all. They show no certificate: who they are, their signed user says."""
    return ["", *_tls(tls, "")]


def cluster_lines(cluster: Cluster, tls: ServerTls | None) -> list[str]:
    """Routes to the other nodes, which need the secret and, with `tls`, a certificate of the authority."""
    user = "route"
    routes = ", ".join(quoted(f"nats-route://{user}:{cluster.secret}@{route}") for route in cluster.routes)
    lines = [
        "",
        "cluster: {",
        f"  name: {quoted(cluster.name)}",
        f"  host: {quoted(cluster.host)}",
        f"  port: {cluster.port}",
        f"  authorization: {{ user: {quoted(user)}, password: {quoted(cluster.secret)}, timeout: 5 }}",
        f"  routes: [{routes}]",
    ]
    if cluster.advertise is not None:
        lines.append(f"  cluster_advertise: {quoted(f'{cluster.advertise}:{cluster.port}')}")
    if tls is not None:
        lines += _tls(tls, "  ", verify=True)
    return [*lines, "}"]


def _tls(tls: ServerTls, indent: str, *, verify: bool = False) -> list[str]:
    return [
        f"{indent}tls: {{",
        f"{indent}  cert_file: {quoted(str(tls.certificate))}",
        f"{indent}  key_file: {quoted(str(tls.key))}",
        f"{indent}  ca_file: {quoted(str(tls.authority))}",
        f"{indent}  verify: {str(verify).lower()}",
        f'{indent}  min_version: "1.2"',
        f"{indent}  timeout: 5",
        f"{indent}}}",
    ]


def quoted(text: str) -> str:
    """A string of the server's configuration format: JSON's escapes, but none of its \\u."""
    if not text or any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):
        raise InvalidClaimError(f"cannot stand in a server configuration: {text!r}")
    return json.dumps(text, ensure_ascii=False)
