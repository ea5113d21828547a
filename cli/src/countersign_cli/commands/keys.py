"""`countersign keys`: rotate the keys that sign NATS accounts and users, and services' events, in the data folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from countersign_contracts.errors import CountersignError

from ..output import command, console, print_json, table

if TYPE_CHECKING:
    from ..bootstrap.event_keys import EventKey
    from ..bootstrap.layout import Layout
    from ..bootstrap.signing_keys import Rotatable

app = typer.Typer(
    no_args_is_help=True,
    help="Rotate the keys that sign NATS accounts and users, and services' events: add, use, retire, in this order.",
)

Folder = Annotated[
    Path | None, typer.Option(help="Where the deployment's keys are kept. Default: the data folder of a local system.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
@command
def list_(folder: Folder = None, json: Json = False) -> None:
    """Show each key that is not retired, whether it signs, and what is signed with it."""
    from ..bootstrap.event_keys import EVENT_KEYS, held
    from ..bootstrap.signing_keys import ROTATABLE, pairs

    layout = _layout(folder)
    found = [
        (key.name, pair.public, at == 0, key.signs)
        for key in ROTATABLE
        if layout.seed(key.name).exists()
        for at, pair in enumerate(pairs(layout, key.name, key.kind))
    ]
    found += [(key.name, own.kid, at == 0, key.signs) for key in EVENT_KEYS for at, own in enumerate(held(layout, key))]
    if json:
        names = ("name", "key", "signs", "what")
        return print_json({"items": [dict(zip(names, each, strict=True)) for each in found]})
    rows = [
        (name, key if len(key) < 30 else f"{key[:12]}…", "signs" if signs else "trusted", what)
        for name, key, signs, what in found
    ]
    table(("NAME", "KEY", "", "WHAT IT SIGNS"), rows, "no keys")


@app.command("add")
@command
def add_(name: str, folder: Folder = None) -> None:
    """Make another key: trusted once this is in force, and signing nothing yet."""
    from ..bootstrap import event_keys, signing_keys

    layout, key = _layout(folder), _named(name)
    made = event_keys.add(layout, key) if isinstance(key, event_keys.EventKey) else signing_keys.add(layout, key).public
    console.print(f"{made} is trusted beside the present key of {name}, once this is in force")
    _in_force(layout, key, f"countersign keys use {name}")


@app.command("use")
@command
def use_(name: str, folder: Folder = None) -> None:
    """Sign with the newest key from now on; what the older one signed stays valid."""
    from ..bootstrap import event_keys, signing_keys

    layout, key = _layout(folder), _named(name)
    newest = (
        event_keys.use(layout, key) if isinstance(key, event_keys.EventKey) else signing_keys.use(layout, key).public
    )
    console.print(f"{newest} signs {key.signs}, once this is in force")
    _in_force(layout, key, f"countersign keys retire {name}, when nothing that the older key signed is used any more")


@app.command("retire")
@command
def retire_(name: str, folder: Folder = None) -> None:
    """Trust the key that signs alone: what the others sign is refused, and connections by them are dropped.

    What a service's event key signed before stays verifiable in the ledger, for ever.
    """
    from ..bootstrap import event_keys, signing_keys

    layout, key = _layout(folder), _named(name)
    if isinstance(key, event_keys.EventKey):
        gone = [event_keys.retire(layout, key)]
    else:
        gone = [pair.public for pair in signing_keys.retire(layout, key)]
    for public in gone:
        console.print(f"{public} is trusted no more, once this is in force")
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


def _named(name: str) -> Rotatable | EventKey:
    from ..bootstrap.event_keys import EVENT_KEYS, event_key
    from ..bootstrap.signing_keys import ROTATABLE, rotatable

    if (found := event_key(name)) is not None:
        return found
    if any(key.name == name for key in ROTATABLE):
        return rotatable(name)
    names = ", ".join([*(key.name for key in ROTATABLE), *(key.name for key in EVENT_KEYS)])
    raise CountersignError(f"there is no key `{name}`; there are: {names}", code="not_found")


def _in_force(layout: Layout, key: Rotatable | EventKey, following: str | None) -> None:
    from ..bootstrap.event_keys import EventKey
    from ..bootstrap.material import renew_agents_account

    renew_agents_account(layout)
    if isinstance(key, EventKey):
        console.print(
            "in force: when every service has the trust bundle and its own key, made anew by the next `countersign up`,"
            " and was started again"
        )
    elif key.live:
        console.print("in force: a minute after the registry has these files; under `countersign up` it has them")
    else:
        console.print("in force: when nats-server has its configuration, made anew by the next `countersign up`")
    if following is not None:
        console.print(f"then: {following}", soft_wrap=True)
