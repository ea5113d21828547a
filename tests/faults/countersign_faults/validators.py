"""Judges a history from the outside. Each validator returns its findings as sentences; none means that all is well.

They check their own assumptions first: a history without calls or entries proves nothing, and says so. An answer that
never came counts as possibly applied.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from countersign_contracts import warrant
from countersign_contracts.actions import FINAL_STATES, Action
from countersign_ledger import Checkpoint, verify_export

from .history import Call, History, Recorded

#: The ends of an action, as events, and the states that they lead to.
ENDS = {
    "actions.executed": {"succeeded", "failed", "unknown"},
    "actions.denied": {"denied", "expired"},
    "actions.refused": {"denied", "expired"},
    "actions.cancelled": {"cancelled"},
}

#: Between an executor's last look at the warrant and the call's arrival: it may be paused in between.
_CALL_LEEWAY = timedelta(seconds=15)


def every_accepted_action_ends_once(history: History) -> Iterator[str]:
    """Every accepted action is known, is final, and has exactly one end on record, of the kind of its state."""
    if not history.accepted:
        yield "nothing was accepted: the run proves nothing"
    for accepted in history.accepted:
        if accepted.request_id not in history.states:
            yield f"{accepted.request_id} ({accepted.tool}, {accepted.door}) was accepted and is not known any more"
    ends: dict[str, list[str]] = defaultdict(list)
    for entry in history.entries:
        if entry.name in ENDS:
            ends[entry.subject].append(entry.name)
    for request_id, state in history.states.items():
        if state not in FINAL_STATES:
            yield f"{request_id} has not ended: it is {state}"
            continue
        found = ends[request_id]
        if len(found) > 1:
            yield f"{request_id} has {len(found)} ends on record: {', '.join(found)}"
        elif not found and not history.wipes:
            yield f"{request_id} is {state}, and its end is not on record"
        elif found and state not in ENDS[found[0]]:
            yield f"{request_id} is {state}, but what is on record is {found[0]}"


def what_an_agent_was_told_stays(history: History) -> Iterator[str]:
    """A final state that an agent heard is the state for ever."""
    for request_id, told in history.told:
        if (state := history.states.get(request_id)) != told:
            yield f"an agent was told that {request_id} is {told}, and it is {state}"


def no_effect_without_a_warrant(history: History) -> Iterator[str]:
    """Every call carries out an action on record, whose warrant was valid for exactly it at that time."""
    if not history.calls:
        yield "the business system was never called: the run proves nothing"
    granted = _first(history, "actions.granted")
    for call in history.calls:
        grant = granted.get(call.key or "")
        if grant is None:
            yield f"{_shown(call)} has no grant on record"
            continue
        action = Action.model_validate(grant.body["action"])
        tool = history.tools.get(action.tool)
        if tool is None or (call.method, call.path) != (tool.method, f"{tool.path}{action.args['n']}"):
            yield f"{_shown(call)} is not what {action.tool}({action.args}) was granted for"
        if history.trust is None:
            yield "there is no trust bundle: no warrant could be checked"
            return
        try:
            at = datetime.fromtimestamp(call.at, UTC) - _CALL_LEEWAY
            warrant.verify(grant.body["warrant"], action, at=at, trust=history.trust)
        except warrant.InvalidWarrant as error:
            yield f"{_shown(call)} had no valid warrant: {error.detail}"


def at_most_one_effect(history: History) -> Iterator[str]:
    """What may not be repeated was called once at most, whatever came of it."""
    counts = Counter((call.key, call.path) for call in history.calls)
    for (key, path), count in counts.items():
        if count > 1 and not _repeatable(history, path):
            yield f"{key} was carried out {count} times at {path}"


def succeeded_means_an_effect(history: History) -> Iterator[str]:
    """What is said to have succeeded reached the business system, and had its effect."""
    applied = {call.key for call in history.calls if call.applied}
    for request_id, state in history.states.items():
        if state == "succeeded" and request_id not in applied:
            yield f"{request_id} is said to have succeeded, and never had its effect"


def on_the_record_before_the_effect(history: History) -> Iterator[str]:
    """The grant was recorded before the call arrived."""
    granted = _first(history, "actions.granted")
    for call in history.calls:
        grant = granted.get(call.key or "")
        if grant is not None and grant.at > call.at:
            yield f"{_shown(call)} came {grant.at - call.at:.3f} s before its grant was recorded (entry {grant.seq})"


def what_was_not_executed_had_no_effect(history: History) -> Iterator[str]:
    """Denied, expired and cancelled actions never reached the business system."""
    called = {call.key for call in history.calls}
    for request_id, state in history.states.items():
        if state in ("denied", "expired", "cancelled") and request_id in called:
            yield f"{request_id} is {state}, and was carried out"


def the_grant_is_recorded_before_the_outcome(history: History) -> Iterator[str]:
    """In the ledger's own order."""
    granted = _first(history, "actions.granted")
    for subject, executed in _first(history, "actions.executed").items():
        grant = granted.get(subject)
        if grant is None or grant.seq > executed.seq:
            yield f"{subject} was executed (entry {executed.seq}) without a grant before it"


def nothing_is_taken_for_forged_or_poison(history: History) -> Iterator[str]:
    """Nobody sends either here: whatever is entered as such was made of our own events."""
    for entry in history.entries:
        if entry.name == "audit.unverified" or entry.stream == "DEADLETTER":
            yield f"entry {entry.seq}, about {entry.subject}, is {entry.name} on {entry.stream}"


def callers_are_told_to_come_back(history: History) -> Iterator[str]:
    """Who is right is not told otherwise because something is away: an agent may give up for good then."""
    for code, detail in history.refused.items():
        if code not in ("unavailable", "already_final"):
            yield f"a caller was answered {code}: {detail}"


def what_was_confirmed_to_an_operator_stays(history: History) -> Iterator[str]:
    """An agent's status is the one confirmed last, or one that was asked for since and never answered."""
    if history.status not in history.status_wanted:
        yield f"the idle agent is {history.status}; confirmed was {' or '.join(sorted(history.status_wanted))}"


def usage_equals_what_happened(history: History) -> Iterator[str]:
    """A session got its limit of grants, no more; and nothing was denied by a guardrail that was not used up."""
    sessions = {a.request_id: (a.session, a.tool) for a in history.accepted if a.session}
    grants: Counter[tuple[str | None, str]] = Counter()
    denials: Counter[tuple[str | None, str]] = Counter()
    for subject in _first(history, "actions.granted"):
        if subject in sessions:
            grants[sessions[subject]] += 1
    for subject, denied in _first(history, "actions.denied").items():
        codes = {reason["code"] for reason in denied.body["decision"]["reasons"]}
        if subject in sessions and "guardrail" in codes:
            denials[sessions[subject]] += 1
    for (session, name), count in (grants + denials).items():
        tool = history.tools[name]
        if tool.limit is None:
            continue
        given = grants[session, name]
        if given > tool.limit:
            yield f"session {session} got {given} grants of {name}; {tool.limit} are allowed"
        elif denials[session, name] and given < tool.limit and not history.wipes:
            yield f"session {session} was denied {name} after {given} grants ({count} asked); {tool.limit} are allowed"


def granted_means_approved(history: History) -> Iterator[str]:
    """What waited for people was granted by so many different ones as were asked for, for exactly its arguments."""
    asked, resolved = _first(history, "approvals.requested"), _first(history, "approvals.resolved")
    for subject, grant in _first(history, "actions.granted").items():
        if grant.body["decision"].get("approval_id") is None:
            continue
        if subject not in resolved or subject not in asked:
            if not history.wipes:
                yield f"{subject} was granted by an approval that is not on record"
            continue
        votes = [vote for vote in resolved[subject].body["votes"] if vote["vote"] == "approve"]
        wanted = sum(stage["quorum"] for stage in asked[subject].body["asked_by"]["stages"])
        if len({vote["voter"] for vote in votes}) < wanted:
            yield f"{subject} was granted by {len(votes)} votes of {wanted} different people that it needed"
        if {vote["digest"] for vote in votes} != {grant.body["action"]["digest"]}:
            yield f"{subject} was granted by votes on other arguments"


def what_was_changed_is_replaced_once(history: History) -> Iterator[str]:
    """Of an action that an approver changed exactly one other was made, with the arguments that were agreed to."""
    changed = {
        subject: entry.body["amendment"]
        for subject, entry in _first(history, "actions.denied").items()
        if "amendment" in entry.body
    }
    made: dict[str, set[str]] = defaultdict(set)
    for subject, entry in _first(history, "actions.requested").items():
        if (first := entry.body["action"].get("amends")) is not None:
            made[first].add(subject)
            wanted = changed.get(first, {"request_id": subject, "args": entry.body["action"]["args"]})
            if subject == wanted["request_id"] and entry.body["action"]["args"] != wanted["args"]:
                yield f"{subject} has other arguments than were agreed to when {first} was changed"
            if first not in changed and not history.wipes:
                yield f"{subject} says that it takes the place of {first}, which was not changed"
    for first, amendment in changed.items():
        if amendment["request_id"] not in history.states:
            yield f"{first} was changed into {amendment['request_id']}, which nobody knows"
        if others := made[first] - {amendment["request_id"]}:
            yield f"of {first}, which was changed once, {', '.join(sorted(others))} was made too"


def standing_approvals_keep_their_bounds(history: History) -> Iterator[str]:
    """What was allowed ahead is used as often as was said, and not after its time."""
    granted = {
        entry.body["standing"]["standing_id"]: entry.body["standing"]
        for entry in history.entries
        if entry.name == "approvals.standing_granted"
    }
    uses: dict[str, set[str]] = defaultdict(set)
    for subject, entry in _first(history, "approvals.resolved").items():
        for vote in entry.body["votes"]:
            if (standing_id := vote.get("standing_id")) is not None:
                uses[standing_id].add(subject)
                standing = granted.get(standing_id)
                if standing is not None and vote["voted_at"] > standing["until"]:
                    yield f"{standing_id} approved {subject} after its time"
    for standing_id, used in uses.items():
        if standing_id in granted and len(used) > granted[standing_id]["max_uses"]:
            yield f"{standing_id} approved {len(used)} actions, and may {granted[standing_id]['max_uses']}"
        if standing_id not in granted and not history.wipes:
            yield f"{standing_id} approved {len(used)} actions, and was not granted"


def the_ledger_verifies(history: History) -> Iterator[str]:
    """The export is sound, and agrees with every checkpoint kept outside the database."""
    if history.trust is None or not history.export:
        yield "there is no export, or no trust bundle: the ledger could not be verified"
        return
    outside = [Checkpoint.from_dict(json.loads(line)) for line in _lines(history.checkpoints[-1:])]
    report = verify_export(history.export, history.trust, outside)
    for finding in report.findings:
        yield f"ledger, entry {finding.seq}: {finding.message}"


def checkpoints_only_extend(history: History) -> Iterator[str]:
    """The checkpoint file only grew, and each checkpoint covers more than the one before."""
    if not history.checkpoints or not history.checkpoints[-1]:
        yield "there are no checkpoints outside the database"
        return
    for earlier, later in pairwise(history.checkpoints):
        complete = earlier[: earlier.rfind(b"\n") + 1]
        if not later.startswith(complete):
            yield "a checkpoint that was written was changed or taken away"
    covered = [json.loads(line)["seq"] for line in _lines(history.checkpoints[-1:])]
    for before, after in pairwise(covered):
        if after < before:
            yield f"a checkpoint for entry {after} follows one for entry {before}"


VALIDATORS: tuple[Callable[[History], Iterator[str]], ...] = (
    every_accepted_action_ends_once,
    what_an_agent_was_told_stays,
    no_effect_without_a_warrant,
    at_most_one_effect,
    succeeded_means_an_effect,
    on_the_record_before_the_effect,
    what_was_not_executed_had_no_effect,
    the_grant_is_recorded_before_the_outcome,
    nothing_is_taken_for_forged_or_poison,
    callers_are_told_to_come_back,
    what_was_confirmed_to_an_operator_stays,
    usage_equals_what_happened,
    granted_means_approved,
    what_was_changed_is_replaced_once,
    standing_approvals_keep_their_bounds,
    the_ledger_verifies,
    checkpoints_only_extend,
)


def judge(history: History) -> list[str]:
    """Every finding of every validator, under the rule that it breaks."""
    return [f"{rule.__name__}: {finding}" for rule in VALIDATORS for finding in rule(history)]


def unrecorded_ends(history: History) -> int:
    """How many ended actions have no end on record: what a wiped store took along before audit had it."""
    recorded = {entry.subject for entry in history.entries if entry.name in ENDS}
    ended = [request_id for request_id, state in history.states.items() if state in FINAL_STATES]
    return sum(request_id not in recorded for request_id in ended)


def _first(history: History, name: str) -> dict[str, Recorded]:
    found: dict[str, Recorded] = {}
    for entry in history.entries:
        if entry.name == name:
            found.setdefault(entry.subject, entry)
    return found


def _repeatable(history: History, path: str) -> bool:
    return any(tool.repeatable and path.startswith(tool.path) for tool in history.tools.values())


def _shown(call: Call) -> str:
    return f"{call.method} {call.path} with key {call.key}"


def _lines(files: list[bytes]) -> list[bytes]:
    # the last line may be half-written by a killed process; audit mends it at its next start
    return [line for file in files for line in file[: file.rfind(b"\n") + 1].splitlines() if line.strip()]
