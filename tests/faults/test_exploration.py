"""The promises under faults, on a real system; and that the validators would see each breach."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from countersign_contracts.event import CORE_SERVICES
from countersign_faults.declarations import STANDING_USES
from countersign_faults.exploration import explore, suffer_all
from countersign_faults.faults import FAILPOINTS, die
from countersign_faults.history import Call, History, Recorded
from countersign_faults.session import Outcome
from countersign_faults.traffic import Pace
from countersign_faults.validators import VALIDATORS, judge

ROOT = Path(__file__).parents[2]
SEED = 7
SECONDS = 8.0
#: Where traffic must only come by: what is between two deaths is mostly waited for.
CALM = Pace(pause_s=0.2)

#: Half a minute on a machine of its own; services start and recover slowly beside others.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A short exploration; `make faults` is the long one."""
    folder = tmp_path_factory.mktemp("explored")
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # agents lose their connections: that is the point
    print(f"seed {SEED}; the same again, for longer: make faults SECONDS={SECONDS:.0f} SEED={SEED}")
    return asyncio.run(explore(folder / "system", seed=SEED, seconds=SECONDS, say=print, enough=_everything_happened))


def test_the_promises_hold_under_faults_chosen_by_chance(explored: Outcome) -> None:
    assert explored.findings == []
    assert len(explored.recoveries) >= 2


def test_the_promises_hold_wherever_a_service_dies(tmp_path: Path) -> None:
    logging.getLogger("nats").setLevel(logging.CRITICAL)
    deaths = [die(point) for point in in_turn(FAILPOINTS)]
    outcome = asyncio.run(suffer_all(tmp_path / "system", deaths, seed=SEED, seconds=0, say=print, pace=CALM))
    assert outcome.findings == []
    assert outcome.not_reached == []


def in_turn(points: Iterable[str]) -> list[str]:
    """Those of one service far apart: what dies again and again is started ever more slowly."""
    nth: Counter[str] = Counter()

    def rank(point: str) -> int:
        nth[service := point.split(".")[0]] += 1
        return nth[service]

    return sorted(points, key=rank)


def test_every_failpoint_of_the_services_that_always_run_is_among_those_that_services_die_at() -> None:
    sources = [
        path.read_text(encoding="utf-8")
        for service in CORE_SERVICES
        for path in ROOT.glob(f"services/{service}/src/**/*.py")
    ]
    named = {name for source in sources for name in re.findall(r'failpoints\.hit\(\s*"([^"]+)"', source)}
    assert named == set(FAILPOINTS)


Breach = Callable[[History], History]


def _without_an_end(history: History) -> History:
    ended = next(entry for entry in history.entries if entry.name == "actions.executed")
    return dataclasses.replace(history, entries=[entry for entry in history.entries if entry is not ended])


def _with_two_ends(history: History) -> History:
    ended = next(entry for entry in history.entries if entry.name == "actions.executed")
    return dataclasses.replace(history, entries=[*history.entries, ended])


def _forgotten(history: History) -> History:
    lost = history.accepted[0].request_id
    return dataclasses.replace(history, states={id: state for id, state in history.states.items() if id != lost})


def _still_open(history: History) -> History:
    return dataclasses.replace(history, states=history.states | {history.accepted[0].request_id: "granted"})


def _told_otherwise(history: History) -> History:
    succeeded = next(id for id, state in history.states.items() if state == "succeeded")
    return dataclasses.replace(history, told=[*history.told, (succeeded, "failed")])


def _call(history: History) -> Call:
    return next(call for call in history.calls if call.path.startswith("/pay/") and call.applied)


def _called_twice(history: History) -> History:
    return dataclasses.replace(history, calls=[*history.calls, _call(history)])


def _called_without_a_grant(history: History) -> History:
    return dataclasses.replace(history, calls=[*history.calls, dataclasses.replace(_call(history), key="unknown")])


def _called_with_other_arguments(history: History) -> History:
    other = dataclasses.replace(_call(history), path="/pay/999999")
    return dataclasses.replace(history, calls=[*history.calls, other])


def _called_after_the_warrant(history: History) -> History:
    late = dataclasses.replace(_call(history), at=_call(history).at + 86_400)
    return dataclasses.replace(history, calls=[*history.calls, late])


def _called_before_the_record(history: History) -> History:
    early = dataclasses.replace(_call(history), at=_call(history).at - 60)
    return dataclasses.replace(history, calls=[early])


def _never_called(history: History) -> History:
    gone = _call(history)
    return dataclasses.replace(history, calls=[call for call in history.calls if call.key != gone.key])


def _denied_and_called(history: History) -> History:
    return dataclasses.replace(history, states=history.states | {str(_call(history).key): "denied"})


def _granted_afterwards(history: History) -> History:
    grant = next(entry for entry in history.entries if entry.name == "actions.granted")
    late = dataclasses.replace(grant, seq=10**9)
    return dataclasses.replace(history, entries=[late if entry is grant else entry for entry in history.entries])


def _dead_letter(history: History) -> History:
    letter = dataclasses.replace(history.entries[0], stream="DEADLETTER")
    return dataclasses.replace(history, entries=[*history.entries, letter])


def _wrongly_refused(history: History) -> History:
    return dataclasses.replace(history, refused={"unauthenticated": "the credential is not known, or was revoked"})


def _pause_undone(history: History) -> History:
    return dataclasses.replace(history, status="revoked")


def _limit_exceeded(history: History) -> History:
    granted = {entry.subject for entry in history.entries if entry.name == "actions.granted"}
    chosen = [each for each in history.accepted if each.request_id in granted][:4]
    assert len(chosen) == 4
    of_one_session = [dataclasses.replace(each, tool="limited", session="s") for each in chosen]
    return dataclasses.replace(history, accepted=[*history.accepted, *of_one_session])


def _with_body(history: History, entry: Recorded, **changes: Any) -> History:
    changed = dataclasses.replace(entry, body=entry.body | changes)
    return dataclasses.replace(history, entries=[changed if each is entry else each for each in history.entries])


def _approved_by_fewer(history: History) -> History:
    pair = next(
        e.subject for e in history.entries if e.name == "actions.granted" and e.body["action"]["tool"] == "pair"
    )
    resolved = next(e for e in history.entries if e.name == "approvals.resolved" and e.subject == pair)
    return _with_body(history, resolved, votes=[resolved.body["votes"][0]] * 2)


def _approved_for_something_else(history: History) -> History:
    granted = {e.subject for e in history.entries if e.name == "actions.granted"}
    resolved = next(e for e in history.entries if e.name == "approvals.resolved" and e.subject in granted)
    votes = [vote | {"digest": "sha256:" + "0" * 64} for vote in resolved.body["votes"]]
    return _with_body(history, resolved, votes=votes)


def _changed(history: History) -> Recorded:
    return next(e for e in history.entries if e.name == "actions.denied" and "amendment" in e.body)


def _taking_its_place(history: History) -> Recorded:
    new = _changed(history).body["amendment"]["request_id"]
    return next(e for e in history.entries if e.name == "actions.requested" and e.subject == new)


def _never_replaced(history: History) -> History:
    new = _taking_its_place(history).subject
    return dataclasses.replace(history, states={id: state for id, state in history.states.items() if id != new})


def _replaced_twice(history: History) -> History:
    twin = dataclasses.replace(_taking_its_place(history), subject="twin")
    return dataclasses.replace(history, entries=[*history.entries, twin])


def _replaced_by_something_else(history: History) -> History:
    entry = _taking_its_place(history)
    return _with_body(history, entry, action=entry.body["action"] | {"args": {"n": 10**9}})


def _replaced_though_not_changed(history: History) -> History:
    entry = next(e for e in history.entries if e.name == "actions.requested" and "amends" not in e.body["action"])
    return _with_body(history, entry, action=entry.body["action"] | {"amends": "another"})


def _standing_used_too_often(history: History) -> History:
    used = next(
        e
        for e in history.entries
        if e.name == "approvals.resolved" and any("standing_id" in vote for vote in e.body["votes"])
    )
    more = [dataclasses.replace(used, subject=f"more-{n}") for n in range(STANDING_USES)]
    return dataclasses.replace(history, entries=[*history.entries, *more])


def _standing_never_granted(history: History) -> History:
    entries = [entry for entry in history.entries if entry.name != "approvals.standing_granted"]
    return dataclasses.replace(history, entries=entries)


def _altered_export(history: History) -> History:
    export = list(history.export)
    entries = [at for at, line in enumerate(export) if b'"subject":"' in line]  # there are checkpoints among them
    export[entries[5]] = export[entries[5]].replace(b'"subject":"', b'"subject":"x', 1)
    return dataclasses.replace(history, export=export)


def _shortened_checkpoints(history: History) -> History:
    whole = history.checkpoints[-1]
    return dataclasses.replace(history, checkpoints=[whole, whole[: whole.rfind(b"\n", 0, -1) + 1]])


def _rewritten_checkpoints(history: History) -> History:
    whole = history.checkpoints[-1]
    lines = whole.splitlines(keepends=True)
    return dataclasses.replace(history, checkpoints=[b"".join(reversed(lines))])


BREACHES: dict[str, list[Breach]] = {
    "every_accepted_action_ends_once": [_without_an_end, _with_two_ends, _forgotten, _still_open],
    "what_an_agent_was_told_stays": [_told_otherwise],
    "no_effect_without_a_warrant": [
        _called_without_a_grant,
        _called_with_other_arguments,
        _called_after_the_warrant,
    ],
    "at_most_one_effect": [_called_twice],
    "succeeded_means_an_effect": [_never_called],
    "on_the_record_before_the_effect": [_called_before_the_record],
    "what_was_not_executed_had_no_effect": [_denied_and_called],
    "the_grant_is_recorded_before_the_outcome": [_granted_afterwards],
    "nothing_is_taken_for_forged_or_poison": [_dead_letter],
    "callers_are_told_to_come_back": [_wrongly_refused],
    "what_was_confirmed_to_an_operator_stays": [_pause_undone],
    "usage_equals_what_happened": [_limit_exceeded],
    "granted_means_approved": [_approved_by_fewer, _approved_for_something_else],
    "what_was_changed_is_replaced_once": [
        _never_replaced,
        _replaced_twice,
        _replaced_by_something_else,
        _replaced_though_not_changed,
    ],
    "standing_approvals_keep_their_bounds": [_standing_used_too_often, _standing_never_granted],
    "the_ledger_verifies": [_altered_export],
    "checkpoints_only_extend": [_shortened_checkpoints, _rewritten_checkpoints],
}


def _everything_happened(history: History) -> bool:
    """Whether there is something of everything that a breach changes."""
    for _, breach in _breaches():
        try:
            if breach(history) == history:
                return False
        except (StopIteration, AssertionError, IndexError):
            return False
    return True


def _breaches() -> Iterator[tuple[str, Breach]]:
    for rule, breaches in BREACHES.items():
        for breach in breaches:
            yield rule, breach


def test_of_a_run_in_which_nothing_happened_it_is_not_said_that_everything_did() -> None:
    assert not _everything_happened(History({}))


def test_every_validator_has_a_breach_that_it_must_see() -> None:
    assert [rule.__name__ for rule in VALIDATORS] == list(BREACHES)


@pytest.mark.parametrize(("rule", "breach"), list(_breaches()), ids=lambda given: getattr(given, "__name__", given))
def test_a_validator_sees_the_breach_that_is_planted_in_what_happened(
    explored: Outcome, rule: str, breach: Breach
) -> None:
    history = dataclasses.replace(explored.history, wipes=0)
    assert [found for found in judge(breach(history)) if found.startswith(f"{rule}: ")]
