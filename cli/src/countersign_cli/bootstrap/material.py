"""Keys and identities: the operator, its accounts, a least-privilege user and a signing key for each service."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from countersign_chassis.natsauth import (
    AccountLimits,
    ConnectionLimits,
    JetStreamLimits,
    KeyKind,
    KeyPair,
    Permissions,
    ScopedKey,
    ServerTls,
    account_jwt,
    account_push_permissions,
    creds_file,
    operator_jwt,
    read_claims,
    server_config,
    shared_config,
    user_jwt,
)
from countersign_chassis.sealing import OpenKey, key_text, new_key, read_key
from countersign_contracts import subjects, topology
from countersign_contracts.event import SERVICES

from ..embedded.datadir import write_secret
from .event_keys import write_trust
from .layout import Layout
from .nodes import Node, check_nodes, write_configs
from .signing_keys import pairs

#: Upper bounds, not reservations of real space; the streams of the topology fit below them.
CORE_DISK_BYTES = 12 * 1024**3
AGENTS_DISK_BYTES = 4 * 1024**3
#: A connection that registers an agent.
BOOTSTRAP_LIMITS = ConnectionLimits(subscriptions=4, payload_bytes=4 * 1024)
#: A connection that asks which agents run.
OBSERVER_LIMITS = ConnectionLimits(subscriptions=8, payload_bytes=1024)
#: An agent's connection: few subscriptions, messages no larger than an action may be.
AGENT_LIMITS = ConnectionLimits(subscriptions=32, payload_bytes=256 * 1024)


@dataclass(frozen=True, slots=True)
class Material:
    """What bootstrap made or found."""

    layout: Layout
    deployment: str
    postgres_passwords: dict[str, str]


def prepare_material(
    layout: Layout,
    *,
    nats_host: str,
    nats_port: int,
    monitor_port: int | None = None,
    ports_file_dir: Path | None = None,
    nodes: Sequence[Node] = (),
    nats_tls: ServerTls | None = None,
) -> Material:
    """Make what is missing, then write the trust bundle and nats-server's configuration anew.

    With ``nodes`` nats-server is a cluster, each with a configuration of its own; ``nats_host`` is where each listens.
    """
    check_nodes(nodes)
    layout.make()
    at = int(time.time())
    operator = _pair(layout, "operator", "operator")
    operator_signing = pairs(layout, "operator-signing", "operator")
    system = _pair(layout, "system", "account")
    core = _pair(layout, "core", "account")
    agents = _pair(layout, "agents", "account")
    core_signing = pairs(layout, "core-signing", "account")
    agents_service_signing = pairs(layout, "agents-service-signing", "account")
    system_signing = pairs(layout, "system-signing", "account")

    copies = max(1, len(nodes))  # of each stream: every copy counts against its account
    accounts = {
        system.public: account_jwt(
            "SYS", system.public, operator_signing[0], issued_at=at, signing_keys=_public(system_signing)
        ),
        core.public: account_jwt(
            "CORE",
            core.public,
            operator_signing[0],
            issued_at=at,
            signing_keys=_public(core_signing),
            jetstream=JetStreamLimits(disk_bytes=CORE_DISK_BYTES * copies),
        ),
        agents.public: _agents_account(layout, AGENTS_DISK_BYTES * copies, at),
    }
    _users(layout, core_signing[0], core.public, agents_service_signing[0], agents.public, at)
    _user(
        layout,
        "registry-system",
        "registry",
        system_signing[0],
        system.public,
        account_push_permissions(agents.public, subjects.inbox("registry")),
        at,
    )
    shared: dict[str, Any] = {
        "operator": operator_jwt(
            operator, signing_keys=_public(operator_signing), system_account=system.public, issued_at=at
        ),
        "system_account": system.public,
        "accounts": accounts,
    }
    write_secret(layout.nats_accounts, shared_config(**shared))
    text = partial(
        server_config,
        **shared,
        monitor_port=monitor_port,
        jetstream_disk_bytes=CORE_DISK_BYTES + AGENTS_DISK_BYTES,
    )
    write_configs(
        layout,
        text,
        nodes=nodes,
        host=nats_host,
        port=nats_port,
        tls=nats_tls,
        ports_file_dir=ports_file_dir,
    )
    deployment = write_trust(layout)
    _argument_keys(layout)
    if not layout.codes_key.exists():
        write_secret(layout.codes_key, key_text(new_key()))
    if not layout.admin_token.exists():
        write_secret(layout.admin_token, f"csp_{secrets.token_urlsafe(32)}\n")
    return Material(layout, deployment, _passwords(layout))


def _pair(layout: Layout, name: str, kind: KeyKind) -> KeyPair:
    path = layout.seed(name)
    if not path.exists():
        write_secret(path, KeyPair.generate(kind).seed + "\n")
    return KeyPair.from_seed(path.read_text().strip())


def _public(keys: Sequence[KeyPair]) -> list[str]:
    return [pair.public for pair in keys]


def renew_agents_account(layout: Layout) -> None:
    """Make account AGENTS anew of the keys as they are: the registry takes it up and pushes it."""
    known = read_claims(layout.agents_account.read_text().strip())
    _agents_account(layout, int(known["nats"]["limits"]["disk_storage"]), int(known["iat"]))


def _agents_account(layout: Layout, disk_bytes: int, at: int) -> str:
    """Agents' users come from a scoped key: its template is all they may do, whatever their JWT says.

    An account that an older version made is made anew, with the time of the old one: of the two, nats-server goes on
    with the one that the registry pushed last, which knows who was revoked, until the registry pushes this one.
    """
    known = layout.agents_account.read_text().strip() if layout.agents_account.exists() else None
    jwt = account_jwt(
        "AGENTS",
        _pair(layout, "agents", "account").public,
        pairs(layout, "operator-signing", "operator")[0],
        issued_at=at if known is None else int(read_claims(known)["iat"]),
        signing_keys=_public(pairs(layout, "agents-service-signing", "account")),
        scoped_keys=[
            ScopedKey(pair.public, role, _permissions(access), limits)
            for file, role, access, limits in (
                ("agents-signing", "agent", agent_access(), AGENT_LIMITS),
                ("agents-bootstrap-signing", "bootstrap", bootstrap_access(), BOOTSTRAP_LIMITS),
                ("agents-observer-signing", "observer", observer_access(), OBSERVER_LIMITS),
            )
            for pair in pairs(layout, file, "account")
        ],
        jetstream=JetStreamLimits(disk_bytes=disk_bytes),
        limits=AccountLimits(payload_bytes=topology.MAX_PAYLOAD_BYTES),
    )
    if jwt != known:
        write_secret(layout.agents_account, jwt + "\n")
    return jwt


def agent_access(name: str = "{{name()}}") -> topology.Access:
    """What the agent of that id may do."""
    return topology.Access(
        tuple(subjects.agent(name, verb) for verb in subjects.AGENT_PUBLISHES),
        (*(f"{subjects.agent(name, verb)}.>" for verb in subjects.AGENT_HEARS), f"{subjects.inbox(name)}.>"),
    )


def bootstrap_access(name: str = "{{name()}}") -> topology.Access:
    """What whoever holds the bootstrap credential of that discovery token may do."""
    return topology.Access((subjects.REGISTER,), (f"{subjects.bootstrap_inbox(name)}.>",))


def observer_access(name: str = "{{name()}}") -> topology.Access:
    """What whoever observes may do: ask for services of NATS (ADR-32), and hear the answers."""
    return topology.Access(("$SRV.>",), (f"{subjects.observer_inbox(name)}.>",))


def _users(layout: Layout, core_signing: KeyPair, core: str, agents_signing: KeyPair, agents: str, at: int) -> None:
    for service in SERVICES:
        _user(layout, f"{service}-core", service, core_signing, core, _permissions(topology.core_access(service)), at)
        if access := topology.agents_access(service):
            _user(layout, f"{service}-agents", service, agents_signing, agents, _permissions(access), at)
    administers = Permissions(publish=("$JS.API.>",), subscribe=(f"{subjects.inbox('bootstrap')}.>",))
    _user(layout, "bootstrap-core", "bootstrap", core_signing, core, administers, at)
    _user(layout, "bootstrap-agents", "bootstrap", agents_signing, agents, administers, at)


def _permissions(access: topology.Access) -> Permissions:
    return Permissions(publish=access.publish, subscribe=access.subscribe)


def _user(
    layout: Layout, file: str, name: str, signer: KeyPair, account: str, permissions: Permissions, at: int
) -> None:
    """The user keeps its key; its permissions are written anew, since a newer version may need others."""
    pair = _pair(layout, f"user-{file}", "user")
    jwt = user_jwt(name, pair.public, signer, account, permissions, issued_at=at)
    write_secret(layout.creds(file), creds_file(jwt, pair.seed))


def _argument_keys(layout: Layout) -> None:
    """For sensitive arguments: the executor's pair, and the gateway's key of marks. What is there is kept.

    The public half is that of the first key in the executor's file; the others open what was sealed before.
    """
    for path in (layout.box_key, layout.marks_key):
        if not path.exists():
            write_secret(path, key_text(new_key()))
    public = OpenKey(read_key(layout.box_key, "key of sensitive arguments")).public
    write_secret(layout.box_public, key_text(public))


def _passwords(layout: Layout) -> dict[str, str]:
    known: dict[str, str] = {}
    if layout.postgres_passwords.exists():
        known = json.loads(layout.postgres_passwords.read_text())
    for role in ("postgres", *SERVICES):
        known.setdefault(role, secrets.token_urlsafe(24))
    write_secret(layout.postgres_passwords, json.dumps(known, indent=1))
    return known
