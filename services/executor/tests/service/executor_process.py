"""An executor as a process of its own, for tests that kill or pause it: settings as JSON, and where it kills itself."""

import asyncio
import json
import os
import signal
import sys

from countersign_chassis import Failpoints
from countersign_executor.app import build
from countersign_executor.settings import Settings


async def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main() -> None:
    failpoints = Failpoints({sys.argv[2]: die}) if sys.argv[2] else Failpoints()
    service = build(Settings(**json.loads(sys.argv[1]), log_level="error"), failpoints)
    await service.start()
    print("running", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
