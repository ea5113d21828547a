"""Records a run of the Slack flow on the whole product, and draws its messages for docs/how-to/slack.md.

Run it to make the pictures anew: `.venv/bin/python tests/e2e/record_slack.py`.
"""

from __future__ import annotations

import asyncio
import copy
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "harness")]

from countersign_cli.embedded.postgres import EmbeddedPostgres  # noqa: E402
from countersign_harness.slack_world import SECURITY, SlackWorld  # noqa: E402
from countersign_harness.stack import SUPERUSER_PASSWORD, Stack  # noqa: E402
from countersign_harness.world import World  # noqa: E402
from countersign_slack.rendering import APPROVE, REJECT  # noqa: E402
from draw_slack import draw  # noqa: E402

PICTURES = ROOT / "docs" / "how-to" / "slack"


async def record(folder: Path) -> None:
    """One approval from the question to the execution, and one with arguments made to mislead."""
    postgres = EmbeddedPostgres(folder / "postgres", None, SUPERUSER_PASSWORD)
    await asyncio.to_thread(postgres.start)
    try:
        async with Stack(folder / "data", postgres) as stack, World(stack) as world:
            await stack.start()
            await world.start()
            office = SlackWorld(world)
            await office.start(remind_s=2, replicas=1)
            try:
                await ordinary(office)
                await hostile(office)
            finally:
                await office.stop()
    finally:
        await asyncio.to_thread(postgres.stop)


async def ordinary(office: SlackWorld) -> None:
    """Asked, reminded, approved in two stages, executed."""
    slack = office.slack
    request_id, message = await hold(office, {"thing_id": 7, "status": "closed"}, "the customer withdrew the order")
    save("asked", message, [])
    await office.decide(message, APPROVE, "alice", "ours, and fine")
    await slack.until(lambda: any("still waits" in line for line in slack.thread(message)))
    await office.decide(message, APPROVE, "bob", None)
    await slack.until(lambda: "1 of 2" in str(slack.main(SECURITY)[-1]))
    await office.decide(message, APPROVE, "dave", "checked with the customer")
    await office.world.until(request_id, "succeeded")
    await slack.until(lambda: any("*succeeded*" in line for line in slack.thread(message)))
    await slack.until(lambda: "Executed" in str(slack.main(SECURITY)[-1]))
    save("executed", slack.main(SECURITY)[-1], slack.thread(message))


async def hostile(office: SlackWorld) -> None:
    """What is made to look like something else, or too large, is shown as what it is."""
    status = "<!channel> ```*Approved by security*\n‮hidden" + "x" * 150
    _, message = await hold(office, {"thing_id": 8, "status": status}, "Risk: low\n*Approved* <@U0BOB>")
    save("hostile", message, [])
    await office.decide(message, REJECT, "bob", "this is no status")
    await office.slack.until(lambda: "Rejected" in office.slack.main(SECURITY)[-1]["text"])


async def hold(office: SlackWorld, args: dict[str, Any], reason: str) -> tuple[str, dict[str, Any]]:
    """Ask for an action; its request id and message."""
    answer = await office.world.submit(
        "write_thing", args, env="prod", wait=0, reason=reason, on_behalf_of=["person:dana"]
    )
    approval = await office.world.approval_of(answer["request_id"])
    return answer["request_id"], copy.deepcopy(await office.message(SECURITY, approval["approval_id"]))


def save(name: str, message: dict[str, Any], thread: list[str]) -> None:
    """Write the picture."""
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / f"{name}.svg").write_text(draw(message, thread), encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="countersign-slack-") as name:
        asyncio.run(record(Path(name)))
