"""The keys of sensitive arguments: made where they are missing, kept where they are, private to the executor."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from countersign_chassis.sealing import NotOpened, OpenKey, SealKey, key_text, new_key, read_key, read_keys
from countersign_cli.bootstrap import Layout, prepare_material, service_settings
from countersign_contracts.errors import CountersignError


def bootstrap(folder: Path) -> Layout:
    layout = Layout(folder)
    prepare_material(layout, nats_host="127.0.0.1", nats_port=4222)
    return layout


def test_bootstrap_makes_them_once_and_keeps_them(tmp_path: Path) -> None:
    layout = bootstrap(tmp_path)
    made = [path.read_text() for path in (layout.box_key, layout.box_public, layout.marks_key)]
    assert len(set(made)) == 3
    bootstrap(tmp_path)
    assert [path.read_text() for path in (layout.box_key, layout.box_public, layout.marks_key)] == made
    for path in (layout.box_key, layout.marks_key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    box = SealKey(read_key(layout.box_public, "public")).seal(b"x")
    assert OpenKey(read_key(layout.box_key, "private")).open(box) == b"x"


def test_an_older_data_folder_gets_its_keys(tmp_path: Path) -> None:
    layout = bootstrap(tmp_path)
    trust = layout.trust.read_text()
    for path in (layout.box_key, layout.box_public, layout.marks_key):
        path.unlink()
    bootstrap(tmp_path)
    assert read_key(layout.box_key, "private") and read_key(layout.marks_key, "marks")
    assert layout.trust.read_text() == trust


def test_the_public_half_is_that_of_the_newest_key(tmp_path: Path) -> None:
    layout = bootstrap(tmp_path)
    old, new = layout.box_key.read_text(), key_text(new_key())
    layout.box_key.write_text(new + old)
    bootstrap(tmp_path)
    assert layout.box_key.read_text() == new + old
    box = SealKey(read_key(layout.box_public, "public")).seal(b"x")
    first, second = map(OpenKey, read_keys(layout.box_key, "private"))
    assert first.open(box) == b"x"
    with pytest.raises(NotOpened):
        second.open(box)


def test_a_file_that_is_no_key_stops_bootstrap_and_is_left_as_it_is(tmp_path: Path) -> None:
    layout = bootstrap(tmp_path)
    layout.box_key.write_text("hunter2\n")
    with pytest.raises(CountersignError, match="is no key of sensitive arguments") as refused:
        bootstrap(tmp_path)
    assert layout.box_key.read_text() == "hunter2\n" and "hunter2" not in refused.value.detail


def test_only_the_executor_is_told_of_the_private_half(tmp_path: Path) -> None:
    layout = bootstrap(tmp_path)
    told = {
        service
        for service in ("gateway", "policy", "approvals", "executor", "audit", "registry")
        if layout.box_key in service_settings(service, layout, nats_url="nats://x", postgres_dsn="x").values()
    }
    assert told == {"executor"}
