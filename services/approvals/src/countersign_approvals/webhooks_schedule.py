"""What follows a try: delivered, again later, or given up. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(hours=3)
#: Receivers are told an event for about a day: long enough for a night and a morning.
GIVE_UP_AFTER = timedelta(hours=24)
#: A receiver may ask for a longer pause than ours, but not for ever.
LONGEST_ASKED = timedelta(hours=6)
_GONE = 410


@dataclass(frozen=True, slots=True)
class Answer:
    """What a try came to: a status, or an error that kept it from one."""

    status: int | None = None
    error: str | None = None
    retry_after_s: float | None = None

    @property
    def good(self) -> bool:
        """Whether the receiver has it."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Verdict:
    """The delivery's state from now on; ``next_at`` while it is pending."""

    state: Literal["pending", "delivered", "given_up"]
    next_at: datetime | None = None


def after(answer: Answer, tries: int, at: datetime, give_up_at: datetime, chance: float) -> Verdict:
    """What follows the ``tries``-th answer (from 1); ``chance`` from 0 to 1 spreads those that failed together."""
    if answer.good:
        return Verdict("delivered")
    if answer.status == _GONE:
        return Verdict("given_up")
    pause = min(FIRST_PAUSE * 2 ** min(tries - 1, 30), LONGEST_PAUSE) * (0.5 + chance / 2)
    if answer.retry_after_s is not None:
        pause = max(pause, min(timedelta(seconds=answer.retry_after_s), LONGEST_ASKED))
    return Verdict("given_up") if at + pause >= give_up_at else Verdict("pending", at + pause)
