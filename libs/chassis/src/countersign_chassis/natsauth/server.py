"""The configuration text of a nats-server in operator mode: which keys it trusts, where its data is, and
the limits that stop one connection from harming the others.

It starts nothing and writes nothing. TLS and clusters are in `cluster`; leaf nodes are not configured.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .cluster import Cluster, ServerTls, cluster_lines, quoted, tls_lines
from .keys import require_public_key
from .permissions import InvalidClaimError

MAX_PAYLOAD_BYTES: Final = 1024 * 1024
MAX_PENDING_BYTES: Final = 16 * 1024 * 1024
WRITE_DEADLINE_SECONDS: Final = 2
#: How often the nodes of a cluster compare the accounts that they know.
RESOLVER_SYNC_SECONDS: Final = 2
#: A user's permissions stand in its JWT, which it shows in one line. nats-server's own limit is 4 KiB.
MAX_CONTROL_LINE_BYTES: Final = 16 * 1024


def server_config(
    *,
    server_name: str,
    operator: str,
    system_account: str,
    accounts: Mapping[str, str],
    jetstream_dir: Path,
    resolver_dir: Path,
    host: str = "127.0.0.1",
    port: int = 4222,
    monitor_port: int | None = None,
    ports_file_dir: Path | None = None,
    jetstream_disk_bytes: int | None = None,
    jetstream_memory_bytes: int | None = None,
    tls: ServerTls | None = None,
    cluster: Cluster | None = None,
) -> str:
    """The text for `nats-server -c`.

    `operator` is the operator's JWT, `system_account` a public key; `accounts` maps public keys to account
    JWTs, the system account's among them. They are loaded at each start; but one pushed later
    (`push_account`) stays in `resolver_dir` and wins while its `iat` is later. Port -1 lets the server
    choose, and name its choice in `nats-server_<pid>.ports` in `ports_file_dir`. `monitor_port` opens the
    HTTP monitoring endpoint, on loopback only, since it asks nobody who they are. Without JetStream sizes
    the server takes its own from the machine: three quarters of memory and of free disk. `cluster` makes it
    one node of several, of which each has a `server_name` of its own. Raises InvalidClaimError and
    InvalidKeyError.
    """
    lines = [
        f"server_name: {quoted(server_name)}",
        f"host: {quoted(host)}",
        f"port: {port}",
    ]
    if monitor_port is not None:
        lines.append(f'http: "127.0.0.1:{monitor_port}"')
    if ports_file_dir is not None:
        lines.append(f"ports_file_dir: {quoted(str(ports_file_dir))}")
    # a node that was away lets in what was voided meanwhile until it has asked the others; a minute, if not told
    sync = "" if cluster is None else f', interval: "{RESOLVER_SYNC_SECONDS}s"'
    lines += [
        "",
        f"resolver: {{ type: full, dir: {quoted(str(resolver_dir))}{sync} }}",
        "",
        "jetstream: {",
        f"  store_dir: {quoted(str(jetstream_dir))}",
    ]
    if jetstream_disk_bytes is not None:
        lines.append(f"  max_file_store: {jetstream_disk_bytes}")
    if jetstream_memory_bytes is not None:
        lines.append(f"  max_memory_store: {jetstream_memory_bytes}")
    lines += ["}", *_shared(operator, system_account, accounts)]
    if tls is not None:
        lines += tls_lines(tls)
    if cluster is not None:
        if cluster.advertise is not None:
            lines.append(f"client_advertise: {quoted(f'{cluster.advertise}:{port}')}")
        lines += cluster_lines(cluster, tls)
    return "\n".join(lines) + "\n"


def shared_config(*, operator: str, system_account: str, accounts: Mapping[str, str]) -> str:
    """What any server of the deployment is told, to be included in a configuration that others write.

    That one still has to name `resolver`, of type full, and `jetstream`. Raises as `server_config`.
    """
    return "\n".join(_shared(operator, system_account, accounts)[1:]) + "\n"


def _shared(operator: str, system_account: str, accounts: Mapping[str, str]) -> list[str]:
    require_public_key(system_account, "account")
    if system_account not in accounts:
        raise InvalidClaimError("the system account is not among the accounts")
    return [
        "",
        f"operator: {quoted(operator)}",
        f"system_account: {system_account}",
        "resolver_preload: {",
        *(f"  {require_public_key(key, 'account')}: {quoted(jwt)}" for key, jwt in sorted(accounts.items())),
        "}",
        "",
        f"max_payload: {MAX_PAYLOAD_BYTES}",
        f"max_control_line: {MAX_CONTROL_LINE_BYTES}",
        "# Who does not read is cut off: with this much waiting for it, or once a write blocks for so long.",
        f"max_pending: {MAX_PENDING_BYTES}",
        f'write_deadline: "{WRITE_DEADLINE_SECONDS}s"',
        "# Until then it misses messages, instead of slowing down those who publish to it.",
        "no_fast_producer_stall: true",
    ]
