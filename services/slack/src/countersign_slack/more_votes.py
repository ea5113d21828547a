"""Approving with changes, and allowing alike actions ahead: forms whose mistakes are shown in them, at the field.

Slack waits three seconds for what is wrong with a form: the vote is cast before it is answered.
"""

from __future__ import annotations

from typing import Any

from countersign_chassis import Bus
from countersign_contracts.approval_commands import ApprovalView, GetApproval
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.model import now

from .ballots import Ballot, Ballots, refusal
from .more_forms import CHANGE_FORM
from .offers import Mistaken, Values, argument_of, changed, limits_ahead, narrowable, read_changes, read_offer, words_in
from .people import People
from .refusals import Refusals
from .whispers import Filled, Where
from .words import unmarked

#: Both together stay within Slack's three seconds.
_LOOK_S, _VOTE_S = 1.0, 1.5
#: Refusals that filling in the form otherwise mends.
_MENDABLE = frozenset({"invalid", "malformed", "too_large"})


class MoreVotes:
    """Handlers of both forms."""

    def __init__(self, bus: Bus, ballots: Ballots, people: People, refusals: Refusals) -> None:
        self._bus = bus
        self._ballots = ballots
        self._people = people
        self._refusals = refusals

    async def submitted(self, body: dict[str, Any], identity: str) -> Filled:
        """Cast the vote; what of it the person can mend is said in the form."""
        try:
            ballot = Ballot.read(body["view"]["private_metadata"])
            values: Values = body["view"]["state"]["values"]
            changing = body["view"]["callback_id"] == CHANGE_FORM
        except (ValueError, KeyError, TypeError):
            await self._refusals.tell("malformed", "a form without approval and digest", identity)
            return Filled(errors={"comment": "This form is none of ours. Nothing was done."})
        where = Where(ballot.channel, str(body["user"]["id"]))
        try:
            view: ApprovalView = await self._bus.ask(GetApproval(approval_id=ballot.approval), timeout_s=_LOOK_S)
            more = {} if view.state != "pending" else _changes(values, view) if changing else _offer(values, view)
        except Mistaken as mistake:
            return Filled(errors=mistake.fields)
        except CountersignError as error:
            return Filled(errors={"comment": f"Nothing was counted: {unmarked(error.detail)}. Send it again."})
        try:
            after = await self._ballots.cast(
                identity, ballot.approval, "approve", ballot.digest, words_in(values), timeout_s=_VOTE_S, **more
            )
        except Unavailable as error:
            unsure = "Your vote is not confirmed: send it again. Twice counts once."
            return Filled(errors={"comment": f"{unmarked(error.detail)}. {unsure}"})
        except CountersignError as error:
            if error.code not in _MENDABLE:
                return Filled(told=refusal(error), where=where)
            argument = argument_of(error.detail, narrowable(view))
            place = ("comment" if argument is None else changed(argument)) if changing else "resource"
            return Filled(errors={place: unmarked(error.detail, 600)})
        if not more:
            return Filled(told=f"It is {after.state} already, and your vote stands.", where=where)
        return Filled() if changing else Filled(told=self._of_offer(after, identity), where=where)

    def _of_offer(self, after: ApprovalView, identity: str) -> str:
        """What the message does not say of what was allowed ahead."""
        person = self._people.find(identity)
        before = any(person and vote.voter == person.name and vote.standing is None for vote in after.votes)
        if before:
            return "You approved it before, and a vote is not changed: nothing is allowed ahead by it."
        if after.state == "pending":
            return "Your vote counts. Alike actions are allowed ahead once the others whom it needs allow them too."
        return ""


def _changes(values: Values, view: ApprovalView) -> dict[str, Any]:
    return {"changes": read_changes(values, view)}


def _offer(values: Values, view: ApprovalView) -> dict[str, Any]:
    limits = limits_ahead(view)
    if limits is None:
        gone = "Nothing can be allowed ahead any more: not every approver does. To approve this one: Back, Approve…"
        raise Mistaken(resource=gone)
    return {"standing": read_offer(values, limits, now())}
