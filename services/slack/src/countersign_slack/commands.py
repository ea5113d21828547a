"""`/countersign`: what waits, what is approved ahead, stop, link, help. Answers are seen by who typed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter
from pydantic import ValidationError

from countersign_chassis import Bus
from countersign_contracts.approval_commands import Approvals, ListApprovals, ListStandings, Standings
from countersign_contracts.commands import SetStop
from countersign_contracts.control import Stop
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.people_commands import ConfirmEnrolment, PersonView
from countersign_contracts.roles import able

from .ballots import LINK
from .people import People
from .refusals import Refusals
from .rendering import pending_list
from .several_form import pending_blocks
from .standing_list import standing_blocks, standing_text
from .words import code, plain

HELP = """*Countersign*
• `/countersign pending`  what waits for your decision; decide on several alike in one step
• `/countersign standing`  what is approved ahead, and its end
• `/countersign stop SCOPE REASON`  stop at once: `all`, `env:…`, `tool:…`, `profile:…`, `agent:…` or `session:…`
• `/countersign link CODE`  be known here as the person you are; `countersign people link-slack` prints the code
• `/countersign help`"""
_SCOPES = "`all`, `env:…`, `tool:…`, `profile:…`, `agent:…` or `session:…`"
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What the person is shown; ``text`` alone where there are no blocks."""

    text: str
    blocks: Sequence[dict[str, Any]] | None = None


class SlashCommands:
    """Handlers of the slash command's words."""

    def __init__(self, bus: Bus, people: People, refusals: Refusals, used: Counter) -> None:
        self._bus = bus
        self._people = people
        self._refusals = refusals
        self._used = used

    async def answer(self, text: str, identity: str) -> Answer:
        """What the person is told; never raises what is theirs to know."""
        word, _, rest = text.strip().partition(" ")
        handler = {
            "pending": self._pending,
            "standing": self._standing,
            "stop": self._stop,
            "link": self._link,
        }.get(word.lower())
        self._used.labels(word.lower() if handler else "help").inc()
        if handler is None:
            return Answer(HELP if word.lower() in ("", "help") else f"There is no {code(word, 60)}.\n{HELP}")
        try:
            answer = await handler(rest.strip(), identity)
        except CountersignError as error:
            answer = f"Not done: {plain(error.detail)}"
        return Answer(answer) if isinstance(answer, str) else answer

    async def _pending(self, _: str, identity: str) -> str | Answer:
        person = self._people.find(identity)
        if person is None:
            return f"You are linked to nobody here. {LINK}"
        page: Approvals = await self._bus.ask(ListApprovals(state="pending", voter=person.name, limit=_SHOWN))
        more = page.next is not None
        return Answer(pending_list(page.items, more), pending_blocks(page.items, more))

    async def _standing(self, _: str, identity: str) -> str | Answer:
        person = self._people.find(identity)
        if person is None:
            return f"You are linked to nobody here. {LINK}"
        if not person.may("read"):
            return f"It takes {able('read')}, and {code(person.name)} has {', '.join(person.roles)}."
        page: Standings = await self._bus.ask(ListStandings(limit=_SHOWN))
        blocks = standing_blocks(page.items, page.next is not None, person.may("revoke"))
        return Answer(standing_text(page.items), blocks)

    async def _stop(self, text: str, identity: str) -> str:
        person = self._people.find(identity)
        if person is None:
            await self._refusals.tell("not_enrolled", "ordered a stop", identity)
            return f"Nothing was stopped: you are linked to nobody here. {LINK}"
        if not person.may("stop"):
            await self._refusals.tell("role", "ordered a stop", identity)
            return (
                f"Nothing was stopped: it takes {able('stop')}, and {code(person.name)} has {', '.join(person.roles)}."
            )
        scope, _, reason = text.partition(" ")
        if not scope or not reason.strip():
            example = "`/countersign stop env:prod wrong prices`"
            return f"Nothing was stopped: it takes a scope and a reason, as in {example}. A scope is {_SCOPES}."
        try:
            order = SetStop(scope=scope, reason=reason.strip()[:2000], by=person.name)
        except ValidationError:
            return f"Nothing was stopped: {code(scope, 100)} is no scope. A scope is {_SCOPES}."
        try:
            stop: Stop = await self._bus.ask(order)
        except Unavailable as error:
            return f":warning: {plain(error.detail)}. *The stop is not confirmed: order it again until it is.*"
        return (
            f":octagonal_sign: Stopped {code(stop.scope)}: nothing in it starts any more (`{stop.stop_id}`)."
            f" `countersign stops lift {stop.stop_id}` lifts it."
        )

    async def _link(self, text: str, identity: str) -> str:
        if not text or len(text) > 64:
            return f"It takes the code. {LINK}"
        try:
            person: PersonView = await self._bus.ask(ConfirmEnrolment(channel="slack", identity=identity, code=text))
        except CountersignError as error:
            if error.code != "unavailable":
                await self._refusals.tell("code", "a wrong, used or expired code", identity)
            raise
        return f":link: You are {code(person.name)} here from now on, with {', '.join(person.roles)}."


def typed(body: dict[str, Any]) -> str:
    """What stands after `/countersign`."""
    return str(body.get("text") or "")
