"""What must hold before a granted action is claimed (promise 4: nothing executes without a warrant for exactly it)."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest

from countersign_contracts import warrant
from countersign_contracts.actions import Action, ActionGranted
from countersign_contracts.catalogue import ToolRecord
from countersign_contracts.control import Stop
from countersign_contracts.fleet import AgentRecord
from countersign_contracts.ids import new_id
from countersign_contracts.model import now
from countersign_contracts.topology import emits
from countersign_executor.admission import Admitted, RefusedAction, admit, require_unexpired
from countersign_executor.stops import Stops
from countersign_ledger import SigningKey, TrustBundle

NOW = now()
UNSET: Any = object()


@pytest.fixture
def check(record: ToolRecord, trust: TrustBundle, make_agent: Callable[..., AgentRecord]) -> Callable[..., Admitted]:
    def run(grant: ActionGranted, *, tool: Any = UNSET, agent: Any = UNSET, late_s: float = 0) -> Admitted:
        return admit(
            grant,
            tool=record if tool is UNSET else tool,
            agent=make_agent() if agent is UNSET else agent,
            trust=trust,
            at=now() + timedelta(seconds=late_s),
        )

    return run


def code(refused: pytest.ExceptionInfo[RefusedAction]) -> str:
    return refused.value.reasons[0].code


def test_a_granted_action_is_admitted_with_every_scope_it_falls_under(
    check: Callable[..., Admitted], make_action: Callable[..., Action], make_grant: Any, policy_key: SigningKey
) -> None:
    admitted = check(make_grant(policy_key, make_action()))
    assert set(admitted.scopes) == {
        "all",
        "env:prod",
        "tool:change_item",
        "agent:bot",
        "profile:writer",
        "session:run-1",
    }


@pytest.mark.parametrize(
    "altered",
    [
        {"args": {"item": "8", "note": "hello"}},
        {"env": "staging"},
        {"agent_id": "other"},
        {"session_id": "run-2"},
        {"session_id": None},
        {"principal_chain": ("person:eve",)},
        {"principal_chain": ()},
        {"tool": "delete_item"},
        {"tool_version": 2},
        {"request_id": new_id()},
        {"digest": "sha256:" + "0" * 64},
    ],
)
def test_an_altered_action_is_not_the_one_that_was_warranted(
    check: Callable[..., Admitted],
    make_action: Callable[..., Action],
    make_grant: Any,
    policy_key: SigningKey,
    altered: dict[str, Any],
) -> None:
    grant: ActionGranted = make_grant(policy_key, make_action())
    forged = grant.model_copy(update={"action": grant.action.model_copy(update=altered)})
    with pytest.raises(RefusedAction) as refused:
        check(forged)
    assert code(refused) == "warrant"


def test_a_recomputed_digest_does_not_help_the_forger(
    check: Callable[..., Admitted], make_action: Callable[..., Action], make_grant: Any, policy_key: SigningKey
) -> None:
    mine = make_action()
    theirs = make_action(request_id=mine.request_id, args={"item": "8"})
    forged = make_grant(policy_key, mine).model_copy(update={"action": theirs})
    with pytest.raises(RefusedAction, match="digest"):
        check(forged)


@pytest.mark.parametrize("signer", ["gateway", "executor", "policy"])
def test_only_policys_own_key_can_warrant(
    record: ToolRecord,
    policy_key: SigningKey,
    make_action: Callable[..., Action],
    make_agent: Callable[..., AgentRecord],
    make_grant: Any,
    signer: str,
) -> None:
    other = SigningKey.generate(signer)
    trusted = [policy_key.trusted(emits("policy"))]
    if signer != "policy":
        trusted.append(other.trusted(emits(signer)))
    with pytest.raises(RefusedAction) as refused:
        admit(
            make_grant(other, make_action()),
            tool=record,
            agent=make_agent(),
            trust=TrustBundle.of("test", trusted),
            at=now(),
        )
    assert code(refused) == "warrant"


def test_an_unsigned_token_or_a_symmetric_signature_is_no_warrant(
    check: Callable[..., Admitted], make_action: Callable[..., Action], make_grant: Any, policy_key: SigningKey
) -> None:
    action = make_action()
    grant: ActionGranted = make_grant(policy_key, action)
    claims = jwt.decode(grant.warrant, options={"verify_signature": False})
    headers = {"kid": policy_key.kid, "typ": warrant.TYPE}
    for forged in (
        jwt.encode(claims, "", algorithm="none", headers=headers),
        jwt.encode(claims, policy_key.public_bytes * 2, algorithm="HS256", headers=headers),
        grant.warrant[:-4] + "AAAA",
        "",
        "a.b.c",
    ):
        with pytest.raises(RefusedAction) as refused:
            check(grant.model_copy(update={"warrant": forged}))
        assert code(refused) == "warrant"


def test_an_expired_warrant_permits_nothing(
    check: Callable[..., Admitted], make_action: Callable[..., Action], make_grant: Any, policy_key: SigningKey
) -> None:
    grant = make_grant(policy_key, make_action(), lifetime_s=10)
    check(grant, late_s=8)
    with pytest.raises(RefusedAction, match="expired"):
        check(grant, late_s=11)
    admitted = check(grant)
    require_unexpired(admitted.warrant, now())
    with pytest.raises(RefusedAction, match="expired"):
        require_unexpired(admitted.warrant, now() + timedelta(seconds=11))


@pytest.mark.parametrize(("outcome",), [("hold",), ("deny",)])
def test_a_decision_that_does_not_allow_permits_nothing(
    check: Callable[..., Admitted],
    make_action: Callable[..., Action],
    make_grant: Any,
    policy_key: SigningKey,
    outcome: str,
) -> None:
    grant: ActionGranted = make_grant(policy_key, make_action())
    decision = grant.decision.model_copy(update={"outcome": outcome})
    with pytest.raises(RefusedAction) as refused:
        check(grant.model_copy(update={"decision": decision}))
    assert code(refused) == "warrant"


def test_the_tool_must_be_the_version_that_was_decided_on(
    check: Callable[..., Admitted],
    record: ToolRecord,
    make_action: Callable[..., Action],
    make_grant: Any,
    policy_key: SigningKey,
) -> None:
    grant = make_grant(policy_key, make_action())
    for tool in (None, record.model_copy(update={"version": 2}), record.model_copy(update={"version": 0})):
        with pytest.raises(RefusedAction) as refused:
            check(grant, tool=tool)
        assert code(refused) == "tool_changed"


@pytest.mark.parametrize(
    ("status", "wanted"), [("paused", "agent_paused"), ("revoked", "agent_revoked"), (None, "unknown_agent")]
)
def test_the_agent_must_be_active(
    check: Callable[..., Admitted],
    make_action: Callable[..., Action],
    make_agent: Callable[..., AgentRecord],
    make_grant: Any,
    policy_key: SigningKey,
    status: str | None,
    wanted: str,
) -> None:
    agent = None if status is None else make_agent(status=status)
    with pytest.raises(RefusedAction) as refused:
        check(make_grant(policy_key, make_action()), agent=agent)
    assert code(refused) == wanted


def stop(stop_id: str, scope: str) -> Stop:
    return Stop(stop_id=stop_id, scope=scope, reason="fire", set_by="ada", set_at=NOW)


def test_stops_cover_their_scopes_until_they_are_lifted() -> None:
    stops = Stops()
    stops.add(stop("1", "env:prod"))
    assert stops.covering(("all", "env:prod")) is not None
    assert stops.covering(("all", "env:production")) is None
    stops.add(stop("2", "env:prod"))
    stops.remove("1")
    assert stops.covering(("env:prod",)) is not None
    stops.remove("2")
    assert stops.covering(("env:prod",)) is None


def test_a_slow_reading_of_the_rows_cannot_undo_a_stop_that_was_set_meanwhile() -> None:
    stops = Stops()
    began = stops.generation
    stops.add(stop("1", "all"))
    stops.replace([], began)
    assert stops.covering(("all",)) is not None
    stops.replace([], stops.generation)
    assert stops.covering(("all",)) is None
