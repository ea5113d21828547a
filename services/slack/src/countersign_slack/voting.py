"""Buttons and the form: a vote for exactly the digest that stood above the button, cast by who pressed it."""

from __future__ import annotations

from typing import Any

from countersign_chassis import Bus
from countersign_contracts.approval_commands import ApprovalView, GetApproval
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now

from .ballots import APPROVAL, DIGEST, LINK, Ballot, Ballots, refusal, said
from .calls import Slack, SlackAway, SlackLimits, SlackRefused
from .more_forms import allow_form, change_form
from .people import People
from .refusals import Refusals
from .rendering import ALLOW, APPROVE, CHANGE, REJECT, modal
from .store import Store
from .whispers import Whispers

_TRIGGER_S = 2.0
_VOTES = {APPROVE: "approve", REJECT: "reject", CHANGE: "approve", ALLOW: "approve"}


class Voting:
    """Handlers of the buttons and of the form. Nothing is kept between them: any replica may get any payload."""

    def __init__(
        self,
        bus: Bus,
        ballots: Ballots,
        store: Store,
        slack: Slack,
        people: People,
        whispers: Whispers,
        refusals: Refusals,
        log: Any,
    ) -> None:
        self._bus = bus
        self._ballots = ballots
        self._store = store
        self._slack = slack
        self._people = people
        self._refusals = refusals
        self._log = log
        self.whisper = whispers.tell

    async def pressed(self, body: dict[str, Any], identity: str) -> None:
        """A button: open the form, or say why not."""
        channel, user = str((body.get("channel") or {}).get("id", "")), str(body["user"]["id"])
        action = body["actions"][0]
        vote = _VOTES[action["action_id"]]
        approval_id, _, digest = str(action.get("value", "")).partition(" ")
        if not APPROVAL.fullmatch(approval_id) or not DIGEST.fullmatch(digest):
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
            return await self.whisper(channel, user, said(error))
        if view.state != "pending" or view.action.digest != digest:
            # sure to be refused, and for its owner to refuse: so that it is on record with the reason
            if await self._cast(approval_id, vote, digest, identity, None, channel, user):
                await self.whisper(channel, user, f"It is {view.state} already, and your vote stands.")
            return
        form = _form(action["action_id"], view, Ballot(approval_id, digest, vote, channel))
        if form is None:
            return await self.whisper(channel, user, "The rule does not allow that any more: nothing was counted.")
        try:
            await self._slack.call("views.open", trigger_id=body["trigger_id"], view=form)
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
        try:
            form = Ballot.read(body["view"]["private_metadata"])
            comment = body["view"]["state"]["values"]["comment"]["comment"].get("value")
        except (ValueError, KeyError, TypeError):
            return await self._refusals.tell("malformed", "a form without approval and digest", identity)
        user = str(body["user"]["id"])
        await self._cast(form.approval, form.vote, form.digest, identity, comment, form.channel, user)

    async def _cast(
        self, approval_id: str, vote: str, digest: str, identity: str, comment: str | None, channel: str, user: str
    ) -> bool:
        """Whether it counts, now or since before; who voted is told if not."""
        try:
            await self._ballots.cast(identity, approval_id, vote, digest, comment)
        except CountersignError as error:
            await self.whisper(channel, user, refusal(error))
            return False
        return True


def _form(action_id: str, view: ApprovalView, ballot: Ballot) -> dict[str, Any] | None:
    """The form that a button opens; None where the rule does not allow it."""
    if action_id == CHANGE:
        return change_form(view, ballot.text())
    return allow_form(view, ballot.text(), now()) if action_id == ALLOW else modal(view, ballot.vote, ballot.text())
