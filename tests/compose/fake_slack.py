"""The tests' Slack in a container: tells on standard output what is posted, one JSON line a message, until stopped."""

import asyncio
import json
import sys

sys.path.insert(0, "/tests")
from countersign_harness.slack import FakeSlack


async def main() -> None:
    """Listen, and tell."""
    workspace = FakeSlack()
    workspace.port = 8099
    await workspace.start()
    told: set[tuple[str, str]] = set()
    while True:
        new = await workspace.until(lambda: workspace.messages.keys() - told, 10**9)  # noqa: B023
        for place in sorted(new):
            print(json.dumps(workspace.messages[place]), flush=True)
        told |= new


if __name__ == "__main__":
    asyncio.run(main())
