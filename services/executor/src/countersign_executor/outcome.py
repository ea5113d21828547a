"""From the attempts of one execution to its outcome, and whether to try again. Pure.

Two questions. *Try again?* Only where the tool may be repeated (it is idempotent, or only reads), for what
may pass by itself, within the retries and the time allowed. *What came of it?* Success only on a 2xx answer;
failure only where the effect cannot have happened or the downstream said no; everything between is
``unknown``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from countersign_contracts.actions import Execution, Failure
from countersign_contracts.catalogue import Tool

from .answer import Answer

_TRANSIENT_STATUSES = frozenset({429, 502, 503, 504})
#: Said by who stands in between: it sent the request on, and no sound answer came back (RFC 9110, 15.6.3 and 15.6.5).
_IN_BETWEEN = frozenset({502, 504})
_IN_DOUBT = "the effect may or may not have happened: find out, then reconcile"
_TRANSIENT_CODES = frozenset({"connection", "timeout"})


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try. ``not_sent``: no byte of the request left; ``lost``: it may have, and no whole answer came."""

    kind: Literal["answered", "not_sent", "lost"]
    answer: Answer | None = None
    failure: Failure | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class RetryRules:
    """Bounds of trying again, in seconds.

    First pause, longest pause, longest ``Retry-After`` heeded, all together.
    """

    first_pause_s: float = 0.2
    max_pause_s: float = 5.0
    max_retry_after_s: float = 15.0
    budget_s: float = 60.0


def repeatable(tool: Tool) -> bool:
    """Whether calling the tool twice with the same idempotency key does no more than calling it once."""
    return tool.idempotent or tool.effect == "read"


def pause_before_retry(
    tool: Tool, attempts: Sequence[Attempt], rules: RetryRules, *, elapsed_s: float, chance: random.Random
) -> float | None:
    """Seconds to wait before the next try; None: there is none.

    The pause doubles and is jittered down to its half; ``Retry-After`` lengthens it, and ends the tries
    where it is longer than may be waited.
    """
    last = attempts[-1]
    if not repeatable(tool) or len(attempts) > tool.http.retries or not _transient(last):
        return None
    pause = min(rules.max_pause_s, rules.first_pause_s * 2.0 ** (len(attempts) - 1)) * chance.uniform(0.5, 1.0)
    if last.retry_after_s is not None:
        if last.retry_after_s > rules.max_retry_after_s:
            return None
        pause = max(pause, last.retry_after_s)
    return pause if elapsed_s + pause <= rules.budget_s else None


def retry_after_s(header: str | None, at: datetime) -> float | None:
    """Seconds that a ``Retry-After`` header asks for (RFC 9110, section 10.2.3).

    None if it says nothing readable.
    """
    if not header:
        return None
    if header.strip().isdecimal():
        return float(header.strip()[:9])
    try:
        when = parsedate_to_datetime(header)
    except (ValueError, OverflowError):  # the latter: a year or a zone beyond what a number holds
        return None
    return max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - at.timestamp())


def conclude(
    tool: Tool,
    attempts: Sequence[Attempt],
    *,
    execution_id: str,
    fence: int,
    interrupted_before: bool,
    started_at: datetime | None,
    finished_at: datetime,
    withheld: str | None = None,
) -> Execution:
    """What came of it.

    ``interrupted_before``: an earlier claim may have called already and its outcome is lost. ``withheld``:
    why no further try was made although one was due (a stop).
    """
    last = attempts[-1] if attempts else None
    answer = last.answer if last else None
    outcome: Literal["succeeded", "failed", "unknown"]
    if last is not None and last.kind == "answered" and answer is not None and 200 <= answer.status < 300:
        outcome, failure = "succeeded", None
    else:
        failure = (last.failure if last else None) or Failure(code="withheld", message=withheld or "no call was made")
        in_doubt = interrupted_before or any(map(_in_doubt, attempts))
        outcome = "unknown" if in_doubt and tool.effect != "read" else "failed"
        failure = _explained(failure, attempts, outcome, interrupted_before, withheld)
    return Execution(
        execution_id=execution_id,
        outcome=outcome,
        attempts=len(attempts),
        fence=fence,
        status_code=answer.status if answer else None,
        result=answer.result if answer else None,
        truncated=answer.truncated if answer else False,
        response_sha256=answer.sha256 if answer else None,
        response_bytes=answer.size if answer else None,
        failure=failure,
        started_at=started_at,
        finished_at=finished_at,
    )


def interrupted(execution_id: str, fence: int, why: str, at: datetime) -> Execution:
    """The outcome of an execution that was found started, with nobody left who knows how it ended."""
    message = f"the executor was interrupted after the attempt was committed, and {why}; {_IN_DOUBT}"
    return Execution(
        execution_id=execution_id,
        outcome="unknown",
        attempts=1,
        fence=fence,
        failure=Failure(code="interrupted", message=message),
        finished_at=at,
    )


def judged_status(status: int) -> Failure | None:
    """Why an answer with this status is a failure; None for 2xx."""
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return Failure(code="redirect_refused", message=f"the downstream answered {status}; redirects are not followed")
    return Failure(code="downstream_status", message=f"the downstream answered {status}")


def _in_doubt(attempt: Attempt) -> bool:
    """Whether the effect may have happened though nobody said so: also where a proxy says that it does not know."""
    return attempt.kind == "lost" or (attempt.answer is not None and attempt.answer.status in _IN_BETWEEN)


def _transient(attempt: Attempt) -> bool:
    if attempt.kind == "answered":
        return attempt.answer is not None and attempt.answer.status in _TRANSIENT_STATUSES
    return attempt.failure is not None and attempt.failure.code in _TRANSIENT_CODES


def _explained(
    failure: Failure,
    attempts: Sequence[Attempt],
    outcome: str,
    interrupted_before: bool,
    withheld: str | None,
) -> Failure:
    message = failure.message
    if len(attempts) > 1:
        message += f" (at attempt {len(attempts)})"
    if withheld and attempts:
        message += f"; no further attempt: {withheld}"
    if outcome == "unknown":
        if interrupted_before:
            message += "; an earlier attempt was interrupted"
        message += f"; {_IN_DOUBT}"
    return Failure(code=failure.code, message=message)
