"""What `countersign up` runs, with failpoints: a file named as a point makes a service die or stand still there.

One named `<service>.clock` sets that service's time of day off, at the next point that it comes by.
Failpoints are given to ``build()``; the product itself has no way to arm one from outside.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from pathlib import Path

import time_machine

from countersign_chassis import Failpoints
from countersign_cli.commands.system import narrate
from countersign_cli.local import LocalOptions, LocalSystem
from countersign_cli.replicas import read_replicas


class AskedByFile(Failpoints):
    """The file holds the signal's name, or by how much the clock is off and for how long; it is gone once obeyed."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    async def hit(self, name: str) -> None:
        """Send this process the signal that is asked for at ``name``, if any; set its clock off, if that is."""
        if (off := self._obeyed(f"{name.partition('.')[0]}.clock")) is not None:
            seconds, lasts_s = map(float, off.split())
            _set_off(seconds, lasts_s)
        if (wanted := self._obeyed(name)) is not None:
            os.kill(os.getpid(), signal.Signals[wanted])

    def _obeyed(self, file_name: str) -> str | None:
        file = self._folder / file_name
        try:
            wanted = file.read_text()
            file.unlink()
        except FileNotFoundError:
            return None
        return wanted


def _set_off(seconds: float, lasts_s: float) -> None:
    """The time of day alone, as when somebody sets it: what is measured by the monotonic clock goes on."""
    travel = time_machine.travel(time.time() + seconds, tick=True)
    travel.start()
    asyncio.get_running_loop().call_later(lasts_s, travel.stop)


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
