"""What `countersign up` runs, with failpoints: a file named as a point makes a service die or stand still there.

Failpoints are given to ``build()``; the product itself has no way to arm one from outside.
"""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

from countersign_chassis import Failpoints
from countersign_cli.commands.system import narrate
from countersign_cli.local import LocalOptions, LocalSystem
from countersign_cli.replicas import read_replicas


class AskedByFile(Failpoints):
    """The file holds the signal's name, and is gone once it was obeyed."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    async def hit(self, name: str) -> None:
        """Send this process the signal that is asked for at ``name``, if any."""
        file = self._folder / name
        try:
            wanted = file.read_text()
            file.unlink()
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.Signals[wanted])


def main() -> None:
    """Run until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--failpoints", type=Path, required=True, help="folder of the files")
    parser.add_argument("--replicas", default="", help="as `countersign up` takes them")
    for port in ("--port", "--nats-port", "--health-port"):
        parser.add_argument(port, type=int, required=True)
    given = parser.parse_args()
    options = LocalOptions(
        data_dir=given.data_dir,
        port=given.port,
        nats_port=given.nats_port,
        health_port=given.health_port,
        log_level="warning",
        replicas=read_replicas(given.replicas),
    )
    raise SystemExit(LocalSystem(options, AskedByFile(given.failpoints)).run(narrate))


if __name__ == "__main__":
    main()
