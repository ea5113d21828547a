"""The whole product with Slack: two replicas over Socket Mode, and people linked by their codes."""

from __future__ import annotations

from typing import Any

from .slack import APP_TOKEN, BOT_TOKEN, FakeSlack
from .world import World

CHANNEL, SECURITY = "C0APPROVALS", "C0SECURITY"
RULES = """
kind: approval_rule
name: two-stages
description: In production the owner's team decides, then two of security.
match: {tools: [write_thing], environments: [prod]}
stages:
  - {name: owner, approvers: ["owner:team"]}
  - {name: security, approvers: ["group:security"], quorum: 2}
remind_after_s: [REMIND]
deadline_s: 3600
"""


class SlackWorld:
    """``world`` with a Slack beside it; alice is of team ops, bob and dave are of security."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.slack = FakeSlack()
        self.services: list[Any] = []

    async def start(self, *, remind_s: int = 600, replicas: int = 2) -> None:
        """Tokens, channels, replicas, people and a rule."""
        await self.slack.start()
        folder = self.world.stack.layout.slack
        texts = {
            "bot-token": BOT_TOKEN,
            "app-token": APP_TOKEN,
            "channels.yaml": f"default: {CHANNEL}\nsecurity: {SECURITY}",
        }
        for name, text in texts.items():
            (folder / name).write_text(text)
        for number in range(1, replicas + 1):
            settings: dict[str, Any] = {
                "slack_api_url": self.slack.url,
                "slack_pace_s": 0.0,
                "slack_ping_s": 0.5,
                "slack_poll_s": 0.1,
            }
            self.services.append(
                await self.world.stack.service("slack", instance=f"slack-{number}", slack_refusals_s=0.5, **settings)
            )
        await self.slack.until(lambda: self.slack.connections == replicas)
        for name, groups in (("alice", ["ops"]), ("bob", ["security"]), ("dave", ["security"])):
            await self.world.add_person(name, "approver", groups=groups)
            await self.link(name)
        result = await self.world.apply({"rules.yaml": RULES.replace("REMIND", str(remind_s))})
        assert result["errors"] == [], result

    async def link(self, name: str) -> str:
        """The person takes a code, and types it into Slack."""
        code = (await self.world.ok("POST", "/api/v1/me/channels/slack", as_=name))["code"]
        return await self.type(f"link {code}", user_of(name))

    async def type(self, text: str, user: str) -> str:
        """Type `/countersign text`; what is answered."""
        before = len(self.slack.responses)
        await self.slack.send(self.slack.command(text, user))
        await self.slack.until(lambda: len(self.slack.responses) > before)
        return str(self.slack.responses[-1]["text"])

    async def message(self, channel: str, holds: str) -> dict[str, Any]:
        """The message of a channel that holds a text, once there is one."""
        return dict((await self.slack.until(lambda: [m for m in self.slack.main(channel) if holds in str(m)]))[-1])

    async def press(self, message: dict[str, Any], action_id: str, name: str) -> None:
        """Press a button of a message."""
        await self.slack.send(self.slack.press(message, action_id, user_of(name)))

    async def decide(
        self, message: dict[str, Any], action_id: str, name: str, comment: str | None, **given: str
    ) -> None:
        """Press the button, fill in the form, ``given`` by field, send it."""
        before = len(self.slack.modals)
        await self.press(message, action_id, name)
        await self.slack.until(lambda: len(self.slack.modals) > before)
        await self.slack.send(self.slack.submit(self.slack.modals[-1], user_of(name), comment, **given))

    async def stop(self) -> None:
        """Slack goes; the services stop with the stack."""
        await self.slack.stop()


def user_of(name: str) -> str:
    """A person's user id in Slack."""
    return f"U0{name.upper()}"
