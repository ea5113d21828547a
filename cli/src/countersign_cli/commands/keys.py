"""`countersign keys`: rotate the keys that sign NATS accounts and users, in the data folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from countersign_contracts.errors import CountersignError

from ..output import command, console, print_json, table

if TYPE_CHECKING:
    from ..bootstrap.layout import Layout
    from ..bootstrap.signing_keys import Rotatable

app = typer.Typer(
    no_args_is_help=True, help="Rotate the keys that sign NATS accounts and users: add, use, retire, in this order."
)

Folder = Annotated[
    Path | None, typer.Option(help="Where the deployment's keys are kept. Default: the data folder of a local system.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
@command
def list_(folder: Folder = None, json: Json = False) -> None:
    """Show each key, whether it signs, and what is signed with it."""
    from ..bootstrap.signing_keys import ROTATABLE, pairs

    layout = _layout(folder)
    found = [
        (key.name, pair.public, at == 0, key.signs)
        for key in ROTATABLE
        if layout.seed(key.name).exists()
        for at, pair in enumerate(pairs(layout, key.name, key.kind))
    ]
    if json:
        names = ("name", "key", "signs", "what")
        return print_json({"items": [dict(zip(names, each, strict=True)) for each in found]})
    rows = [(name, f"{key[:12]}…", "signs" if signs else "trusted", what) for name, key, signs, what in found]
    table(("NAME", "KEY", "", "WHAT IT SIGNS"), rows, "no keys")


@app.command("add")
@command
def add_(name: str, folder: Folder = None) -> None:
    """Make another key: trusted once this is in force, and signing nothing yet."""
    from ..bootstrap.signing_keys import add, rotatable

    layout, key = _layout(folder), rotatable(name)
    made = add(layout, key)
    console.print(f"{made.public} is trusted beside the present key of {name}, once this is in force")
    _in_force(layout, key, f"countersign keys use {name}")


@app.command("use")
@command
def use_(name: str, folder: Folder = None) -> None:
    """Sign with the newest key from now on; what the older one signed stays valid."""
    from ..bootstrap.signing_keys import rotatable, use

    layout, key = _layout(folder), rotatable(name)
    newest = use(layout, key)
    console.print(f"{newest.public} signs {key.signs}, once this is in force")
    _in_force(layout, key, f"countersign keys retire {name}, when nothing that the older key signed is used any more")


@app.command("retire")
@command
def retire_(name: str, folder: Folder = None) -> None:
    """Trust the key that signs alone: what the others signed is refused, and its connections are dropped."""
    from ..bootstrap.signing_keys import retire, rotatable

    layout, key = _layout(folder), rotatable(name)
    for pair in retire(layout, key):
        console.print(f"{pair.public} is trusted no more, once this is in force")
    _in_force(layout, key, None)


def _layout(folder: Path | None) -> Layout:
    from ..bootstrap.layout import Layout
    from ..settings import ClientSettings

    layout = Layout(folder or ClientSettings().data_dir)
    if not layout.agents_account.exists():
        raise CountersignError(
            f"{layout.root} holds no keys of a deployment; name their folder with --folder", code="not_found"
        )
    return layout


def _in_force(layout: Layout, key: Rotatable, following: str | None) -> None:
    from ..bootstrap.material import renew_agents_account

    renew_agents_account(layout)
    if key.live:
        console.print("in force: a minute after the registry has these files; under `countersign up` it has them")
    else:
        console.print("in force: when nats-server has its configuration, made anew by the next `countersign up`")
    if following is not None:
        console.print(f"then: {following}", soft_wrap=True)
