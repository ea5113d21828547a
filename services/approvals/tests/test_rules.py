"""Who may vote, and what a vote does: tables."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from countersign_approvals.rules import (
    VoteRefused,
    admit,
    outcome_of,
    own_names,
    require_digest,
    require_eligible,
    require_open,
    stages_done,
    still_counts,
    tie,
)
from countersign_contracts.actions import Action
from countersign_contracts.approval_rules import Stage
from countersign_contracts.approvals import AskedBy, Vote
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import PersonRecord
from countersign_contracts.model import now

from .conftest import held

AT = now()
DIGEST = "sha256:" + "1" * 64


def action(**fields: Any) -> Action:
    given: dict[str, Any] = {
        "request_id": "01920000-0000-7000-8000-000000000000",
        "agent_id": "worker-1",
        "env": "prod",
        "tool": "t",
        "tool_version": 1,
        "args": {},
        "digest": DIGEST,
        "requested_at": AT,
    }
    return Action(**(given | fields))


def vote(voter: str, kind: Any) -> Vote:
    return Vote(voter=voter, vote=kind, digest=DIGEST, channel="cli", voted_at=AT)


@pytest.mark.parametrize(
    ("voter", "chain", "oncall", "may"),
    [
        ("alice", (), None, True),
        ("alice", ("person:bob",), "carol", True),
        ("alice", ("person:alice",), None, False),
        ("Alice", ("person:alice",), None, False),
        ("alice", ("person:bob", "agent:other", "person:alice"), None, False),
        ("carol", (), "carol", False),
        ("CAROL", (), "carol", False),
        ("worker-1", (), None, False),
    ],
)
def test_nobody_approves_their_own(voter: str, chain: tuple[str, ...], oncall: str | None, may: bool) -> None:
    if may:
        assert require_eligible(voter, action(principal_chain=chain), oncall) is None
        return
    assert require_eligible(voter, action(principal_chain=chain), oncall, allow_own=True)
    with pytest.raises(VoteRefused):
        require_eligible(voter, action(principal_chain=chain), oncall)


def test_a_vote_is_for_the_digest_that_was_shown() -> None:
    require_digest(DIGEST, DIGEST)
    with pytest.raises(CountersignError) as refused:
        require_digest("sha256:" + "2" * 64, DIGEST)
    assert refused.value.code == "digest_mismatch"


@pytest.mark.parametrize("state", ["approved", "rejected", "expired", "cancelled"])
def test_an_ended_approval_takes_no_vote(state: Any) -> None:
    with pytest.raises(CountersignError, match=state):
        require_open("apr_1", state, AT + timedelta(hours=1), AT)


def test_the_deadline_itself_is_too_late() -> None:
    require_open("apr_1", "pending", AT + timedelta(seconds=1), AT)
    require_open("apr_1", "pending", AT, AT, pauses=True)
    with pytest.raises(CountersignError, match="expired"):
        require_open("apr_1", "pending", AT, AT)


def test_one_rejection_outweighs_any_approval() -> None:
    assert outcome_of(AskedBy(), ()) is None
    assert outcome_of(AskedBy(), (vote("a", "approve"),)) == "approved"
    assert outcome_of(AskedBy(), (vote("a", "approve"), vote("b", "reject"))) == "rejected"


# --- rules with stages ----------------------------------------------------------------------------

TWO_STAGES = AskedBy(
    rule="r",
    version=1,
    stages=(
        Stage(name="owner", approvers=("owner:team", "owner:oncall")),
        Stage(name="security", approvers=("group:security", "person:zoe"), quorum=2, assurance="strong"),
    ),
)


def person(name: str, *groups: str, **more: Any) -> PersonRecord:
    fields = {"name": name, "roles": ("approver",), "token_sha256": "0" * 64, "groups": groups, "revision": 1}
    return PersonRecord(**(fields | more))


def cast(voter: str, stage: str, kind: Any = "approve") -> Vote:
    return vote(voter, kind).model_copy(update={"stage": stage})


def try_to(kind: Any, who: PersonRecord | None, *votes: Vote, rule: AskedBy = TWO_STAGES, **more: Any) -> Any:
    event = held(owner_team="ops", owner_oncall="carol", principal_chain=more.pop("chain", ()))
    name = who.name if who is not None else "nobody"
    assurance = more.pop("assurance", "strong")
    return admit(kind, who, name, assurance, event, rule, votes, more.pop("escalated", ()))


OWNER_DONE = cast("olga", "owner")


@pytest.mark.parametrize(
    ("kind", "who", "votes", "stage"),
    [
        ("approve", person("olga", "ops"), (), "owner"),
        ("approve", person("sam", "security"), (OWNER_DONE,), "security"),
        ("approve", person("zoe"), (OWNER_DONE,), "security"),
        ("reject", person("sam", "security"), (), "security"),
        ("reject", person("olga", "ops", "security"), (), "owner"),
        ("reject", person("pete", "ops"), (OWNER_DONE,), "owner"),
    ],
)
def test_who_may_vote_and_in_which_stage_it_counts(kind: Any, who: Any, votes: Any, stage: str) -> None:
    assert try_to(kind, who, *votes).stage == stage


@pytest.mark.parametrize(
    ("kind", "who", "votes", "more", "why"),
    [
        ("approve", None, (), {}, "no approver"),
        ("approve", person("olga", "ops", roles=("reader",)), (), {}, "no approver"),
        ("approve", person("olga", "ops", status="removed"), (), {}, "no approver"),
        ("approve", person("sam", "security"), (), {}, "once that is open"),
        ("approve", person("pete", "ops"), (OWNER_DONE,), {}, "once that is open"),
        ("approve", person("eve", "sales"), (), {}, "none of those asked"),
        ("reject", person("eve", "sales"), (), {}, "none of those asked"),
        ("approve", person("carol"), (), {}, "on call for agent"),
        ("reject", person("carol", "ops"), (), {}, "on call for agent"),
        ("approve", person("olga", "ops"), (), {"chain": ("person:olga",)}, "on behalf of olga"),
        ("approve", person("sam", "security"), (OWNER_DONE,), {"assurance": "basic"}, "one-time code"),
    ],
)
def test_who_may_not_and_why(kind: Any, who: Any, votes: Any, more: Any, why: str) -> None:
    with pytest.raises(CountersignError, match=why):
        try_to(kind, who, *votes, **more)


def test_a_rejection_needs_no_stronger_assurance() -> None:
    assert try_to("reject", person("sam", "security"), OWNER_DONE, assurance="basic").stage == "security"


def test_who_was_escalated_to_votes_in_the_stage_that_is_open() -> None:
    eve = person("eve", "sales")
    assert try_to("approve", eve, escalated=("group:sales",)).stage == "owner"
    assert try_to("approve", eve, OWNER_DONE, escalated=("group:sales",)).stage == "security"


def test_their_own_only_where_the_rule_says_so_and_it_is_said() -> None:
    own = TWO_STAGES.model_copy(update={"allow_own": True})
    assert try_to("approve", person("carol"), rule=own).own == "carol is on call for agent worker-1"
    assert try_to("approve", person("olga", "ops"), rule=own).own is None


def test_stages_follow_one_another_and_people_count_once() -> None:
    sam, zoe = cast("sam", "security"), cast("zoe", "security")
    assert outcome_of(TWO_STAGES, (OWNER_DONE,)) is None
    assert outcome_of(TWO_STAGES, (OWNER_DONE, sam, sam)) is None
    assert outcome_of(TWO_STAGES, (sam, zoe)) is None
    assert outcome_of(TWO_STAGES, (OWNER_DONE, sam, zoe)) == "approved"
    assert stages_done(TWO_STAGES, (), (OWNER_DONE,)) == ("owner",)
    assert stages_done(TWO_STAGES, (OWNER_DONE,), (OWNER_DONE, sam)) == ()


def test_as_many_rejections_as_the_rule_says_reject() -> None:
    two = TWO_STAGES.model_copy(update={"deny_threshold": 2})
    no = cast("a", "owner", "reject")
    assert outcome_of(TWO_STAGES, (no,)) == "rejected" and outcome_of(two, (no,)) is None
    assert outcome_of(two, (no, cast("b", "security", "reject"))) == "rejected"


def test_a_vote_counts_no_more_once_its_voter_is_not_asked() -> None:
    event, sam = held(), cast("sam", "security")
    assert still_counts(sam, person("sam", "security"), TWO_STAGES, event, ()) is None
    assert still_counts(sam, person("sam"), TWO_STAGES, event, ("person:sam",)) is None
    for who, why in ((None, "no approver"), (person("sam", roles=("reader",)), "no approver"), (person("sam"), "asks")):
        assert why in str(still_counts(sam, who, TWO_STAGES, event, ()))


@pytest.mark.parametrize("voter", ["carol", "Carol", "ann", "worker-1", "root", "bob"])
def test_whose_own_it_is_is_found_alike_by_name_and_by_list(voter: str) -> None:
    event = held(owner_oncall="carol", principal_chain=("person:ann", "system:root"))
    listed = voter.casefold() in own_names(event.action, event.owner_oncall)
    assert listed is (tie(voter, event.action, event.owner_oncall) is not None)
