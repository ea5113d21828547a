"""`countersign up`, `demo` and the other commands, as a person runs them."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from countersign_cli.client import Client
from countersign_harness.local_system import COMMAND, Up
from countersign_harness.standstill import stand_still

GOVERNANCE = Path(__file__).parents[2] / "examples" / "ticketing" / "countersign"


def gone(pid: int, seconds: float = 15) -> bool:
    """Whether the process ends within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except OSError:
            pass
        time.sleep(0.05)
    return False


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    system = Up(tmp_path / "data")
    yield system
    if system.process is not None and system.process.poll() is None:
        system.stop()


def test_a_day_in_the_life_of_a_local_system(up: Up, tmp_path: Path) -> None:
    """Started, used by its commands, a service killed, stopped, started again with what it knew."""
    up.start()
    assert stat.S_IMODE((up.folder / "admin.token").stat().st_mode) == 0o600
    assert stat.S_IMODE(up.folder.stat().st_mode) == 0o700
    shown = up.json("status")
    assert shown["ready"] is True
    assert all("waiting" in service for service in shown["services"].values()), "each tells what waits for it"
    far = up.run("status", "--json", COUNTERSIGN_URL=up.url, COUNTERSIGN_TOKEN=token(up))
    [(name, gateway)] = json.loads(far.stdout)["services"].items()
    assert (far.returncode, name, gateway["ready"], gateway["dead_letters"]) == (0, "gateway", True, 0)
    assert "waiting" not in gateway, "metrics are for those who operate the system"

    dry = up.run("apply", "-f", str(GOVERNANCE), "--dry-run")
    assert dry.returncode == 0 and "nothing was applied" in dry.stdout
    assert up.json("agents", "list")["items"] == []
    applied = up.run("apply", "-f", str(GOVERNANCE))
    assert applied.returncode == 0 and "create tool update_ticket" in applied.stdout, applied.stdout + applied.stderr
    assert "nothing to change" in up.run("apply", "-f", str(GOVERNANCE)).stdout

    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "a.yaml").write_text("kind: profile\nname: half\nenvironments: [prod]\ntools: [no_such_tool]\n")
    refused = up.run("apply", "-f", str(bad))
    assert refused.returncode == 1 and "nothing was applied" in refused.stderr
    assert "a.yaml:4" in refused.stderr and "no_such_tool" in refused.stderr
    (bad / "b.yaml").write_text("kind: tool\nname: fine\neffect: read\nargumentz: {}\n")
    (bad / "c.yaml").write_text("kind: profile\nname: other\nenvironments: []\ntools: []\n")
    refused = up.run("apply", "-f", str(bad))
    assert refused.returncode == 1 and "b.yaml:4" in refused.stderr and "c.yaml:3" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert [t["tool"]["name"] for t in Client(up.url, token(up)).get("/api/v1/tools")["items"]] == sorted(
        ["get_customer", "list_tickets", "send_customer_email", "update_ticket"]
    )

    issued = up.run("agents", "credentials", "agent-support-001", "--output", str(tmp_path))
    assert issued.returncode == 0
    assert stat.S_IMODE((tmp_path / "agent-support-001.token").stat().st_mode) == 0o600
    agent = Client(up.url, (tmp_path / "agent-support-001.token").read_text().strip())
    body = {"tool": "update_ticket", "args": {"ticket_id": 1, "status": "closed"}, "env": "prod"}
    held = agent.post("/api/v1/actions", body)
    wait(lambda: agent.get(f"/api/v1/actions/{held['request_id']}")["state"] == "held")
    waiting = up.json("approvals", "list")["items"]
    shown = up.run("approvals", "show", waiting[0]["approval_id"])
    assert waiting[0]["action"]["digest"] in shown.stdout and "ticket_id = 1" in shown.stdout
    digest = waiting[0]["action"]["digest"]
    rejected = up.run("approvals", "reject", waiting[0]["approval_id"], "--digest", digest, "--comment", "no")
    assert rejected.returncode == 0, rejected.stderr
    wait(lambda: agent.get(f"/api/v1/actions/{held['request_id']}")["state"] == "denied")

    victim = up.pids()["policy"]
    os.kill(victim, signal.SIGKILL)
    again = agent.send(
        "POST",
        "/api/v1/actions",
        {"tool": "list_tickets", "args": {}, "env": "dev"},
        headers={"Prefer": "wait=20"},
    )
    assert again["state"] == "denied" and again["reasons"][0]["code"] == "environment"
    wait(lambda: up.pids()["policy"] != victim)  # what runs is written again

    export = tmp_path / "ledger.jsonl"
    assert up.run("audit", "export", "-o", str(export)).returncode == 0
    assert up.stop() == 0
    verified = up.run("audit", "verify", str(export))
    assert verified.returncode == 0 and "ledger verified" in verified.stdout
    lines = export.read_text().splitlines()
    (tmp_path / "short.jsonl").write_text("\n".join(lines[:4] + lines[5:]) + "\n")
    tampered = up.run("audit", "verify", str(tmp_path / "short.jsonl"))
    assert tampered.returncode == 1 and "NOT verified" in tampered.stdout

    up.start()
    assert [i["agent"]["agent_id"] for i in up.json("agents", "list")["items"]] == ["agent-support-001"]
    assert agent.get(f"/api/v1/actions/{held['request_id']}")["state"] == "denied"
    assert up.stop(signal.SIGTERM) == 0


def test_a_wiped_jetstream_is_made_anew_and_what_was_accepted_goes_on(up: Up, tmp_path: Path) -> None:
    """nats-server is killed and its store removed while an action waits for a person."""
    up.start()
    assert up.run("apply", "-f", str(GOVERNANCE)).returncode == 0
    assert up.run("agents", "credentials", "agent-support-001", "--output", str(tmp_path)).returncode == 0
    agent = Client(up.url, (tmp_path / "agent-support-001.token").read_text().strip())
    held = agent.post(
        "/api/v1/actions", {"tool": "update_ticket", "args": {"ticket_id": 1, "status": "closed"}, "env": "prod"}
    )
    wait(lambda: agent.get(f"/api/v1/actions/{held['request_id']}")["state"] == "held")
    waiting = up.json("approvals", "list")["items"][0]

    killed = {"nats": up.pids()["nats"]}
    stand_still(killed["nats"])  # it must not come back while half of it is still there
    (up.folder / "nats" / "jetstream").rename(tmp_path / "gone")
    os.kill(killed["nats"], signal.SIGKILL)

    wait(lambda: again_ready(up, killed), 60)
    voted = up.run("approvals", "reject", waiting["approval_id"], "--digest", waiting["action"]["digest"])
    assert voted.returncode == 0, voted.stderr
    wait(lambda: agent.get(f"/api/v1/actions/{held['request_id']}")["state"] == "denied", 30)

    killed = {service: up.pids()[service] for service in ("policy", "executor")}
    for pid in killed.values():  # they begin anew with what the buckets hold
        os.kill(pid, signal.SIGKILL)
    wait(lambda: again_ready(up, killed), 60)
    again = agent.send(
        "POST", "/api/v1/actions", {"tool": "list_tickets", "args": {}, "env": "prod"}, headers={"Prefer": "wait=20"}
    )
    assert again["state"] == "failed" and again["decision"] == "allow", "allowed; there is no ticketing system to call"
    export = tmp_path / "ledger.jsonl"
    assert up.run("audit", "export", "-o", str(export)).returncode == 0
    assert up.run("audit", "verify", str(export)).returncode == 0


def again_ready(up: Up, killed: dict[str, int]) -> bool:
    """Whether others run in the place of those that were killed, and everything works."""
    return all(up.pids().get(name, pid) != pid for name, pid in killed.items()) and up.ready()


def token(up: Up) -> str:
    return (up.folder / "admin.token").read_text().strip()


def wait(true: Any, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_nothing_is_left_running_after_the_parent_is_killed(up: Up) -> None:
    up.start()
    wait(lambda: (up.folder / "run.json").exists())
    pids = up.pids()
    assert len(pids) >= 8 and up.process is not None
    up.process.kill()
    up.process.wait()
    assert [name for name, pid in pids.items() if not gone(pid)] == []
    up.start()
    assert up.stop() == 0


def test_a_second_up_on_the_folder_and_a_port_in_use_are_one_clear_line(up: Up, tmp_path: Path) -> None:
    up.start()
    second = up.run("up", *up.options)
    assert second.returncode == 1 and len(second.stderr.strip().splitlines()) == 1
    assert str(up.process.pid if up.process else "") in second.stderr
    other = list(up.options)
    other[1] = str(tmp_path / "other")
    taken = up.run("up", *other)
    assert taken.returncode == 1 and "--port" in taken.stderr and len(taken.stderr.strip().splitlines()) == 1
    assert up.stop() == 0


def test_a_service_that_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    up = Up(tmp_path / "data")
    done = up.run("up", *up.options, COUNTERSIGN_MAX_CONCURRENT_CALLS="0")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: executor cannot start with these settings:"
        " max_concurrent_calls: input should be greater than or equal to 1"
    )
    (up.folder / "secrets" / "SHORT").write_text("abc")
    done = up.run("up", *up.options)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: executor cannot start: secret SHORT has 3 characters")


def test_an_unusable_data_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = Up(tmp_path / "file" / "data").run("up", "--data-dir", str(tmp_path / "file" / "data"))
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr


def test_the_demonstration_tells_its_five_acts_and_ends_verified() -> None:
    done = subprocess.run([*COMMAND, "demo"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert [f"Act {n}" in done.stdout for n in range(1, 6)] == [True] * 5
    story = done.stdout[done.stdout.index("Act 2") : done.stdout.index("Act 3")]
    assert "2 of group:support" in story and "1 more of group:support" in story  # a quorum, and what the agent hears
    assert "approved by alice@example.com: kind of it to ask; bob@example.com: John is my customer" in story
    assert re.search(r"expired nobody approved it within \d+ s", story)
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("ledger verified: ") and last.endswith(" entries")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["status"], 3, "countersign up"),
        (["stops", "set"], 2, "scope"),
        (["approvals", "show", "apr_1"], 3, "countersign up"),
        (["audit", "verify", "/no/such/file"], 1, "cannot read"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_a_command_that_cannot_do_it_says_so_in_words(
    tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    done = Up(tmp_path / "none").run(*arguments)
    assert done.returncode == code and says in done.stderr and "Traceback" not in done.stderr
