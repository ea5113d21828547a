"""The supervisor, with real servers and forked services, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from countersign_cli.embedded.datadir import DataDir

Start = Callable[..., Any]
AllGone = Callable[[Iterable[int]], None]
CHILDREN = {"postgres", "nats", "steady", "stubborn", "family", "web"}


def test_everything_is_ready_in_order_and_quickly(toy: Start) -> None:
    started = time.monotonic()
    system = toy()
    system.until("all-ready")
    assert time.monotonic() - started < 20, "loosely: under a second on an idle machine"
    order = [(event["kind"], event.get("name")) for event in system.events]
    assert order.index(("started", "nats")) < order.index(("loaded", "asyncpg")), "servers start beside the imports"
    for name in ("postgres", "nats"):
        assert order.index(("ready", name)) < order.index(("started", "count"))
    for name in ("steady", "stubborn", "family", "web"):
        assert order.index(("finished", "count")) < order.index(("started", name))
    assert {name for kind, name in order if kind == "ready"} == CHILDREN


def test_a_service_inherits_no_descriptor_and_its_own_randomness(toy: Start) -> None:
    system = toy()
    first = logged(system, "steady", line=0)
    os.kill(system.until("ready", "steady")["pid"], signal.SIGKILL)
    second = logged(system, "steady", line=1)
    # Beside input and output: the pipe for its faults, and the listing of the descriptors.
    assert len(first["fds"]) == len(second["fds"]) == 3 + 2
    assert first["random"] != second["random"]


def test_what_is_killed_is_started_again(toy: Start) -> None:
    system = toy()
    system.until("all-ready")
    for name in sorted(CHILDREN):
        pid = system.until("ready", name)["pid"]
        seen = len(system.events)
        os.kill(pid, signal.SIGKILL)
        assert system.until("died", name, beyond=seen)["detail"] == "SIGKILL"
        assert system.until("restarting", name, beyond=seen)["detail"] == "in 0.1 s"
        assert system.until("ready", name, beyond=seen)["pid"] != pid


def test_a_killed_service_takes_its_own_processes_with_it(toy: Start, all_gone: AllGone) -> None:
    system = toy()
    system.until("all-ready")
    pid = system.until("ready", "family")["pid"]
    grandchildren = await_grandchildren(system, pid)
    os.kill(pid, signal.SIGKILL)
    all_gone(grandchildren)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_one_signal_stops_everything_services_first(toy: Start, all_gone: AllGone, number: int) -> None:
    system = toy()
    system.until("all-ready")
    processes = system.processes()
    system.process.send_signal(number)
    assert system.end() == 0
    all_gone(processes)
    stopped = [event["name"] for event in system.events if event["kind"] == "stopped"]
    assert set(stopped[:4]) == CHILDREN - {"postgres", "nats"}
    assert set(stopped[4:]) == {"postgres", "nats"}
    ends = {event["name"]: event["detail"] for event in system.events if event["kind"] == "stopped"}
    assert ends["steady"] == ends["postgres"] == "exit code 0"
    assert ends["stubborn"] == "SIGKILL", "who ignores SIGTERM is killed when its time is up"


def test_further_signals_do_not_break_the_stopping(toy: Start, all_gone: AllGone) -> None:
    system = toy()
    system.until("all-ready")
    processes = system.processes()
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        system.process.send_signal(number)
        system.until("stopped", "steady")
    assert system.end() == 0
    all_gone(processes)
    assert "database system is shut down" in (system.folder / "logs" / "postgres.log").read_text()


def test_a_signal_while_starting_stops_everything(toy: Start, all_gone: AllGone) -> None:
    system = toy()
    system.until("loaded", "asyncpg")
    processes = system.processes()
    system.process.send_signal(signal.SIGTERM)
    assert system.end() == 0
    all_gone(processes)


def test_nothing_is_left_after_the_parent_is_killed(toy: Start, all_gone: AllGone) -> None:
    system = toy("guardian-alone")
    system.until("all-ready")
    await_grandchildren(system, system.until("ready", "family")["pid"])
    processes = system.processes()
    assert len(processes) >= len(CHILDREN) + 3, "with the guardian, the grandchild and PostgreSQL's own"
    system.kill()
    all_gone(processes)


def test_servers_end_after_those_that_need_them_when_the_parent_is_killed(toy: Start, all_gone: AllGone) -> None:
    system = toy("guardian-alone")
    system.until("all-ready")
    servers = {system.until("ready", name)["pid"] for name in ("postgres", "nats")}
    stubborn = system.until("ready", "stubborn")["pid"]  # until it is killed
    processes = system.processes()
    system.kill()
    while stubborn in (left := system.left()):
        # looking takes a moment, in which the stubborn one may end, and a server after it
        assert servers <= left or stubborn not in system.left()
    all_gone(processes)


@pytest.mark.parametrize(("kind", "name"), [("started", "nats"), ("loaded", "asyncpg"), ("started", "count")])
def test_nothing_is_left_though_the_parent_is_killed_while_starting(
    toy: Start, all_gone: AllGone, kind: str, name: str
) -> None:
    system = toy("guardian-alone")
    system.until(kind, name)
    processes = system.processes()
    system.kill()
    all_gone(processes)


def test_a_killed_guardian_is_replaced_and_its_successor_knows_all(toy: Start, all_gone: AllGone) -> None:
    system = toy("guardian-alone")
    system.until("all-ready")
    guardian = system.guardian()
    os.kill(guardian, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while guardian in (processes := system.processes()) or len(processes) < len(CHILDREN) + 2:
        assert time.monotonic() < deadline
    assert system.guardian() != guardian
    system.kill()
    all_gone(processes)


def test_servers_end_though_parent_and_guardian_are_killed_together(toy: Start, all_gone: AllGone) -> None:
    system = toy()
    system.until("all-ready")
    servers = {system.until("ready", name)["pid"] for name in ("postgres", "nats")}
    await_grandchildren(system, system.until("ready", "family")["pid"])
    guardian = system.guardian()
    services = system.processes() - servers - {system.process.pid, guardian}
    system.process.send_signal(signal.SIGSTOP)
    os.kill(guardian, signal.SIGKILL)
    system.kill()
    if os.uname().sysname == "Linux":
        all_gone(servers)
    for pid in services:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    # And where the kernel does not help, the next start ends what is left.
    again = toy(folder=system.folder)
    again.until("all-ready")
    all_gone(servers)


def test_the_data_survives_and_a_killed_run_starts_again_at_once(toy: Start) -> None:
    system = toy()
    system.until("all-ready")
    assert system.until("starts")["count"] == 1
    assert (system.folder / "postgres" / "data" / "postmaster.pid").exists()
    system.kill()
    again = toy(folder=system.folder)
    assert again.until("starts")["count"] == 2
    again.until("all-ready")


def test_the_folder_stays_locked_until_everything_of_a_killed_run_has_ended(toy: Start, all_gone: AllGone) -> None:
    system = toy()
    system.until("all-ready")
    system.processes()
    system.kill()
    data = DataDir(system.folder)
    deadline = time.monotonic() + 10
    while system.left():
        assert data.holder() == system.process.pid or not system.left()
        assert time.monotonic() < deadline
    while data.holder() is not None:
        assert time.monotonic() < deadline


def test_a_second_run_on_the_folder_is_refused_by_name(toy: Start) -> None:
    system = toy()
    system.until("all-ready")
    second = toy(folder=system.folder)
    assert second.end() == 2
    [line] = second.errors().splitlines()
    assert f"already running on {system.folder} (pid {system.process.pid})" in line
    assert "--data-dir" in line


def test_a_service_that_cannot_start_ends_the_start_and_names_its_log(toy: Start, all_gone: AllGone) -> None:
    system = toy("crashing")
    assert system.end() == 2
    log = system.folder / "logs" / "crashing.log"
    assert system.errors() == f"crashing ended with exit code 1 while starting: see {log}\n"
    assert log.read_text().count("RuntimeError: what the log should show") == 3
    all_gone(event["pid"] for event in system.events if event["kind"] == "started")


def test_an_error_for_people_in_a_service_is_shown_as_it_is_and_not_tried_again(toy: Start) -> None:
    system = toy("misconfigured")
    assert system.end() == 2
    assert system.errors() == "the toy is not wound up: wind it\n"
    assert len([event for event in system.events if event["kind"] == "died"]) == 1


def test_a_service_that_is_never_ready_ends_the_start(toy: Start) -> None:
    system = toy("never-ready")
    assert system.end() == 2
    assert system.errors().startswith("late did not become ready within 1 s: see ")


def test_the_last_step_ends_the_run_with_its_exit_code(toy: Start, all_gone: AllGone) -> None:
    system = toy("until")
    assert system.end() == 7
    kinds = [(event["kind"], event.get("name")) for event in system.events]
    assert kinds.index(("all-ready", "")) < kinds.index(("started", "act"))
    all_gone(event["pid"] for event in system.events if event["kind"] == "started")


def test_a_listener_that_is_gone_stops_the_system_cleanly(toy: Start, all_gone: AllGone) -> None:
    system = toy()
    system.until("all-ready")
    processes = system.processes()
    system.process.stdout.close()
    os.kill(system.until("ready", "steady")["pid"], signal.SIGKILL)
    assert system.process.wait(20) != 0
    all_gone(processes)
    assert "database system is shut down" in (system.folder / "logs" / "postgres.log").read_text()


def logged(system: Any, name: str, line: int) -> dict[str, Any]:
    """A line of a service's log, once it is there."""
    system.until("all-ready")
    log: Path = system.folder / "logs" / f"{name}.log"
    deadline = time.monotonic() + 5
    while len(lines := log.read_text().splitlines(keepends=True)) <= line or not lines[line].endswith("\n"):
        assert time.monotonic() < deadline
    found: dict[str, Any] = json.loads(lines[line])
    return found


def await_grandchildren(system: Any, pid: int) -> set[int]:
    """The processes that a service has started, once there are any."""
    deadline = time.monotonic() + 5
    while True:
        named = {event.get("pid") for event in system.events}
        from_service = {other for other in system.processes() - named if os.getpgid(other) == pid}
        if from_service:
            return from_service
        assert time.monotonic() < deadline
