"""The configuration text, as the real server reads it, and the limits that protect it from one connection."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import urlopen

import nats.errors
import pytest

from countersign_chassis.natsauth import (
    ConnectionLimits,
    InvalidClaimError,
    InvalidKeyError,
    Permissions,
    ScopedKey,
)

if TYPE_CHECKING:
    from .conftest import Connect, Deployment, RawConnection


def test_the_server_starts_in_a_folder_with_any_name(new_deployment: Callable[[], Deployment], tmp_path: Path) -> None:
    deployment = new_deployment()
    deployment.folder = tmp_path / 'ein "Ördner" \\ $HOME {it}; #1'
    deployment.folder.mkdir()
    deployment.start()
    assert {file.stem for file in (deployment.folder / "accounts").glob("*.jwt")} == set(deployment.preloaded)
    assert (deployment.folder / "jetstream" / "jetstream").is_dir()


def test_monitoring_is_on_loopback_and_off_by_default(new_deployment: Callable[[], Deployment]) -> None:
    deployment = new_deployment()
    assert "http" not in deployment.config()
    deployment.start(monitor_port=-1, jetstream_disk_bytes=1 << 28, jetstream_memory_bytes=1 << 20)
    ports = json.loads(next(deployment.folder.glob("*.ports")).read_text())
    (monitor,) = ports["monitoring"]
    assert urlsplit(monitor).hostname == "127.0.0.1"
    with urlopen(f"{monitor}/varz", timeout=5) as answer:
        varz = json.load(answer)
    assert varz["max_payload"] == 1024 * 1024
    assert varz["max_control_line"] == 16 * 1024
    assert varz["max_pending"] == 16 * 1024 * 1024
    assert varz["write_deadline"] == 2_000_000_000
    assert varz["jetstream"]["config"]["max_storage"] == 1 << 28
    assert varz["jetstream"]["config"]["max_memory"] == 1 << 20
    assert varz["system_account"] == deployment.public("SYS")


def test_a_configuration_that_could_not_work_is_refused(new_deployment: Callable[[], Deployment]) -> None:
    deployment = new_deployment()
    agents = deployment.public("AGENTS")
    with pytest.raises(InvalidClaimError, match="system account"):
        deployment.config(accounts={agents: deployment.preloaded[agents]})
    with pytest.raises(InvalidKeyError):
        deployment.config(accounts=deployment.preloaded | {"AGENTS": deployment.preloaded[agents]})
    for text in ("", "two\nlines", "nul\x00"):
        with pytest.raises(InvalidClaimError, match="server configuration"):
            deployment.config(server_name=text)


def test_a_tampered_operator_or_account_jwt_keeps_the_server_from_starting(
    new_deployment: Callable[[], Deployment],
) -> None:
    deployment = new_deployment()
    config = deployment.config()
    agents = deployment.preloaded[deployment.public("AGENTS")]
    operator = next(line for line in config.splitlines() if line.startswith("operator:")).split('"')[1]
    for jwt in (agents, operator):
        broken = jwt[:-20] + ("A" if jwt[-20] != "A" else "B") + jwt[-19:]
        file = deployment.folder / "broken.conf"
        file.write_text(config.replace(jwt, broken))
        checked = subprocess.run([deployment.binary, "-t", "-c", str(file)], capture_output=True, timeout=20)
        assert checked.returncode != 0
    file.write_text(config)
    subprocess.run([deployment.binary, "-t", "-c", str(file)], capture_output=True, check=True, timeout=20)


async def test_a_message_over_one_mebibyte_is_refused(connect: Connect) -> None:
    core = await connect.user("CORE", "service")
    await core.publish("big", bytes(1024 * 1024))
    with pytest.raises(nats.errors.MaxPayloadError):
        await core.publish("big", bytes(1024 * 1024 + 1))


async def test_the_template_also_limits_payload_and_subscriptions(
    new_deployment: Callable[[], Deployment], raw_connection: type[RawConnection]
) -> None:
    deployment = new_deployment()
    template = Permissions(("agents.{{name()}}.logs",), ("agents.{{name()}}.results.>",))
    limits = ConnectionLimits(subscriptions=2, payload_bytes=100)
    deployment.preloaded[deployment.public("AGENTS")] = deployment.account(
        "AGENTS",
        issued_at=int(time.time()),
        scoped_keys=[ScopedKey(deployment.scoped.public, "agent", template, limits)],
    )
    deployment.start()
    with raw_connection.agent(deployment, "talker") as talker:
        assert talker.answer(b"PUB agents.talker.logs 100\r\n" + bytes(100) + b"\r\nPING\r\n") == b"PONG"
        assert talker.answer(b"PUB agents.talker.logs 101\r\n") == b"-ERR 'Maximum Payload Violation'"
    with raw_connection.agent(deployment, "hearer") as hearer:
        subscribe = b"".join(b"SUB agents.hearer.results.%d %d\r\n" % (n, n) for n in (1, 2))
        assert hearer.answer(subscribe + b"PING\r\n") == b"PONG"
        assert hearer.answer(b"SUB agents.hearer.results.3 3\r\n") == b"-ERR 'maximum subscriptions exceeded'"


async def test_who_does_not_read_is_cut_off_and_slows_nobody(
    deployment: Deployment, connect: Connect, raw_connection: type[RawConnection]
) -> None:
    system = await connect.user("SYS", "watcher")
    disconnects = await system.subscribe(f"$SYS.ACCOUNT.{deployment.public('AGENTS')}.DISCONNECT")
    publisher = await connect.user("AGENTS", "publisher")
    reader = await connect.agent("reader")
    results = await reader.subscribe("agents.reader.results.>")
    with raw_connection.agent(deployment, "slow") as slow:
        assert slow.answer(b"SUB agents.slow.results.> 1\r\nPING\r\n") == b"PONG"
        for _ in range(600):  # 37.5 MiB, more than `max_pending` and what the operating system buffers
            await publisher.client.publish("agents.slow.results.1", bytes(64 * 1024))
            await publisher.publish("agents.reader.results.1", b"still here")
        for _ in range(600):
            assert (await results.next_msg(timeout=5)).data == b"still here"
        varz = await system.client.request("$SYS.REQ.SERVER.PING.VARZ", timeout=5)
        assert json.loads(varz.data)["data"]["stalled_clients"] == 0, "the publisher was made to wait for the reader"
        assert "Slow Consumer" in json.loads((await disconnects.next_msg(timeout=10)).data)["reason"]
