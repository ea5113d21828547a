"""Permissions as claims: subjects that mean what they seem to, and answers that are counted."""

import pytest

from countersign_chassis.natsauth import InvalidClaimError, Permissions


@pytest.mark.parametrize("subject", ["", ".", "a.", ".a", "a..b", "a b", "a.>.b", "a>", "a*", "a.\n", "{{}}>"])
def test_a_subject_that_matches_nothing_or_not_what_it_seems_is_refused(subject: str) -> None:
    for permissions in (
        Permissions((subject,), ()),
        Permissions((), (subject,)),
        Permissions((), (), publish_deny=(subject,)),
        Permissions((), (), subscribe_deny=(subject,)),
    ):
        with pytest.raises(InvalidClaimError, match="not a subject"):
            permissions.claim()


@pytest.mark.parametrize("subject", [">", "*", "a", "a.>", "*.a.*", "a.{{name()}}.>", "$JS.API.>", "a-{{name()}}"])
def test_every_form_of_subject_is_taken(subject: str) -> None:
    assert Permissions((subject,), ()).claim()["pub"] == {"allow": [subject]}


@pytest.mark.parametrize(("responses", "ttl"), [(-1, 1.0), (1, 0.0), (1, -1.0)])
def test_unlimited_or_timeless_responses_are_refused(responses: int, ttl: float) -> None:
    with pytest.raises(InvalidClaimError):
        Permissions((), (), responses=responses, response_ttl_seconds=ttl).claim()
