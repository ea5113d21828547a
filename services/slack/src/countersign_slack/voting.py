"""Buttons and the form: a vote for exactly the digest that stood above the button, cast by who pressed it."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import orjson
from prometheus_client import Counter

from countersign_chassis import Bus
from countersign_contracts.approval_commands import ApprovalView, CastVote, GetApproval
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.ids import DIGEST_PATTERN

from .calls import Slack, SlackAway, SlackLimits, SlackRefused
from .people import People
from .refusals import Refusals
from .rendering import APPROVE, modal
from .store import Store
from .words import plain

LINK = "Link yourself: run `countersign people link-slack`, then type here what it prints (`/countersign link CODE`)."
_TRIGGER_S = 2.0
#: Later than that nobody knows what they are told about.
_LONGEST_WAIT_S = 30.0
_APPROVAL = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
_DIGEST = re.compile(DIGEST_PATTERN)

#: What to do about a refusal, where its own words do not say it.
_ADVICE = {
    "digest_mismatch": "Look at the message as it is now, and decide on that.",
    "not_found": "It may have been asked for by another deployment.",
    "not_entitled": "Somebody else must decide.",
    "not_enrolled": LINK,
    "assurance": "Decide with `countersign approvals approve`, which asks for the code.",
}


class Voting:
    """Handlers of the buttons and of the form. Nothing is kept between them: any replica may get any payload."""

    def __init__(
        self, bus: Bus, store: Store, slack: Slack, people: People, refusals: Refusals, log: Any, votes: Counter
    ) -> None:
        self._bus = bus
        self._store = store
        self._slack = slack
        self._people = people
        self._refusals = refusals
        self._log = log
        self._votes = votes

    async def pressed(self, body: dict[str, Any], identity: str) -> None:
        """A button: open the form, or say why not."""
        channel, user = str((body.get("channel") or {}).get("id", "")), str(body["user"]["id"])
        action = body["actions"][0]
        vote = "approve" if action["action_id"] == APPROVE else "reject"
        approval_id, _, digest = str(action.get("value", "")).partition(" ")
        if not _APPROVAL.fullmatch(approval_id) or not _DIGEST.fullmatch(digest):
            await self._refusals.tell("malformed", "a button without approval and digest", identity)
            return await self.whisper(channel, user, "This button is none of ours. Nothing was done.")
        if self._people.find(identity) is None:
            await self._refusals.tell("not_enrolled", f"pressed a button of {approval_id}", identity)
            return await self.whisper(
                channel, user, f"You are linked to nobody who may decide: nothing was counted. {LINK}"
            )
        try:
            view: ApprovalView = await self._bus.ask(GetApproval(approval_id=approval_id), timeout_s=_TRIGGER_S)
        except CountersignError as error:
            return await self.whisper(channel, user, _said(error))
        if view.state != "pending" or view.action.digest != digest:
            # sure to be refused, and for its owner to refuse: so that it is on record with the reason
            if await self._cast(approval_id, vote, digest, identity, None, channel, user):
                await self.whisper(channel, user, f"It is {view.state} already, and your vote stands.")
            return
        private = orjson.dumps({"approval": approval_id, "digest": digest, "vote": vote, "channel": channel}).decode()
        try:
            await self._slack.call("views.open", trigger_id=body["trigger_id"], view=modal(view, vote, private))
        except (SlackAway, SlackLimits, SlackRefused) as error:
            self._log.warning("the form did not open", error=str(error))
            await self.whisper(channel, user, "The form did not open. Press the button again.")

    async def tidy(self, body: dict[str, Any]) -> None:
        """Remove the message whose button was pressed if another one is kept up to date for the same approval.

        A replica that is killed between Slack's answer and its row leaves one behind.
        """
        channel = str((body.get("channel") or {}).get("id", ""))
        pressed = str((body.get("container") or {}).get("message_ts", ""))
        approval_id = str(body["actions"][0].get("value", "")).partition(" ")[0]
        kept = await self._store.message_ts(approval_id, channel)
        if kept is None or not pressed or kept == pressed:
            return
        try:
            await self._slack.call("chat.delete", channel=channel, ts=pressed)
        except (SlackAway, SlackLimits, SlackRefused) as error:
            self._log.warning("a second message about an approval stays", error=str(error))

    async def submitted(self, body: dict[str, Any], identity: str) -> None:
        """The form: cast the vote."""
        view = body["view"]
        try:
            private = orjson.loads(view["private_metadata"])
            approval_id, digest, vote = str(private["approval"]), str(private["digest"]), str(private["vote"])
            channel = str(private["channel"])
            comment = view["state"]["values"]["comment"]["comment"].get("value")
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return await self._refusals.tell("malformed", "a form without approval and digest", identity)
        await self._cast(approval_id, vote, digest, identity, comment, channel, str(body["user"]["id"]))

    async def _cast(
        self, approval_id: str, vote: str, digest: str, identity: str, comment: str | None, channel: str, user: str
    ) -> bool:
        """Whether it counts, now or since before; who voted is told if not."""
        try:
            command = CastVote(
                approval_id=approval_id,
                voter=f"slack:{identity}",
                vote="approve" if vote == "approve" else "reject",
                digest=digest,
                channel="slack",
                comment=comment or None,
            )
            await self._bus.ask(command)
        except Unavailable as error:
            self._votes.labels("unavailable").inc()
            said = f"{plain(error.detail)}. Your vote is not confirmed: press the button again. Twice counts once."
            await self.whisper(channel, user, said)
            return False
        except CountersignError as error:
            self._votes.labels("refused").inc()
            await self.whisper(channel, user, _said(error))
            return False
        self._votes.labels("counted").inc()
        return True

    async def whisper(self, channel: str, user: str, text: str) -> None:
        """Tell one person, where they are; once more where Slack's rate limit wants them to wait a little."""
        try:
            try:
                await self._slack.call("chat.postEphemeral", channel=channel, user=user, text=text)
            except SlackLimits as limit:
                await asyncio.sleep(min(limit.after_s, _LONGEST_WAIT_S))
                await self._slack.call("chat.postEphemeral", channel=channel, user=user, text=text)
        except (SlackAway, SlackLimits, SlackRefused) as error:
            self._log.warning("could not tell somebody", error=str(error))


def _said(error: CountersignError) -> str:
    """A refusal in words: why, and what to do."""
    return f"Not counted: {plain(error.detail)}. {_ADVICE.get(error.code, '')}".rstrip()
