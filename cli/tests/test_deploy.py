"""A folder for each service: what is its own, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from countersign_cli.bootstrap import Layout, prepare_material
from countersign_cli.deploy import hand_out, prepare_servers, settings_in
from countersign_cli.main import app
from countersign_contracts.errors import CountersignError
from countersign_contracts.event import SERVICES
from countersign_ledger import SigningKey

URLS = {"nats_url": "nats://nats:4222", "postgres": "postgres:5432"}


@pytest.fixture
def handed(tmp_path: Path) -> Path:
    material = prepare_material(Layout(tmp_path / "keys"), nats_host="0.0.0.0", nats_port=4222)
    hand_out(material, tmp_path / "out")
    return tmp_path / "out"


def test_nats_server_is_watched_on_its_loopback_only_where_that_is_asked_for(handed: Path, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "keys")
    assert "http:" not in layout.nats_config.read_text()
    prepare_material(layout, nats_host="0.0.0.0", nats_port=4222, monitor_port=8222)
    assert 'http: "127.0.0.1:8222"' in layout.nats_config.read_text()


def test_each_folder_makes_its_service_s_settings(handed: Path) -> None:
    for service in SERVICES:
        settings = settings_in(handed / service, service, **URLS)
        SigningKey.from_json(settings["signing_key_file"].read_text())
        missing = [path for path in settings.values() if isinstance(path, Path) and not path.exists()]
        # audit writes its checkpoints itself
        assert [path.name for path in missing] == (["checkpoints.jsonl"] if service == "audit" else [])
        password = (handed / service / "pgpass").read_text().strip().rsplit(":", 1)[1]
        assert settings["postgres_dsn"] == f"postgresql://countersign_{service}:{password}@postgres:5432/countersign"


def test_nobody_is_handed_what_is_another_s(handed: Path, tmp_path: Path) -> None:
    held: dict[bytes, list[str]] = {}
    for file in handed.rglob("*"):
        if file.is_file() and file.name != "trust.json":
            assert file.stat().st_mode & 0o077 == 0, file
            held.setdefault(file.read_bytes(), []).append(file.relative_to(handed).parts[0])
    assert {tuple(owners) for owners in held.values()} == {(name,) for name in (*SERVICES, "postgres")}
    operator = (tmp_path / "keys" / "keys" / "nats-operator.seed").read_bytes()
    assert operator not in held


def test_handing_out_again_changes_no_key(handed: Path, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in handed.rglob("*.json")}
    material = prepare_material(Layout(tmp_path / "keys"), nats_host="0.0.0.0", nats_port=4222)
    hand_out(material, handed)
    assert {file: file.read_bytes() for file in before} == before


def test_a_folder_without_the_service_s_key_says_what_makes_one(handed: Path) -> None:
    with pytest.raises(CountersignError, match=r"no key of the audit service; `countersign bootstrap keys` writes"):
        settings_in(handed / "gateway", "audit", **URLS)


async def test_servers_need_keys_first_and_an_answer_in_time(tmp_path: Path) -> None:
    with pytest.raises(CountersignError, match="holds no keys; `countersign bootstrap keys` makes them"):
        await prepare_servers(Layout(tmp_path), **URLS, within_s=1)
    layout = Layout(tmp_path / "keys")
    prepare_material(layout, nats_host="127.0.0.1", nats_port=4222)
    with pytest.raises(CountersignError, match=r"PostgreSQL at 127\.0\.0\.1:1 did not answer within 0 s"):
        await prepare_servers(layout, nats_url="nats://127.0.0.1:1", postgres="127.0.0.1:1", within_s=0)


@pytest.mark.parametrize(
    ("service", "variable", "value", "says"),
    [
        (
            "executor",
            "MAX_CONCURRENT_CALLS",
            "0",
            "max_concurrent_calls: input should be greater than or equal to 1",
        ),
        ("policy", "PRODUCTION_ENVIRONMENTS", "prod", "lists are given as JSON"),
        ("gateway", "HTTP_PORT", "hunter2", "http_port: input should be a valid integer"),
    ],
)
def test_a_wrong_setting_is_one_line(
    handed: Path, monkeypatch: pytest.MonkeyPatch, service: str, variable: str, value: str, says: str
) -> None:
    monkeypatch.setenv(f"COUNTERSIGN_{variable}", value)
    urls = ["--nats-url", URLS["nats_url"], "--postgres", URLS["postgres"]]
    done = CliRunner().invoke(app, ["serve", service, "--folder", str(handed / service), *urls])
    assert done.exit_code == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {service} cannot start with these settings: ") and says in done.stderr
    assert "hunter2" not in done.stderr
