"""What `countersign audit verify` takes from the data folder by itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from countersign_cli.commands.audit import describe
from countersign_cli.main import app
from countersign_ledger import (
    CHECKPOINT_TYPE,
    Chain,
    Checkpoint,
    Entry,
    ExportHeader,
    Record,
    SigningKey,
    TrustBundle,
    write_export,
)

TYPE = "countersign.actions.requested.v1"
GATEWAY, AUDIT = SigningKey.generate("gateway"), SigningKey.generate("audit")


def record(number: int, body: bytes) -> Record:
    at = f"2026-01-31T09:00:{number:02}Z"
    fields: dict[str, Any] = {"stream": "ACTIONS", "epoch": 1, "stream_seq": number, "event_id": f"r{number}.requested"}
    fields |= {"type": TYPE, "source": "/gateway", "subject": f"r{number}", "time": at, "keyid": GATEWAY.kid}
    unsigned = Record(**fields, signature=b"", recorded_at=at.replace("Z", ".000000Z"), body=body)
    return replace(unsigned, signature=GATEWAY.sign(Chain().append(unsigned).signing_bytes()))


def ledger(count: int, body: bytes = b"{}") -> list[Entry]:
    chain = Chain()
    return [chain.append(record(number, body)) for number in range(1, count + 1)]


def checkpoint(entry: Entry, at: str) -> Checkpoint:
    return Checkpoint.make(AUDIT, deployment="test", seq=entry.seq, hash=entry.hash, time=f"2026-01-31T{at}Z")


class Kept:
    """A data folder, and an export that was made at 10:00."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "data"
        self.folder.mkdir()
        self.export = folder / "ledger.jsonl"
        bundle = TrustBundle.of("test", [GATEWAY.trusted({TYPE}), AUDIT.trusted({CHECKPOINT_TYPE})])
        (self.folder / "trust.json").write_text(bundle.to_json())
        monkeypatch.setenv("COUNTERSIGN_DATA_DIR", str(self.folder))

    def exported(self, entries: Sequence[Entry]) -> None:
        head = checkpoint(entries[-1], "10:00:00")
        header = ExportHeader("test", 1, len(entries), "2026-01-31T10:00:01Z", head)
        self.export.write_bytes(b"".join(write_export(header, entries)))

    def kept(self, *checkpoints: Checkpoint) -> None:
        lines = (json.dumps(each.to_dict()) + "\n" for each in checkpoints)
        (self.folder / "checkpoints.jsonl").write_text("".join(lines))

    def verify(self, *more: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["audit", "verify", str(self.export), *more])
        return done.exit_code, done.output


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    return Kept(tmp_path, monkeypatch)


def test_without_checkpoints_the_export_is_judged_by_itself(kept: Kept) -> None:
    kept.exported(ledger(5))
    code, said = kept.verify()
    assert code == 0 and said.startswith("No checkpoint kept outside was given")


def test_a_history_that_contradicts_the_kept_checkpoints_is_found(kept: Kept) -> None:
    kept.exported(ledger(5, b'{"rewritten":true}'))
    kept.kept(checkpoint(ledger(5)[2], "09:30:00"))
    code, said = kept.verify()
    assert code == 1 and "NOT verified" in said


def test_a_ledger_cut_back_before_it_was_exported_is_found(kept: Kept) -> None:
    kept.exported(ledger(5))
    kept.kept(checkpoint(ledger(9)[8], "09:59:00"))
    code, said = kept.verify()
    assert code == 1 and "NOT verified" in said


def test_an_older_export_is_not_blamed_for_what_came_later(kept: Kept) -> None:
    kept.exported(ledger(5))
    kept.kept(checkpoint(ledger(5)[2], "09:30:00"), checkpoint(ledger(9)[8], "11:00:00"))
    assert kept.verify() == (0, "ledger verified: 5 entries\n")
    code, _ = kept.verify("--checkpoints", str(kept.folder / "checkpoints.jsonl"))
    assert code == 1, "who names them has all of them compared"


def test_another_trust_bundle_is_not_mixed_with_the_folders_checkpoints(kept: Kept) -> None:
    kept.exported(ledger(5))
    kept.kept(checkpoint(ledger(5, b'{"other":1}')[2], "09:30:00"))
    assert kept.verify("--trust", str(kept.folder / "trust.json"))[0] == 0


def test_a_line_that_is_no_checkpoint_is_named(kept: Kept) -> None:
    kept.exported(ledger(5))
    (kept.folder / "checkpoints.jsonl").write_text("{}\n")
    code, said = kept.verify()
    assert code == 1 and said == f"error: {kept.folder / 'checkpoints.jsonl'}:1 is not a checkpoint\n"


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        (
            "actions.requested",
            {"action": {"tool": "pay", "env": "prod", "args": {"amount": 50}, "amends": "first-1"}},
            "pay in prod (amount=50), in place of first-1",
        ),
        (
            "approvals.resolved",
            {"state": "amended", "amendment": {"by": "bob", "request_id": "new-1"}},
            "amended by bob",
        ),
        ("approvals.resolved", {"state": "expired"}, "expired"),
        ("approvals.reminded", {"to": ["group:security"]}, "to group:security"),
        (
            "approvals.vote_refused",
            {"identity": "slack:T1/U1", "reason": "not enrolled\u202e"},
            "slack:T1/U1: refused: not enrolled\\u202e",
        ),
    ],
)
def test_what_an_entry_says(kind: str, body: dict[str, Any], says: str) -> None:
    assert describe({"kind": kind, "body": body}).startswith(says)
