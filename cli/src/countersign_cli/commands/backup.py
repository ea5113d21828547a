"""`countersign backup` and `countersign restore`: the system of one host in a file, and out of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..output import command, console

if TYPE_CHECKING:
    from ..backup import Contents

DataDirOption = Annotated[Path | None, typer.Option(help="Data folder. Default: ./.countersign")]
Passphrase = Annotated[Path | None, typer.Option(help="A file with the passphrase that seals the keys.")]


@command
def backup(
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    data_dir: DataDirOption = None,
    passphrase_file: Passphrase = None,
) -> None:
    """Write ledger and state into one file, whether the system runs or not."""
    from ..backup import make_backup

    contents = make_backup(_folder(data_dir), file, passphrase_file)
    console.print(f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB): {_described(contents)}")
    if not contents.has_keys:
        console.print(
            "the keys are NOT in it: copy keys/, secrets/ and admin.token of the data folder to where only you get at"
            " them, or name a --passphrase-file to have them in it, sealed"
        )


@command
def restore(
    file: Annotated[Path, typer.Argument(help="A file that `countersign backup` wrote.")],
    data_dir: DataDirOption = None,
    passphrase_file: Passphrase = None,
    keys: Annotated[
        Path | None, typer.Option(help="The folder with keys/, secrets/ and admin.token, if they are not in the file.")
    ] = None,
    nothing_since: Annotated[
        bool,
        typer.Option(
            "--nothing-since",
            help="The system was stopped before the backup and has not run since: go on with what was accepted."
            " Without it a stop on everything is in force.",
        ),
    ] = False,
) -> None:
    """Make a system of a backup, in a folder that holds none; `countersign up` then runs it."""
    from ..backup import restore_backup

    target = _folder(data_dir)
    contents = restore_backup(
        file, target, passphrase_file=passphrase_file, keys_from=keys, nothing_since=nothing_since
    )
    console.print(f"restored into {target}: {_described(contents)}")
    if nothing_since:
        console.print("run it with `countersign up`; what was accepted goes on")
        return
    console.print(
        "a stop on everything is in force. Of the actions that had not ended any may have been executed after the"
        " backup: under the stop they end as denied, none is executed a second time. Run `countersign up`, compare with"
        " your business systems, then lift it: `countersign stops list`, `countersign stops lift`"
    )


def _folder(data_dir: Path | None) -> Path:
    from ..settings import ClientSettings

    return data_dir or ClientSettings().data_dir


def _described(contents: Contents) -> str:
    count = sum(contents.open_actions.values())
    states = ", ".join(f"{number} {state}" for state, number in contents.open_actions.items())
    return (
        f"made {contents.made_at}, the ledger up to entry {contents.ledger_seq}, {count} actions that had not ended"
        + (f" ({states})" if states else "")
    )
