"""Guardrails, purely: what an action counts towards, and whether it stays within the limits.

A counter is one limit for one agent, session, tool or person; its key says which. How much of it is used comes from
the database, counted in the transaction that writes the decision (see :mod:`.store`).

=============  ==========================================  ================================================
kind           counts                                      per
=============  ==========================================  ================================================
session_calls  calls                                       session; without one, the agent's calls without a
                                                           session in ``fallback_window_s``
rate           calls in ``window_s``                       agent, tool, or person (without one: the agent)
spend          the argument's sum in ``window_s``          the same
time_window    nothing: only inside the hours and days
=============  ==========================================  ================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from countersign_contracts.actions import Action, GuardrailUse, Reason
from countersign_contracts.catalogue import Guardrail, Profile

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Count:
    """What one action adds to one counter. ``amount`` is calls, or the argument's value."""

    guardrail: str
    name: str
    kind: str
    whose: str
    key: str
    amount: Decimal
    limit: Decimal
    window_s: int

    def use(self, used: Decimal) -> GuardrailUse:
        """The use with this action, where ``used`` is what others have used."""
        total = used + self.amount
        return GuardrailUse(
            name=self.name,
            kind=self.kind,
            limit=float(self.limit),
            used=float(total),
            window_s=self.window_s,
            exceeded=total > self.limit,
        )

    def reason(self, used: Decimal) -> Reason:
        """Why the action is too much, for people."""
        what = "calls" if self.kind != "spend" else "the sum"
        window = f"in {_span(self.window_s)}"
        message = (
            f"guardrail `{self.name}`: {_plain(used)} of {_plain(self.limit)} ({what} {window}, {self.whose})"
            f" are used; this would make {_plain(used + self.amount)}"
        )
        return Reason(code="guardrail", message=message, policy=self.guardrail)


def guardrail_id(profile: str, name: str) -> str:
    """How decisions name a guardrail."""
    return f"profile/{profile}/guardrails/{name}"


def counts_of(profile: Profile, action: Action) -> tuple[list[Count], list[Reason]]:
    """What ``action`` counts towards; and reasons to deny it where that cannot be said."""
    counts: list[Count] = []
    reasons: list[Reason] = []
    for guardrail in _applying(profile, action):
        if guardrail.kind == "time_window":
            continue
        id = guardrail_id(profile.name, guardrail.name)
        amount = Decimal(1)
        if guardrail.kind == "spend":
            found = _amount(action.args.get(guardrail.field or "", 0))
            if found is None:
                message = f"guardrail `{guardrail.name}` adds up `{guardrail.field}`: it must be a number from 0 on"
                reasons.append(Reason(code="guardrail", message=message, policy=id))
                continue
            amount = found
        subject, whose, window_s = _subject(guardrail, action)
        key = [profile.name, guardrail.name, guardrail.kind, guardrail.field, *subject]
        counts.append(
            Count(
                guardrail=id,
                name=guardrail.name,
                kind=guardrail.kind,
                whose=whose,
                key=orjson.dumps(key).decode(),
                amount=amount,
                limit=Decimal(repr(guardrail.limit or 0.0)),
                window_s=window_s,
            )
        )
    return counts, reasons


def closed(profile: Profile, action: Action, at: datetime) -> list[Reason]:
    """Reasons of the time windows that ``at`` lies outside of."""
    return [
        Reason(
            code="guardrail",
            message=f"guardrail `{g.name}`: only {_hours(g)}; it is {_local(g, at):%a %H:%M} there",
            policy=guardrail_id(profile.name, g.name),
        )
        for g in _applying(profile, action)
        if g.kind == "time_window" and not is_open(g, at)
    ]


def is_open(guardrail: Guardrail, at: datetime) -> bool:
    """Whether ``at`` lies in the window: from ``start`` up to, not including, ``end``, by the local clock.

    Where ``end`` is before ``start`` the window crosses midnight and belongs to the day it starts on.
    """
    local = _local(guardrail, at)
    start, end, clock = _clock(guardrail.start), _clock(guardrail.end), local.time()
    if start < end:
        return start <= clock < end and _on(guardrail, local)
    if clock >= start:
        return _on(guardrail, local)
    return clock < end and _on(guardrail, local - timedelta(days=1))


def judge(counts: list[Count], used: Mapping[str, Decimal]) -> tuple[tuple[GuardrailUse, ...], tuple[Reason, ...]]:
    """The uses, and reasons for those that are exceeded; ``used`` is by key, without this action."""
    uses = tuple(count.use(used[count.key]) for count in counts)
    reasons = tuple(c.reason(used[c.key]) for c, use in zip(counts, uses, strict=True) if use.exceeded)
    return uses, reasons


def _applying(profile: Profile, action: Action) -> Iterator[Guardrail]:
    for guardrail in profile.guardrails:
        if guardrail.tools and action.tool not in guardrail.tools:
            continue
        if guardrail.environments and action.env not in guardrail.environments:
            continue
        yield guardrail


def _subject(guardrail: Guardrail, action: Action) -> tuple[list[str], str, int]:
    """Whom a counter is for: the key's last part, words for people, and the window in seconds."""
    agent = ["agent", action.agent_id]
    if guardrail.kind == "session_calls":
        if action.session_id is not None:
            return [*agent, "session", action.session_id], "in this session", guardrail.session_window_s
        return [*agent, "no session"], f"by {action.agent_id} without a session", guardrail.fallback_window_s
    window_s = guardrail.window_s or 0
    if guardrail.per == "tool":
        return ["tool", action.tool], f"with {action.tool}", window_s
    if guardrail.per == "person":
        for principal in action.principal_chain:
            if principal.startswith("person:"):
                return ["person", principal], f"for {principal}", window_s
    return agent, f"by {action.agent_id}", window_s


def _amount(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return None
    return Decimal(repr(value))


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _local(guardrail: Guardrail, at: datetime) -> datetime:
    return at.astimezone(_zone(guardrail.timezone))


def _clock(text: str | None) -> time:
    return time.fromisoformat(text or "00:00")


def _on(guardrail: Guardrail, day: datetime) -> bool:
    return guardrail.days is None or _DAYS[day.weekday()] in guardrail.days


def _hours(guardrail: Guardrail) -> str:
    days = ", ".join(guardrail.days) + " " if guardrail.days else ""
    return f"{days}{guardrail.start} to {guardrail.end} {guardrail.timezone}"


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"


def _span(seconds: int) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
