"""Slack runs under `countersign up` exactly where it is configured; half of it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from countersign_cli.bootstrap import Layout, prepare_material
from countersign_cli.commands.system import has_slack
from countersign_cli.deploy import hand_out, settings_in
from countersign_cli.local import LocalOptions

FILES = {"bot-token": "xoxb-1", "app-token": "xapp-1", "channels.yaml": "default: C0"}


def test_it_runs_where_its_folder_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = Layout(tmp_path / "data")
    layout.make()
    assert has_slack(layout.root) is False and capsys.readouterr().err == ""
    for name, text in FILES.items():
        assert has_slack(layout.root) is False
        (layout.slack / name).write_text(text)
    said = capsys.readouterr().err
    assert "without Slack" in said and "lacks app-token" in said.replace("\n", " ")
    assert has_slack(layout.root) is True and capsys.readouterr().err == ""


def test_it_is_a_process_of_its_own_whose_port_follows_the_others(tmp_path: Path) -> None:
    without = LocalOptions(tmp_path)
    with_it = LocalOptions(tmp_path, slack=True, replicas={"slack": 2, "policy": 2})
    assert "slack" not in without.health_ports()
    assert [each.name for each in with_it.processes() if each.service == "slack"] == ["slack", "slack-2"]
    ports = with_it.health_ports()
    assert {name: ports[name] for name in without.health_ports()} == without.health_ports()
    assert (ports["slack"], ports["policy-2"], ports["slack-2"]) == (8017, 8018, 8019)


def test_its_folder_of_a_deployment_has_a_place_for_the_tokens(tmp_path: Path) -> None:
    material = prepare_material(Layout(tmp_path / "keys"), nats_host="0.0.0.0", nats_port=4222)
    hand_out(material, tmp_path / "out")
    settings = settings_in(tmp_path / "out" / "slack", "slack", nats_url="nats://nats:4222", postgres="postgres:5432")
    assert settings["slack_folder"] == tmp_path / "out" / "slack" / "slack" and settings["slack_folder"].is_dir()
