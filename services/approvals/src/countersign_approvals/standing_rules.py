"""What may be approved ahead, and which later action it is for. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from countersign_contracts.actions import Risk
from countersign_contracts.approval_rules import StandingLimits
from countersign_contracts.approvals import StandingOffer, Vote
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import rfc3339

_RISKS: tuple[Risk, ...] = ("low", "medium", "high", "critical")
#: By how much clocks may differ: an offer as long as is allowed, made on another machine, is cut and not refused.
_SKEW = timedelta(seconds=60)


def check_offer(
    offer: StandingOffer, limits: StandingLimits | None, resource: str | None, at: datetime
) -> StandingOffer:
    """The offer within what the rule allows; raises `invalid` saying what that is."""
    if limits is None:
        raise _not("the rule allows nothing ahead: approve without a standing approval")
    if resource is None:
        raise _not("what this action touches is not known, so nothing alike can be approved ahead")
    if not offer.resource.isprintable():
        raise _not("the resource pattern holds characters that cannot be seen")
    if not covers(offer.resource, resource):
        raise _not(f"the pattern `{offer.resource}` does not cover this action's resource, `{resource}`")
    latest = at + timedelta(seconds=limits.max_s)
    if not at < offer.until <= latest + _SKEW:
        raise _not(f"a standing approval ends between now and {rfc3339(latest)} here ({limits.max_s} s)")
    if offer.max_uses > limits.max_uses:
        raise _not(f"a standing approval is for at most {limits.max_uses} uses here, not {offer.max_uses}")
    return offer.model_copy(update={"until": min(offer.until, latest)})


def narrowest(votes: tuple[Vote, ...], resource: str | None) -> StandingOffer | None:
    """What every approving vote allows; nothing, where one allows nothing.

    Patterns that differ leave this action's own resource alone, which all of them cover.
    """
    offers = [vote.standing for vote in votes if vote.vote == "approve"]
    given = [offer for offer in offers if offer is not None]
    if not given or len(given) < len(offers) or resource is None:
        return None
    patterns = {offer.resource for offer in given}
    pattern = patterns.pop() if len(patterns) == 1 else resource
    if pattern != given[0].resource and ("*" in pattern or len(pattern) > 512 or not pattern.isprintable()):
        return None
    return StandingOffer(
        resource=pattern,
        until=min(offer.until for offer in given),
        max_uses=min(offer.max_uses for offer in given),
    )


def covers(pattern: str, resource: str) -> bool:
    """Whether a pattern, in which `*` is any text, matches the whole resource. Takes time linear in both."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == resource
    *between, last = rest
    if not resource.startswith(first) or not resource.endswith(last) or len(resource) < len(first) + len(last):
        return False
    at, end = len(first), len(resource) - len(last)
    for piece in between:
        found = resource.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def not_riskier(risk: Risk | None, than: Risk | None) -> bool:
    """Whether a risk is no higher than the one that people saw; an unknown one is the highest."""
    return _rank(risk) <= _rank(than)


def _rank(risk: Risk | None) -> int:
    return len(_RISKS) if risk is None else _RISKS.index(risk)


def _not(detail: str) -> CountersignError:
    return CountersignError(detail, code="invalid")
