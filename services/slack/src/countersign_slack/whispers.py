"""What one person alone is told, where they are."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from .calls import Slack, SlackAway, SlackLimits, SlackRefused

#: Later than that nobody knows what they are told about.
_LONGEST_WAIT_S = 30.0
#: Slack's addresses are shorter; it must fit beside what else a form carries.
_LONGEST_URL = 500


@dataclass(frozen=True, slots=True)
class Where:
    """Where somebody is; ``url``: Slack's address for answers to what they pressed, which works in any channel."""

    channel: str
    user: str
    url: str = ""

    @classmethod
    def of(cls, body: dict[str, Any]) -> Where:
        """Where a button was pressed."""
        url = str(body.get("response_url") or "")
        channel = str((body.get("channel") or {}).get("id", ""))[:64]
        return cls(channel, str(body["user"]["id"]), url if len(url) <= _LONGEST_URL else "")


NOWHERE = Where("", "")


@dataclass(frozen=True, slots=True)
class Filled:
    """What becomes of a form: ``errors`` keep it open, each said at its field; what is ``told`` then is no error."""

    errors: dict[str, str] = field(default_factory=dict)
    told: str = ""
    where: Where = NOWHERE


class Whispers:
    """Tells people; what Slack does not take is logged, and stops nothing."""

    def __init__(self, slack: Slack, log: Any) -> None:
        self._slack = slack
        self._log = log

    async def tell(self, channel: str, user: str, text: str) -> None:
        """Tell one person in a channel; once more where Slack's rate limit wants them to wait a little."""
        try:
            try:
                await self._slack.call("chat.postEphemeral", channel=channel, user=user, text=text)
            except SlackLimits as limit:
                await asyncio.sleep(min(limit.after_s, _LONGEST_WAIT_S))
                await self._slack.call("chat.postEphemeral", channel=channel, user=user, text=text)
        except (SlackAway, SlackLimits, SlackRefused) as error:
            self._log.warning("could not tell somebody", error=str(error))

    async def answer(self, where: Where, text: str) -> None:
        """Answer who pressed a button of an answer, which may stand where this app is no member."""
        if where.url:
            try:
                return await self._slack.respond(where.url, text)
            except (SlackAway, SlackLimits, SlackRefused) as error:
                self._log.info("the address for answers does not work any more", error=str(error))
        await self.tell(where.channel, where.user, text)
