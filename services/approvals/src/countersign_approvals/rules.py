"""Who may vote, and what a vote does: pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from countersign_contracts.actions import Action, ActionHeld
from countersign_contracts.approval_rules import Approver, Assurance, Stage
from countersign_contracts.approvals import ApprovalState, AskedBy, Vote, open_stage
from countersign_contracts.errors import CountersignError, Refused
from countersign_contracts.fleet import PersonRecord


class VoteRefused(Refused):
    """Whoever votes is not entitled to decide on this, and why."""

    code = "not_entitled"


@dataclass(frozen=True, slots=True)
class Admitted:
    """A vote that counts: in which stage, and what ties the voter to the action where the rule allows that."""

    stage: str
    own: str | None


# --- who ------------------------------------------------------------------------------------------


def asked(approvers: Iterable[Approver], held: ActionHeld) -> frozenset[str]:
    """Whom approvers mean for this action: `anyone`, `person:…` and `group:…` alone."""
    found: set[str] = set()
    for approver in approvers:
        if approver == "owner:team":
            found.add(f"group:{held.owner_team}")
        elif approver != "owner:oncall":
            found.add(approver)
        elif held.owner_oncall is not None:
            found.add(f"person:{held.owner_oncall}")
    return frozenset(found)


def is_approver(person: PersonRecord | None) -> bool:
    """Whether this is somebody who may vote at all."""
    return person is not None and person.status == "active" and person.may("vote")


def known_as(person: PersonRecord) -> frozenset[str]:
    """By which words of a rule this person is meant."""
    return frozenset({"anyone", f"person:{person.name}", *(f"group:{group}" for group in person.groups)})


def entitled(person: PersonRecord | None, wanted: frozenset[str]) -> bool:
    """Whether the person is an approver, and one of those asked."""
    return person is not None and is_approver(person) and bool(known_as(person) & wanted)


def tie(voter: str, action: Action, owner_oncall: str | None) -> str | None:
    """What makes the action the voter's own: it is made for them, or they answer for the agent."""
    principals = {principal.partition(":")[2].casefold() for principal in action.principal_chain}
    name = voter.casefold()
    if name in principals:
        return f"the action is made on behalf of {voter}"
    if owner_oncall is not None and name == owner_oncall.casefold():
        return f"{voter} is on call for agent {action.agent_id}"
    if name == action.agent_id.casefold():
        return f"{voter} is the agent's own name"
    return None


def own_names(action: Action, owner_oncall: str | None) -> frozenset[str]:
    """Everyone, in lower case, whose own the action is: as :func:`tie` finds it, for looking up many approvals."""
    names = {principal.partition(":")[2].casefold() for principal in action.principal_chain}
    return frozenset(names | {action.agent_id.casefold()} | ({owner_oncall.casefold()} if owner_oncall else set()))


def require_eligible(voter: str, action: Action, owner_oncall: str | None, *, allow_own: bool = False) -> str | None:
    """Nobody decides on their own request, unless the rule allows that; then what ties them to it is returned.

    Raises :class:`VoteRefused` saying what ties the voter to the action.
    """
    tied = tie(voter, action, owner_oncall)
    if tied is not None and not allow_own:
        raise VoteRefused(f"{tied}: somebody else must decide")
    return tied


# --- what a vote needs ----------------------------------------------------------------------------


def require_open(
    approval_id: str, state: ApprovalState, deadline: datetime, at: datetime, *, pauses: bool = False
) -> None:
    """Raises `conflict` if the approval has ended, or its deadline has passed and does not only pause."""
    if state != "pending":
        raise CountersignError(f"approval {approval_id} is {state} already; a vote changes nothing", code="conflict")
    if at >= deadline and not pauses:
        raise CountersignError(f"approval {approval_id} expired at {deadline:%H:%M:%S} UTC", code="conflict")


def require_digest(seen: str, wanted: str) -> None:
    """The vote is for exactly the arguments that were shown."""
    if seen != wanted:
        raise CountersignError(
            f"the vote is for {seen}, but the approval asks for {wanted}: look at it again and send its digest",
            code="digest_mismatch",
        )


def admit(
    vote: Literal["approve", "reject"],
    person: PersonRecord | None,
    voter: str,
    assurance: Assurance,
    held: ActionHeld,
    rule: AskedBy,
    votes: tuple[Vote, ...],
    escalated_to: tuple[Approver, ...],
) -> Admitted:
    """The stage that this vote counts in.

    Approved is in the open stage alone; rejected at any time by anyone whom any stage asks. Raises
    :class:`VoteRefused` saying why not, and `assurance` saying what to do.
    """
    if person is None or not is_approver(person):
        raise VoteRefused(f"{voter} is no approver: an administrator can add people with role approver")
    own = require_eligible(voter, held.action, held.owner_oncall, allow_own=rule.allow_own)
    place = open_stage(rule, votes)
    stage = rule.stages[-1 if place is None else place]
    now_asked = (*stage.approvers, *escalated_to)
    if not entitled(person, asked(now_asked, held)):
        elsewhere = [s for s in rule.stages if entitled(person, asked(s.approvers, held))]
        if not elsewhere:
            everyone = dict.fromkeys(a for s in rule.stages for a in (*s.approvers, *escalated_to))
            raise VoteRefused(f"{voter} is none of those asked: {', '.join(everyone)} (rule `{rule.rule}`)")
        if vote == "approve":
            raise VoteRefused(
                f"stage `{stage.name}` is open and asks {', '.join(now_asked)}; {voter} can approve in stage"
                f" `{elsewhere[0].name}` once that is open"
            )
        stage = elsewhere[0]
    if vote == "approve":
        require_assurance(assurance, stage)
    return Admitted(stage.name, own)


def require_assurance(given: Assurance, stage: Stage) -> None:
    """Raises `assurance` where the stage wants to be surer of who approves."""
    if stage.assurance == "strong" and given != "strong":
        raise CountersignError(
            f"stage `{stage.name}` takes approvals with a fresh one-time code alone: approve over HTTP or with"
            " `countersign approvals approve … --code`",
            code="assurance",
        )


# --- what votes do --------------------------------------------------------------------------------


def outcome_of(rule: AskedBy, votes: tuple[Vote, ...]) -> Literal["approved", "rejected"] | None:
    """Enough rejections reject; else it is approved once every stage has its quorum."""
    if sum(vote.vote == "reject" for vote in votes) >= rule.deny_threshold:
        return "rejected"
    return "approved" if open_stage(rule, votes) is None else None


def stages_done(rule: AskedBy, before: tuple[Vote, ...], after: tuple[Vote, ...]) -> tuple[str, ...]:
    """The stages that got their quorum by the last votes, where another one is open now."""
    here, there = open_stage(rule, before), open_stage(rule, after)
    if here is None or there is None:
        return ()
    return tuple(stage.name for stage in rule.stages[here:there])


def waits_on(rule: AskedBy, votes: tuple[Vote, ...], escalated_to: tuple[Approver, ...], held: ActionHeld) -> list[str]:
    """Whom the open stage asks now, as :func:`known_as` says it."""
    place = open_stage(rule, votes)
    words = asked((*rule.stages[place].approvers, *escalated_to), held) if place is not None else frozenset()
    return sorted(word for word in words if "\0" not in word)  # nobody is called so, and PostgreSQL holds no NUL


def still_counts(
    vote: Vote, person: PersonRecord | None, rule: AskedBy, held: ActionHeld, escalated_to: tuple[Approver, ...]
) -> str | None:
    """Why a vote counts no more, since who cast it changed; None if it does."""
    if not is_approver(person):
        return f"{vote.voter} is no approver any more"
    stage = next((s for s in rule.stages if s.name == vote.stage), rule.stages[0])
    if not entitled(person, asked((*stage.approvers, *escalated_to), held)):
        return f"{vote.voter} is none of those whom stage `{stage.name}` asks any more"
    return None
