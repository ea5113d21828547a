"""Rotating the keys that sign NATS accounts and users: each is a file of seeds, and the first of them signs.

In three steps, each in force everywhere before the next: a key is added and trusted, it signs, the older ones are
retired. In between both are valid, so that nothing has to happen at the same moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from countersign_chassis.natsauth import KeyKind, KeyPair
from countersign_contracts.errors import CountersignError

from ..embedded.datadir import write_secret
from .layout import Layout


@dataclass(frozen=True, slots=True)
class Rotatable:
    """A key that signs, and what is signed with it."""

    name: str
    kind: KeyKind
    signs: str
    live: bool


#: ``live``: the registry takes changes up by itself, and pushes them; others are in nats-server's configuration.
ROTATABLE: tuple[Rotatable, ...] = (
    Rotatable("operator-signing", "operator", "accounts", live=False),
    Rotatable("system-signing", "account", "the registry's user of the system account", live=False),
    Rotatable("core-signing", "account", "services' users in account CORE", live=False),
    Rotatable("agents-service-signing", "account", "services' users in account AGENTS", live=True),
    Rotatable("agents-signing", "account", "agents' users", live=True),
    Rotatable("agents-bootstrap-signing", "account", "users that register an agent", live=True),
    Rotatable("agents-observer-signing", "account", "users that ask which agents run", live=True),
)


def rotatable(name: str) -> Rotatable:
    """The key of that name. Raises `not_found` naming those that there are."""
    found = next((key for key in ROTATABLE if key.name == name), None)
    if found is None:
        names = ", ".join(key.name for key in ROTATABLE)
        raise CountersignError(f"there is no key `{name}`; there are: {names}", code="not_found")
    return found


def pairs(layout: Layout, name: str, kind: KeyKind) -> list[KeyPair]:
    """The keys of that name, the one that signs first; one is made where there is none."""
    path = layout.seed(name)
    if not path.exists():
        _write(layout, name, [KeyPair.generate(kind)])
    return [KeyPair.from_seed(line) for line in path.read_text().split()]


def add(layout: Layout, key: Rotatable) -> KeyPair:
    """Make another key: trusted from now on, and signing nothing yet. Raises `conflict` if one waits already."""
    known = _known(layout, key)
    if len(known) > 1:
        raise CountersignError(
            f"{key.name} has {len(known)} keys already; finish that rotation first: `countersign keys use {key.name}`,"
            f" then `countersign keys retire {key.name}`",
            code="conflict",
        )
    made = KeyPair.generate(key.kind)
    _write(layout, key.name, [*known, made])
    return made


def use(layout: Layout, key: Rotatable) -> KeyPair:
    """Let the newest key sign from now on; the older ones stay trusted. Raises `conflict` without another one."""
    *older, newest = _several(layout, key)
    _write(layout, key.name, [newest, *older])
    return newest


def retire(layout: Layout, key: Rotatable) -> list[KeyPair]:
    """Trust none but the key that signs; gives the others. Raises `conflict` without others."""
    first, *others = _several(layout, key)
    _write(layout, key.name, [first])
    return others


def _several(layout: Layout, key: Rotatable) -> list[KeyPair]:
    known = _known(layout, key)
    if len(known) < 2:
        raise CountersignError(
            f"{key.name} has one key alone; make another first: `countersign keys add {key.name}`", code="conflict"
        )
    return known


def _known(layout: Layout, key: Rotatable) -> list[KeyPair]:
    if not layout.seed(key.name).exists():
        raise CountersignError(
            f"{layout.seed(key.name)} is not there; `countersign up` or `countersign bootstrap keys` makes it",
            code="not_found",
        )
    return pairs(layout, key.name, key.kind)


def _write(layout: Layout, name: str, keys: Sequence[KeyPair]) -> None:
    write_secret(layout.seed(name), "".join(f"{pair.seed}\n" for pair in keys))
