"""The embedded PostgreSQL, the real one."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from countersign_cli.embedded import linux, server_user
from countersign_cli.embedded import postgres as postgres_module
from countersign_cli.embedded.binaries import postgres_binary
from countersign_cli.embedded.errors import EmbeddedError
from countersign_cli.embedded.postgres import EmbeddedPostgres
from countersign_cli.embedded.postgres_socket import SOCKET_PATH_LIMIT_BYTES
from countersign_cli.embedded.server_user import MappedUser, ServerUser, choose_server_user

PROGRAM = postgres_binary("postgres")
PASSWORD = "p@ss/w:rd%'"


def query(postgres: EmbeddedPostgres, sql: str, password: str = PASSWORD) -> Any:
    async def ask() -> Any:
        connection = await asyncpg.connect(postgres.dsn("postgres", password, "postgres"))
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(ask())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("data") / "postgres", None, PASSWORD)
    postgres.start()
    yield postgres
    postgres.stop()


def test_it_is_made_and_ready_in_about_a_second(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path / "postgres", None, PASSWORD)
    began = time.monotonic()
    postgres.start()
    took = time.monotonic() - began
    postgres.stop()
    assert took < 20, "loosely: three quarters of a second on an idle machine"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("data_checksums", "on"),
        ("server_encoding", "UTF8"),
        ("shared_buffers", "64MB"),
        ("max_connections", "120"),
        ("listen_addresses", ""),
        ("TimeZone", "UTC"),
    ],
)
def test_it_is_durable_and_small(server: EmbeddedPostgres, setting: str, value: str) -> None:
    assert query(server, f"show {setting}") == value


def test_text_sorts_the_same_on_every_machine(server: EmbeddedPostgres) -> None:
    found = query(server, "select datlocprovider::text || ' ' || datlocale from pg_database where datname = 'postgres'")
    assert found == "b C.UTF-8"
    assert query(server, "select upper('é')") == "É"


def test_no_way_in_without_the_password(server: EmbeddedPostgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        query(server, "select 1", password="wrong")
    rules = query(server, "select string_agg(distinct auth_method, ',') from pg_hba_file_rules")
    assert rules == "scram-sha-256"


def test_the_socket_and_the_data_are_private(server: EmbeddedPostgres) -> None:
    for path in (server.folder, server.folder / "data", server.folder / "socket"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert not (server.folder / "initdb.password").exists()


def test_what_was_committed_survives_a_kill(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path / "postgres", None, PASSWORD)
    postgres.start()
    query(postgres, "create table kept as select 42 as answer")
    pid = int((postgres.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
    os.kill(pid, signal.SIGKILL)
    postgres.stop()
    again = EmbeddedPostgres(tmp_path / "postgres", None, PASSWORD)
    start_with_patience(again)
    assert query(again, "select answer from kept") == 42
    again.stop()


def test_a_stale_process_number_of_another_program_is_no_obstacle(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path / "postgres", None, PASSWORD)
    postgres.start()
    lock = postgres.folder / "data" / "postmaster.pid"
    written = lock.read_text()
    postgres.stop()
    # In a container the numbers are small, and soon used again.
    other = os.getppid() if os.getppid() > 1 else os.getpid()
    lock.write_text(written.replace(written.splitlines()[0], str(other), 1))
    postgres.start()
    assert query(postgres, "select 1") == 1
    postgres.stop()


def test_a_process_number_of_some_other_postgres_is_respected(tmp_path: Path) -> None:
    """Its folder may have another name here (a bind mount), and two servers on one folder would destroy the data."""
    postgres = EmbeddedPostgres(tmp_path / "postgres", None, PASSWORD)
    postgres.start()
    lock = postgres.folder / "data" / "postmaster.pid"
    written = lock.read_text()
    postgres.stop()
    other = EmbeddedPostgres(tmp_path / "other", None, PASSWORD)
    other.start()
    pid = (other.folder / "data" / "postmaster.pid").read_text().splitlines()[0]
    lock.write_text(written.replace(written.splitlines()[0], pid, 1))
    with pytest.raises(EmbeddedError, match="postgres ended while starting"):
        postgres.start()
    assert other.ready()
    other.stop()


def test_a_server_that_an_earlier_run_left_is_ended_first(
    tmp_path: Path, all_gone: Callable[[Iterable[int]], None]
) -> None:
    left = EmbeddedPostgres(tmp_path / "postgres", None, PASSWORD)
    left.start()
    query(left, "create table kept as select 42 as answer")
    pid = int((left.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
    again = EmbeddedPostgres(tmp_path / "postgres", None, PASSWORD)
    again.start()
    all_gone([pid])
    assert query(again, "select answer from kept") == 42
    again.stop()
    left.stop()


def test_an_interrupted_initdb_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "data.new").mkdir(parents=True)
    (tmp_path / "postgres" / "data.new" / "half").touch()
    (tmp_path / "postgres" / "initdb.password").touch(mode=0o600)
    postgres = EmbeddedPostgres(tmp_path / "postgres", None, PASSWORD)
    postgres.start()
    assert query(postgres, "select 1") == 1
    postgres.stop()


def test_data_of_another_major_version_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "data").mkdir(parents=True)
    (tmp_path / "postgres" / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(
        EmbeddedError, match=r"holds data of PostgreSQL 17, and this countersign runs 18: .*--data-dir$"
    ):
        EmbeddedPostgres(tmp_path / "postgres", None, PASSWORD).start()


@pytest.mark.parametrize("name", ["a" * 120, "with, comma"])
def test_a_path_unfit_for_a_socket_gets_a_private_folder_that_is_found_again(tmp_path: Path, name: str) -> None:
    postgres = EmbeddedPostgres(tmp_path / name / "postgres", None, PASSWORD)
    postgres.start()
    assert query(postgres, "select 1") == 1
    sockets = Path((postgres.folder / "socket.path").read_text().strip())
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert len(os.fsencode(sockets / ".s.PGSQL.5432")) <= SOCKET_PATH_LIMIT_BYTES
    postgres.stop()
    again = EmbeddedPostgres(tmp_path / name / "postgres", None, PASSWORD)
    assert str(sockets).replace("/", "%2F") in again.dsn("postgres", PASSWORD, "postgres")
    sockets.rmdir()


def test_an_odd_path_is_no_obstacle(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path / "a \"b\" 'c' %d é" / "postgres", None, PASSWORD)
    postgres.start()
    assert query(postgres, "select 1") == 1
    postgres.stop()


def test_a_port_is_opened_on_this_machine_only_when_asked_for(tmp_path: Path, free_port: int) -> None:
    postgres = EmbeddedPostgres(tmp_path / "postgres", free_port, PASSWORD)
    postgres.start()

    async def ask() -> Any:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=free_port, user="postgres", password=PASSWORD, database="postgres"
        )
        try:
            return await connection.fetchval("show listen_addresses")
        finally:
            await connection.close()

    assert asyncio.run(ask()) == "127.0.0.1"
    postgres.stop()


def test_a_server_that_cannot_start_names_its_log(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path / "postgres", None, PASSWORD)
    postgres.start()
    postgres.stop()
    (tmp_path / "postgres" / "data" / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(EmbeddedError, match=r"postgres ended while starting: see .*postgres\.log$"):
        postgres.start()


def ways_here() -> list[ServerUser]:
    """Every way that this user could have on some machine; the first that works is chosen."""
    return list(server_user.ways(os.geteuid()))


@pytest.mark.parametrize("way", ways_here(), ids=repr)
def test_each_way_to_run_it_either_works_wholly_or_is_not_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: ServerUser
) -> None:
    """`tmp_path` is under a folder private to the user, as data folders are."""
    monkeypatch.setattr(server_user, "ways", lambda _uid: [way])
    postgres = EmbeddedPostgres(tmp_path / "postgres", None, PASSWORD)
    try:
        postgres.start()
    except EmbeddedError as error:
        assert "every user can pass through" in str(error)
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700, "nothing stays open that was opened for a trial"
        return
    assert query(postgres, "select 1") == 1
    assert (tmp_path / "postgres" / "data").stat().st_uid == way.uid
    postgres.stop()


def test_a_folder_made_in_one_way_is_used_in_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may lose the right to make user namespaces between two runs."""

    def answers(way: ServerUser, folder: Path) -> int:
        monkeypatch.setattr(server_user, "ways", lambda _uid: [way])
        postgres = EmbeddedPostgres(folder, None, PASSWORD)
        postgres.start()
        try:
            return int(query(postgres, "select 1"))
        finally:
            postgres.stop()

    open_here = []
    for number, way in enumerate(ways_here()):
        with suppress(EmbeddedError):
            answers(way, tmp_path / str(number))
            open_here.append(way)
    assert open_here
    for way in open_here * 2:
        assert answers(way, tmp_path / "postgres") == 1


def test_where_user_namespaces_are_permitted_the_caller_gets_another_number_and_nothing_else() -> None:
    here = MappedUser(os.geteuid(), os.getegid(), inside_uid=65534, inside_gid=65534)

    def number_inside(prepare: Callable[[], None]) -> str:
        script = [sys.executable, "-c", "import os; print(os.getuid(), os.getgid())"]
        return subprocess.run(script, preexec_fn=prepare, capture_output=True, text=True, check=True).stdout

    try:
        number_inside(linux.unshare_user)
    except subprocess.SubprocessError:
        return  # not permitted here, or not known
    assert number_inside(here.enter) == "65534 65534\n"


def refuse() -> None:
    raise PermissionError(errno.EPERM, "not permitted", "unshare")


def test_a_way_that_worked_in_the_trial_and_then_not_is_told_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`subprocess` says only that something was raised, and raises what no caller expects."""
    way = MappedUser(os.geteuid(), os.getegid(), inside_uid=65534, inside_gid=65534)
    monkeypatch.setattr(postgres_module, "choose_server_user", lambda *_: way)
    monkeypatch.setattr(linux, "unshare_user", refuse)
    with pytest.raises(EmbeddedError, match=r"cannot become the user .*: \[Errno 1\] not permitted: 'unshare'$"):
        EmbeddedPostgres(tmp_path / "postgres", None, PASSWORD).start()


def test_where_user_namespaces_are_not_permitted_another_way_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linux, "unshare_user", refuse)
    try:
        assert not isinstance(choose_server_user(tmp_path / "postgres", PROGRAM), MappedUser)
    except EmbeddedError as error:
        assert "has no name" in str(error), "the one user for whom there is no other way"


def start_with_patience(postgres: EmbeddedPostgres) -> None:
    """After a killed postmaster its children need a moment to see it; a supervisor tries again by itself."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return postgres.start()
        except EmbeddedError:
            assert time.monotonic() < deadline
