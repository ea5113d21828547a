"""Wrong codes, counted: after so many in a row no more are looked at for a while, each time twice as long. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from countersign_contracts.errors import CountersignError
from countersign_contracts.model import rfc3339


@dataclass(frozen=True, slots=True)
class Bounds:
    """``free`` wrong ones lock for ``lock``, the next ``free`` for twice that, up to ``longest``.

    What is wrong counts no more once nothing was wrong for ``forget``.
    """

    free: int
    lock: timedelta
    longest: timedelta
    forget: timedelta


@dataclass(frozen=True, slots=True)
class Tries:
    """Wrong ones in a row."""

    wrong: int
    last_at: datetime
    locked_until: datetime | None = None


#: In the end five guesses a day, at three codes in a million: who guesses all year is right in one year of 180.
TOTP = Bounds(free=5, lock=timedelta(minutes=15), longest=timedelta(hours=24), forget=timedelta(days=7))
#: By one identity in a channel.
ENROLMENT = Bounds(free=5, lock=timedelta(minutes=10), longest=timedelta(hours=24), forget=timedelta(days=1))
#: By all identities of all channels: many may try together.
ENROLMENTS = Bounds(free=60, lock=timedelta(minutes=10), longest=timedelta(minutes=10), forget=timedelta(minutes=10))


def failed(tries: Tries | None, at: datetime, bounds: Bounds) -> Tries:
    """The tries with one more that was wrong."""
    known = 0 if tries is None or at - tries.last_at >= bounds.forget else tries.wrong
    wrong = known + 1
    if wrong % bounds.free:
        return Tries(wrong, at)
    # no more than 2^16: `longest` is reached long before, and a number of days must not overflow
    doubled = bounds.lock * 2 ** min(wrong // bounds.free - 1, 16)
    return Tries(wrong, at, at + min(doubled, bounds.longest))


def require_unlocked(tries: Tries | None, at: datetime, what: str) -> None:
    """Raises `locked_out` saying until when; ``what`` is what there were too many of."""
    if tries is not None and tries.locked_until is not None and tries.locked_until > at:
        raise CountersignError(
            f"too many wrong {what}: none is looked at until {tries.locked_until:%Y-%m-%d %H:%M:%S} UTC",
            code="locked_out",
            until=rfc3339(tries.locked_until),
            retry_after_s=math.ceil((tries.locked_until - at).total_seconds()),
        )
