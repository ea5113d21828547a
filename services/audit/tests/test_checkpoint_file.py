"""The file that keeps checkpoints outside the database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from countersign_audit.checkpoint_file import CheckpointFile
from countersign_contracts.errors import CountersignError
from countersign_ledger import Checkpoint


@pytest.fixture
def file(tmp_path: Path) -> CheckpointFile:
    return CheckpointFile(tmp_path / "kept" / "checkpoints.jsonl")


def checkpoint(keys: Any, seq: int) -> Checkpoint:
    return Checkpoint.make(
        keys.keys["audit"], deployment="test", seq=seq, hash=bytes([seq % 256]) * 32, time="2026-01-31T12:00:00Z"
    )


def test_it_begins_empty(file: CheckpointFile) -> None:
    assert file.last() is None
    file.prepare()
    assert file.last() is None


def test_the_last_is_read_back_as_it_was_written(file: CheckpointFile, keys: Any) -> None:
    file.prepare()
    for seq in (3, 9):
        file.append(checkpoint(keys, seq))
    assert file.last() == checkpoint(keys, 9)
    assert len(file.path.read_text().splitlines()) == 2


def test_of_a_long_file_only_the_end_is_read(file: CheckpointFile, keys: Any) -> None:
    file.prepare()
    file.path.write_text("".join(f'{{"n":{n}}}\n' for n in range(30_000)))
    file.append(checkpoint(keys, 7))
    assert file.last() == checkpoint(keys, 7)


def test_the_highest_counts_where_two_replicas_share_a_file(file: CheckpointFile, keys: Any) -> None:
    file.prepare()
    for seq in (9, 8):
        file.append(checkpoint(keys, seq))
    assert file.last() == checkpoint(keys, 9)


def test_a_line_cut_short_by_a_crash_is_passed_over_and_spoils_nothing(file: CheckpointFile, keys: Any) -> None:
    file.prepare()
    file.append(checkpoint(keys, 3))
    whole = file.path.read_bytes()
    file.path.write_bytes(whole + whole[: len(whole) // 2])
    assert file.last() == checkpoint(keys, 3)
    file.append(checkpoint(keys, 4))
    assert file.last() == checkpoint(keys, 4)


def test_it_may_be_moved_away_while_in_use(file: CheckpointFile, keys: Any) -> None:
    file.prepare()
    file.append(checkpoint(keys, 3))
    file.path.rename(file.path.with_suffix(".1"))
    file.append(checkpoint(keys, 4))
    assert file.last() == checkpoint(keys, 4)


def test_what_cannot_be_written_is_named(tmp_path: Path, keys: Any) -> None:
    (tmp_path / "file").write_text("not a folder")
    file = CheckpointFile(tmp_path / "file" / "checkpoints.jsonl")
    for action in (file.prepare, lambda: file.append(checkpoint(keys, 1))):
        with pytest.raises(CountersignError, match=r"cannot write the checkpoint file .*checkpoints\.jsonl: "):
            action()


def test_a_full_disk_is_an_error(keys: Any) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.fail("this test needs /dev/full")
    with pytest.raises(CountersignError, match="No space left on device"):
        CheckpointFile(full).append(checkpoint(keys, 1))
