"""The command line: it serves, starts again from the seed, survives being killed, explains refusals."""

import asyncio
import signal
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ticketing.store import DatabaseUnusable, Store

EMAIL = {"subject": "Hello", "body": "All done."}


async def test_an_answered_write_survives_a_kill_and_its_key_is_still_known(spawn: Any) -> None:
    first = await spawn()
    answer = await first.api.call("POST", "/customers/1/email", json=EMAIL, key="k-1")
    await first.kill()
    again = await spawn()
    assert await again.api.call("POST", "/customers/1/email", json=EMAIL, key="k-1") == answer
    assert len(await again.api.journal()) == 1


async def test_reset_starts_again_from_the_seed(spawn: Any) -> None:
    first = await spawn()
    await first.api.call("PATCH", "/tickets/2", json={"status": "closed"}, key="k-1")
    await first.kill()
    fresh = await spawn("--reset")
    assert (await fresh.api.call("GET", "/tickets/2"))[1]["status"] == "open"
    assert await fresh.api.journal() == []
    await fresh.api.call("PATCH", "/tickets/4", json={"status": "closed"}, key="k-1")
    assert [entry["id"] for entry in await fresh.api.journal()] == [1]


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_without_a_stack_trace(spawn: Any, signal_number: signal.Signals) -> None:
    running = await spawn()
    await running.api.call("GET", "/health")
    running.process.send_signal(signal_number)
    async with asyncio.timeout(10):
        _, errors = await running.process.communicate()
    assert b"Traceback" not in errors
    assert running.process.returncode == 0


async def test_a_port_in_use_is_one_clear_line(command: Any, database: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, said = await command("serve", "--port", str(port), "--database", str(database))
    assert said.startswith(f"ticketing: cannot listen on 127.0.0.1:{port}: ")
    assert (code, said.count("\n")) == (1, 1)


async def test_a_folder_that_is_not_there_is_one_clear_line(command: Any, tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "ticketing.db"
    code, _, said = await command("serve", "--port", "0", "--database", str(missing))
    assert (code, said) == (1, f"ticketing: {missing}: unable to open database file\n")


def test_reset_never_empties_the_database_of_another_application(database: Path) -> None:
    with closing(sqlite3.connect(database)) as theirs:
        theirs.execute("CREATE TABLE customers (id INTEGER)")
    store = Store(database)
    with pytest.raises(DatabaseUnusable, match="another application"):
        store.prepare(reset=True)
    store.close()


def test_a_file_that_is_no_database_is_left_alone(database: Path) -> None:
    database.write_text("a letter to my grandmother, long enough to have a header\n" * 10)
    before = database.read_bytes()
    store = Store(database)
    with pytest.raises(DatabaseUnusable, match="not a database"):
        store.prepare(reset=True)
    store.close()
    assert database.read_bytes() == before


async def test_work_runs_the_agent_and_says_what_it_did(api: Any, command: Any) -> None:
    code, output, errors = await command("work", "--url", api.url)
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert len(lines) == 1 + len(await api.journal())
    assert lines[-1].startswith("succeeded: send_customer_email(customer_id=2")
