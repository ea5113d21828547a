"""A backup of a running system, and what is made of it: the ledger verifies, approvals resolve, actions end."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from countersign_cli.commands.audit import verify_file
from countersign_cli.main import app
from countersign_faults.declarations import AGENTS, documents
from countersign_faults.downstream import CountingDownstream
from countersign_faults.system import System
from countersign_faults.traffic import write_webhook_secret
from countersign_harness.ports import free_run
from countersign_harness.standstill import stand_still

pytestmark = pytest.mark.timeout(400)

ENDS = ("succeeded", "failed", "unknown", "denied", "expired")
PHRASE = "correct horse battery staple"


@dataclass
class Made:
    """Two backups of one moment, and what was open then."""

    folder: Path
    accepted: str
    granted: str
    held: str
    token: str
    voter: str
    downstream_port: int

    @property
    def file(self) -> Path:
        return self.folder / "with-keys.backup"

    @property
    def bare(self) -> Path:
        return self.folder / "without-keys.backup"

    @property
    def outside(self) -> Path:
        return self.folder / "checkpoints-kept-outside.jsonl"


def countersign(*arguments: str, data_dir: Path) -> subprocess.CompletedProcess[str]:
    """The command, on that data folder."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("COUNTERSIGN_")}
    env |= {"COUNTERSIGN_DATA_DIR": str(data_dir), "COLUMNS": "200"}
    command = [sys.executable, "-m", "countersign_cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    yield asyncio.run(_make(tmp_path_factory.mktemp("backup")))


async def _make(folder: Path) -> Made:
    (folder / "phrase").write_text(PHRASE + "\n")
    # not any free port: until it is taken again, a connection of somebody else could be given it
    async with CountingDownstream(free_run(1)) as downstream, System(folder / "first" / "system") as system:
        write_webhook_secret(system)
        given = {"documents": documents(downstream.url), "dry_run": False}
        assert not (await system.ok("POST", "/api/v1/apply", given))["errors"]
        voter = (await system.ok("POST", "/api/v1/people", {"name": "vera", "roles": ["approver"]}))["token"]
        token = (await system.ok("POST", f"/api/v1/agents/{AGENTS[0]}/credentials", {}))["http_token"]
        assert (await _ask(system, token, "pay", 1, wait_s=20))["state"] == "succeeded"
        held = (await _ask(system, token, "dismiss", 2))["request_id"]
        await _until(system, held, "held")
        stand_still(system.pids()["executor"])
        granted = (await _ask(system, token, "pay", 3))["request_id"]
        await _until(system, granted, "granted")
        stand_still(system.pids()["policy"])
        accepted = (await _ask(system, token, "pay", 4))["request_id"]
        made = Made(folder, accepted, granted, held, token, voter, int(downstream.url.rsplit(":", 1)[1]))
        async with asyncio.timeout(60):  # the first one is signed some seconds after the first entry
            while not system.layout.checkpoints.exists() or not system.layout.checkpoints.read_text():
                await asyncio.sleep(0.1)
        shutil.copyfile(system.layout.checkpoints, made.outside)
        for arguments in ((str(made.file), "--passphrase-file", str(folder / "phrase")), (str(made.bare),)):
            done = await asyncio.to_thread(countersign, "backup", *arguments, data_dir=system.folder)
            assert done.returncode == 0, done.stderr
            assert "3 actions that had not ended (1 accepted, 1 granted, 1 held)" in done.stdout, done.stdout
            assert ("the keys are NOT in it" in done.stdout) == (len(arguments) == 1)
        shutil.copytree(system.folder / "keys", folder / "kept" / "keys")
        shutil.copytree(system.folder / "secrets", folder / "kept" / "secrets")
        shutil.copyfile(system.folder / "admin.token", folder / "kept" / "admin.token")
        for service in ("executor", "policy"):
            os.kill(system.pids()[service], signal.SIGCONT)
    return made


async def _ask(system: System, token: str, tool: str, n: int, wait_s: float = 0) -> Any:
    body = {"tool": tool, "args": {"n": n}, "env": "dev"}
    status, answer = await system.ask("POST", "/api/v1/actions", body, token=token, wait_s=wait_s)
    assert status in (200, 202), answer
    return answer


async def _until(system: System, request_id: str, *states: str) -> str:
    async with asyncio.timeout(60):
        while True:
            found: str = (await system.ok("GET", f"/api/v1/actions/{request_id}"))["state"]
            if found in states:
                return found
            await asyncio.sleep(0.05)


async def _vote(system: System, made: Made) -> None:
    page = await system.ok("GET", f"/api/v1/approvals?request_id={made.held}")
    approval = page["items"][0]
    body = {"vote": "approve", "digest": approval["action"]["digest"]}
    path = f"/api/v1/approvals/{approval['approval_id']}/votes"
    status, answer = await system.ask("POST", path, body, token=made.voter)
    assert status == 200, answer


async def _verified(system: System, made: Made) -> None:
    """The ledger as it is now, against the checkpoints that were kept before the backup."""
    export = system.folder.parent / "export.jsonl"
    export.write_bytes(b"\n".join(await system.export()) + b"\n")
    report = verify_file(export, system.layout.trust, made.outside)
    assert report.ok, report
    covered = json.loads(made.outside.read_text().splitlines()[-1])["seq"]
    assert report.entries > covered > 0


async def test_a_restored_system_goes_on_where_nothing_happened_since(made: Made) -> None:
    target = made.folder / "moved" / "system"
    done = await asyncio.to_thread(
        countersign,
        *("restore", str(made.file), "--passphrase-file", str(made.folder / "phrase"), "--nothing-since"),
        data_dir=target,
    )
    assert done.returncode == 0, done.stderr
    async with (
        CountingDownstream(made.downstream_port) as downstream,
        System(target, {"redrive_after_s": "1"}) as system,
    ):
        assert (await system.ok("GET", "/api/v1/stops"))["items"] == []
        assert await _until(system, made.granted, *ENDS) == "succeeded"
        assert await _until(system, made.accepted, *ENDS) == "succeeded"
        await _vote(system, made)
        assert await _until(system, made.held, *ENDS) == "succeeded"
        assert sorted(call.key or "" for call in downstream.calls) == sorted([made.granted, made.accepted, made.held])
        assert (await _ask(system, made.token, "pay", 5, wait_s=20))["state"] == "succeeded"
        await _verified(system, made)


async def test_by_itself_a_restored_system_executes_nothing_that_may_have_been_executed_since(made: Made) -> None:
    target = made.folder / "restored" / "system"
    arguments = ("restore", str(made.bare), "--keys", str(made.folder / "kept"))
    done = await asyncio.to_thread(countersign, *arguments, data_dir=target)
    assert done.returncode == 0, done.stderr
    assert "a stop on everything is in force" in done.stdout
    async with (
        CountingDownstream(made.downstream_port) as downstream,
        System(target, {"redrive_after_s": "1"}) as system,
    ):
        for request_id in (made.accepted, made.granted):
            assert await _until(system, request_id, *ENDS) == "denied"
        assert downstream.calls == []
        [stop] = (await system.ok("GET", "/api/v1/stops"))["items"]
        assert stop["scope"] == "all" and stop["set_by"] == "restore" and "may have been executed" in stop["reason"]
        await system.ok("DELETE", f"/api/v1/stops/{stop['stop_id']}")
        assert (await _ask(system, made.token, "pay", 6, wait_s=20))["state"] == "succeeded"
        entries = [json.loads(line).get("entry", {}) for line in (await system.export())[1:]]
        assert any(entry.get("type") == "countersign.control.stop_set.v1" for entry in entries)
        await _verified(system, made)


def test_what_cannot_be_restored_is_refused_and_leaves_nothing(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is called in this process: eight of its own would take ten seconds of computing."""
    damaged, target = tmp_path / "damaged.backup", tmp_path / "target"
    content = bytearray(made.file.read_bytes())
    with tarfile.open(made.file) as tar:
        content[tar.getmember("database.dump").offset_data + 1000] ^= 1
    damaged.write_bytes(content)
    (tmp_path / "short.backup").write_bytes(content[: len(content) // 2])
    (tmp_path / "other").write_text("another passphrase\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    phrase = str(made.folder / "phrase")
    refused = {
        ("restore", str(damaged), "--passphrase-file", phrase): "database.dump in it is not what was written",
        ("restore", str(tmp_path / "short.backup"), "--passphrase-file", phrase): "was cut short",
        ("restore", str(made.file)): "are sealed: --passphrase-file names",
        ("restore", str(made.file), "--passphrase-file", str(tmp_path / "other")): "does not open the keys",
        ("restore", str(made.bare)): "the keys are not in this backup: --keys names",
        ("restore", str(made.bare), "--data-dir", str(tmp_path / "full")): "is not empty: restore into a new folder",
        ("backup", str(tmp_path / "b")): "holds no system of Countersign",
        ("backup", str(made.file)): "exists already",
    }
    for name in [name for name in os.environ if name.startswith("COUNTERSIGN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COUNTERSIGN_DATA_DIR", str(target))
    monkeypatch.setenv("COLUMNS", "200")
    for arguments, why in refused.items():
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 1 and why in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
        assert not target.exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["damaged.backup", "full", "other", "short.backup"]


def test_a_backup_is_private_and_holds_no_key_in_clear(made: Made) -> None:
    assert made.file.stat().st_mode & 0o077 == 0
    everything = made.file.read_bytes() + made.bare.read_bytes()
    for key in (made.folder / "kept").rglob("*"):
        if key.is_file() and "pub" not in key.suffix:
            assert key.read_bytes().strip() not in everything, key
