"""What may be approved ahead: patterns, bounds, the narrowest of several."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_approvals.standing_rules import check_offer, covers, narrowest, not_riskier
from countersign_contracts.approval_rules import StandingLimits
from countersign_contracts.approvals import StandingOffer, Vote
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now

AT = now()
LIMITS = StandingLimits(max_uses=20, max_s=3600)


def offer(resource: str = "tickets/*", seconds: float = 60, uses: int = 5) -> StandingOffer:
    return StandingOffer(resource=resource, until=AT + timedelta(seconds=seconds), max_uses=uses)


def vote(standing: StandingOffer | None, kind: Any = "approve") -> Vote:
    return Vote(voter="a", vote=kind, digest="sha256:" + "1" * 64, channel="cli", voted_at=AT, standing=standing)


@given(st.text("a*/", max_size=8), st.text("a/", max_size=10))
def test_a_pattern_covers_what_a_regular_expression_would(pattern: str, resource: str) -> None:
    wanted = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
    assert covers(pattern, resource) is (wanted.fullmatch(resource) is not None)


def test_a_hostile_pattern_takes_no_time() -> None:
    assert not covers("*a" * 250 + "b", "a" * 100_000)


@pytest.mark.parametrize(
    ("given_offer", "limits", "resource", "why"),
    [
        (offer(), None, "tickets/1", "allows nothing ahead"),
        (offer(), LIMITS, None, "not known"),
        (offer("users/*"), LIMITS, "tickets/1", "does not cover"),
        (offer("tickets/\x00*"), LIMITS, "tickets/1", "cannot be seen"),
        (offer(seconds=3700), LIMITS, "tickets/1", "3600 s"),
        (offer(seconds=-1), LIMITS, "tickets/1", "ends between now"),
        (offer(uses=21), LIMITS, "tickets/1", "at most 20 uses"),
    ],
)
def test_an_offer_beyond_what_the_rule_allows(given_offer: Any, limits: Any, resource: Any, why: str) -> None:
    with pytest.raises(CountersignError, match=why) as refused:
        check_offer(given_offer, limits, resource, AT)
    assert refused.value.code == "invalid"


def test_clocks_that_differ_cost_seconds_and_no_refusal() -> None:
    assert check_offer(offer(seconds=3630), LIMITS, "tickets/1", AT).until == AT + timedelta(seconds=3600)
    assert check_offer(offer(), LIMITS, "tickets/1", AT) == offer()


def test_of_several_the_narrowest_bounds_hold() -> None:
    both = (vote(offer(seconds=60, uses=9)), vote(offer(seconds=90, uses=3)))
    assert narrowest(both, "tickets/1") == offer(seconds=60, uses=3)
    differing = (vote(offer()), vote(offer("tickets/1*")))
    assert narrowest(differing, "tickets/12") == offer("tickets/12")
    assert narrowest(differing, "tickets/1*") is None  # would be a pattern itself
    assert narrowest((vote(offer()), vote(None)), "tickets/1") is None
    assert narrowest((vote(offer()), vote(None, "reject")), "tickets/1") == offer()
    assert narrowest((), "tickets/1") is None


def test_a_higher_risk_than_was_seen_is_not_covered() -> None:
    assert not_riskier("low", "high") and not_riskier("high", "high")
    assert not not_riskier("critical", "high") and not not_riskier(None, "critical")
