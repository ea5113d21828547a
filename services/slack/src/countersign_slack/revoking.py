"""Revoking standing approvals in Slack: for people whose role may, with a reason; refused and unsure ones say so."""

from __future__ import annotations

import re
from typing import Any

import orjson

from countersign_chassis import Bus
from countersign_contracts.approval_commands import RevokeStanding
from countersign_contracts.approvals import Standing
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.fleet import PersonRecord
from countersign_contracts.roles import able

from .ballots import LINK
from .calls import Slack, SlackAway, SlackLimits, SlackRefused
from .offers import given_text
from .people import People
from .refusals import Refusals
from .standing_list import revoke_form
from .whispers import Filled, Where, Whispers
from .words import code, unmarked

_STANDING = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
#: Slack waits three seconds for what is wrong with a form.
_REVOKE_S = 2.0


class _Barred(Exception):
    """Somebody who may not; the message is for them."""


class Revoking:
    """Handlers of the button and of the form."""

    def __init__(
        self, bus: Bus, slack: Slack, people: People, whispers: Whispers, refusals: Refusals, log: Any
    ) -> None:
        self._bus = bus
        self._slack = slack
        self._people = people
        self._whispers = whispers
        self._refusals = refusals
        self._log = log

    async def pressed(self, body: dict[str, Any], identity: str) -> None:
        """The button: ask for the reason, or say why not."""
        where, standing_id = Where.of(body), str(body["actions"][0].get("value", ""))
        if not _STANDING.fullmatch(standing_id):
            await self._refusals.tell("malformed", "a button without a standing approval", identity)
            return await self._whispers.answer(where, "This button is none of ours. Nothing was done.")
        try:
            await self._revoker(identity)
        except _Barred as why:
            return await self._whispers.answer(where, str(why))
        private = orjson.dumps({"standing": standing_id, "channel": where.channel, "url": where.url}).decode()
        try:
            form = revoke_form(standing_id, private)
            await self._slack.call("views.open", trigger_id=body["trigger_id"], view=form)
        except (SlackAway, SlackLimits, SlackRefused) as error:
            self._log.warning("the form did not open", error=str(error))
            await self._whispers.answer(where, "The form did not open. Press the button again.")

    async def submitted(self, body: dict[str, Any], identity: str) -> Filled:
        """The form: revoke it. Who it is, and whether they may, is looked up again."""
        try:
            private = orjson.loads(body["view"]["private_metadata"])
            where = Where(str(private["channel"]), str(body["user"]["id"]), str(private["url"]))
            standing_id = str(private["standing"])
            reason = given_text(body["view"]["state"]["values"], "reason")
            if not _STANDING.fullmatch(standing_id):
                raise ValueError("no standing approval")
        except (ValueError, KeyError, TypeError):
            await self._refusals.tell("malformed", "a form without a standing approval", identity)
            return Filled({"reason": "This form is none of ours. Nothing was done."})
        if not reason:
            return Filled({"reason": "Say why: everyone sees it."})
        try:
            person = await self._revoker(identity)
            order = RevokeStanding(standing_id=standing_id, by=person.name, reason=reason[:2000])
            revoked: Standing = await self._bus.ask(order, timeout_s=_REVOKE_S)
        except _Barred as why:
            return Filled(told=str(why), where=where)
        except Unavailable as error:
            return Filled({"reason": f"{unmarked(error.detail)}. It is not confirmed: send it again until it is."})
        except CountersignError as error:
            return Filled({"reason": f"Nothing was revoked: {unmarked(error.detail)}."})
        by, used = code(revoked.revoked_by or person.name, 140), f"{revoked.used} of {revoked.max_uses}"
        told = f":wastebasket: `{standing_id}` is revoked by {by}, used {used} times. Nothing more is approved by it."
        return Filled(told=told, where=where)

    async def _revoker(self, identity: str) -> PersonRecord:
        """Who may revoke; raises :class:`_Barred`, with that on record."""
        person = self._people.find(identity)
        if person is None:
            await self._refusals.tell("not_enrolled", "would revoke a standing approval", identity)
            raise _Barred(f"Nothing was revoked: you are linked to nobody here. {LINK}")
        if not person.may("revoke"):
            await self._refusals.tell("role", "would revoke a standing approval", identity)
            has = f"{code(person.name)} has {', '.join(person.roles)}"
            raise _Barred(f"Nothing was revoked: it takes {able('revoke')}, and {has}.")
        return person
