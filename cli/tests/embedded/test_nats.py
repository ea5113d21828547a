"""The embedded nats-server, the real one."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import nats
import pytest

from countersign_cli.embedded.errors import EmbeddedError
from countersign_cli.embedded.nats import EmbeddedNats


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "server.conf"
    file.write_text(f'host: "127.0.0.1"\nport: -1\njetstream {{ store_dir: "{tmp_path / "js"}" }}\n')
    return file


@pytest.fixture
def server(config: Path) -> Iterator[EmbeddedNats]:
    started = EmbeddedNats(config, config.parent / "runtime")
    started.start()
    yield started
    started.stop()


async def test_when_it_is_ready_jetstream_is(server: EmbeddedNats) -> None:
    client = await nats.connect(server.url() or "")
    stream = await client.jetstream().add_stream(name="KEPT", subjects=["kept"])
    assert stream.config.name == "KEPT"
    await client.close()


async def test_what_was_stored_is_there_after_a_restart(server: EmbeddedNats) -> None:
    client = await nats.connect(server.url() or "")
    await client.jetstream().add_stream(name="KEPT", subjects=["kept"])
    await client.jetstream().publish("kept", b"a message")
    await client.close()
    server.stop()
    assert server.url() is None
    assert not server.ready()
    server.start()
    client = await nats.connect(server.url() or "")
    assert (await client.jetstream().get_msg("KEPT", seq=1)).data == b"a message"
    await client.close()


def test_a_server_that_an_earlier_run_left_is_ended_first(
    server: EmbeddedNats, config: Path, all_gone: Callable[[Iterable[int]], None]
) -> None:
    [ports] = (config.parent / "runtime").glob("*.ports")
    again = EmbeddedNats(config, config.parent / "runtime")
    again.start()
    all_gone([int(ports.stem.rpartition("_")[2])])
    assert not ports.exists()
    assert again.ready()
    again.stop()


def test_a_stale_ports_file_is_no_proof_of_readiness(server: EmbeddedNats, config: Path) -> None:
    [ports] = (config.parent / "runtime").glob("*.ports")
    os.kill(int(ports.stem.rpartition("_")[2]), signal.SIGKILL)
    server.stop()
    assert ports.exists()
    assert not server.ready()
    server.start()
    assert server.ready()


def test_a_process_of_the_same_number_that_is_no_nats_server_is_left_alone(server: EmbeddedNats, config: Path) -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as other:
        (config.parent / "runtime" / f"nats-server_{other.pid}.ports").write_text("{}")
        server.clear_leftovers()
        assert other.poll() is None
        other.kill()


def test_a_missing_configuration_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"server\.conf, the configuration of nats-server, is missing"):
        EmbeddedNats(tmp_path / "server.conf", tmp_path).program()


def test_a_server_that_cannot_start_names_its_log(config: Path) -> None:
    config.write_text("no configuration {\n")
    with pytest.raises(EmbeddedError, match=r"nats ended while starting: see .*nats\.log$"):
        EmbeddedNats(config, config.parent / "runtime").start()
