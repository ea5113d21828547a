"""Deciding on several alike in one step: each with its own vote and digest, and one answer on what became of each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from countersign_chassis import Bus
from countersign_contracts.approval_commands import ApprovalView, GetApproval
from countersign_contracts.errors import CountersignError

from .ballots import APPROVAL, DIGEST, LINK, Ballots, refusal
from .calls import Slack, SlackAway, SlackLimits, SlackRefused
from .offers import Values, chosen, words_in
from .people import People
from .refusals import Refusals
from .several_form import MOST, alike, fitting, several_form
from .whispers import Where, Whispers
from .words import code

_TRIGGER_S = 2.0
_SIGNS = {"approved": ":white_check_mark:", "rejected": ":no_entry:", "pending": ":arrow_forward:"}
#: What waits may have changed since the list was shown.
_LOOK_AGAIN = "`/countersign pending` shows what waits now."


@dataclass(frozen=True, slots=True)
class Several:
    """One vote on each of ``items`` (approval and digest), as a form says it; ``errors``: what is wrong with it."""

    where: Where
    items: tuple[tuple[str, str], ...] = ()
    vote: str = ""
    comment: str | None = None
    errors: dict[str, str] = field(default_factory=dict)


class SeveralVotes:
    """Handlers of the button and of the form."""

    def __init__(
        self,
        bus: Bus,
        ballots: Ballots,
        slack: Slack,
        people: People,
        whispers: Whispers,
        refusals: Refusals,
        log: Any,
    ) -> None:
        self._bus = bus
        self._ballots = ballots
        self._slack = slack
        self._people = people
        self._whispers = whispers
        self._refusals = refusals
        self._log = log

    async def pressed(self, body: dict[str, Any], identity: str) -> None:
        """The button in the list: show each whole, as it is now, or say why not."""
        where = Where.of(body)
        names = str(body["actions"][0].get("value", "")).split(" ")
        if not 0 < len(names) <= MOST or not all(map(APPROVAL.fullmatch, names)):
            await self._refusals.tell("malformed", "a button without approvals", identity)
            return await self._whispers.answer(where, "This button is none of ours. Nothing was done.")
        if self._people.find(identity) is None:
            await self._refusals.tell("not_enrolled", "pressed a button to decide on several", identity)
            return await self._whispers.answer(where, f"You are linked to nobody who may decide. {LINK}")
        found = await asyncio.gather(*map(self._look, names))
        groups = alike([view for view in found if view is not None and view.state == "pending"])
        waiting = groups[0] if groups else []
        shown = fitting(waiting)
        if not shown:
            why = "They cannot be shown whole here: decide at their own messages." if waiting else "None of it waits."
            return await self._whispers.answer(where, f"{why} {_LOOK_AGAIN}")
        form = several_form(shown, len(waiting) - len(shown), carried(shown, where))
        try:
            await self._slack.call("views.open", trigger_id=body["trigger_id"], view=form)
        except (SlackAway, SlackLimits, SlackRefused) as error:
            self._log.warning("the form did not open", error=str(error))
            await self._whispers.answer(where, "The form did not open. Press the button again.")

    async def _look(self, name: str) -> ApprovalView | None:
        try:
            view: ApprovalView = await self._bus.ask(GetApproval(approval_id=name), timeout_s=_TRIGGER_S)
        except CountersignError as error:
            self._log.warning("an approval cannot be looked at", error=error.detail)
            return None
        return view

    async def read(self, body: dict[str, Any], identity: str) -> Several:
        """What the form says; what is wrong with it is said in the form."""
        user = str(body["user"]["id"])
        try:
            return read_form(body["view"]["private_metadata"], body["view"]["state"]["values"], user)
        except (ValueError, KeyError, TypeError):
            await self._refusals.tell("malformed", "a form without approvals and digests", identity)
            return Several(Where("", user), errors={"vote": "This form is none of ours. Nothing was done."})

    async def cast(self, several: Several, identity: str) -> None:
        """Vote on each; one that fails stops none of the others. Then say what became of them all."""
        told = await asyncio.gather(*(self._one(name, digest, several, identity) for name, digest in several.items))
        await self._whispers.answer(several.where, "\n".join(told))

    async def _one(self, name: str, digest: str, several: Several, identity: str) -> str:
        try:
            view = await self._ballots.cast(identity, name, several.vote, digest, several.comment)
        except CountersignError as error:
            return f":warning: `{name}`: {refusal(error, 'decide on it again')}"
        waits = ", ".join(code(who, 200) for who in view.waits_for[:4])
        state = f"your vote counts; it still waits for {waits}" if view.state == "pending" else view.state
        about = f" {code(view.resource, 150)}" if view.resource else ""
        return f"{_SIGNS.get(view.state, ':pencil2:')} `{name}`{about}: {state}"


def carried(shown: Sequence[ApprovalView], where: Where) -> str:
    """What the form carries: what was shown, by its digests, and where to answer."""
    items = [[view.approval_id, view.action.digest] for view in shown]
    return orjson.dumps({"items": items, "channel": where.channel, "url": where.url}).decode()


def read_form(private: Any, values: Values, user: str) -> Several:
    """What a form says; raises :class:`ValueError`, KeyError or TypeError if it is none of ours."""
    found = orjson.loads(private)
    where = Where(str(found["channel"]), user, str(found["url"]))
    items = [(str(name), str(digest)) for name, digest in found["items"]]
    if len(items) > MOST or not all(APPROVAL.fullmatch(name) and DIGEST.fullmatch(digest) for name, digest in items):
        raise ValueError("no items")
    places = {str(n): item for n, item in enumerate(items, 1)}
    picked = tuple(places[place] for place in dict.fromkeys(chosen(values, "which")))
    vote, comment = next(iter(chosen(values, "vote")), ""), words_in(values)
    errors = {}
    if not picked:
        errors["which"] = "Choose at least one."
    if vote not in ("approve", "reject"):
        errors["vote"] = "Approve or reject?"
    elif vote == "reject" and comment is None:
        errors["comment"] = "Say why not: the requester reads it, and it goes on record."
    return Several(where, picked, vote, comment, errors)
