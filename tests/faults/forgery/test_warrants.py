"""Nothing executes without policy's warrant for exactly it, though the grant around it be genuine in every other way.

The forger here signs the grant with policy's own key and sends it with policy's own credentials: of all that protects
an action, only the warrant is left.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from countersign_contracts import warrant
from countersign_contracts.actions import Action, ActionGranted
from countersign_contracts.envelope import seal_event
from countersign_contracts.ids import new_id
from countersign_contracts.model import now
from countersign_harness.forging import Forgery, Message, alterations, altered
from countersign_ledger import SigningKey

if TYPE_CHECKING:
    from .conftest import Scene


def part(value: Any) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    head, payload, signature = token.split(".")
    read = [json.loads(urlsafe_b64decode(p + "=" * (-len(p) % 4))) for p in (head, payload)]
    return read[0], read[1], signature


def signed(head: dict[str, Any], claims: dict[str, Any], key: SigningKey) -> str:
    message = f"{part(head)}.{part(claims)}"
    return f"{message}.{urlsafe_b64encode(key.sign(message.encode())).rstrip(b'=').decode()}"


def anew(grant: ActionGranted, **changes: Any) -> Action:
    """The granted action asked for once more, so that nothing is known of it yet."""
    action = grant.action.model_copy(update={"request_id": new_id(), **changes})
    return action.model_copy(update={"digest": action.computed_digest()})


def forged_warrants(action: Action, stolen: str, keys: dict[str, SigningKey]) -> Iterator[tuple[str, str]]:
    """Every wrong warrant for ``action``; ``stolen`` is a genuine one of another action."""

    def issued(key: SigningKey, lifetime: timedelta = timedelta(minutes=5)) -> str:
        return warrant.issue(action, policy_version="v", approval_id="apr_1", at=now(), lifetime=lifetime, key=key)

    good = issued(keys["policy"])
    head, claims, signature = parts(good)
    claims["act"] = claims.get("act") or []
    yield "stolen from another action", stolen
    yield "expired", issued(keys["policy"], timedelta(seconds=-1))
    yield "without a signature", good.rsplit(".", 1)[0] + "."
    yield "signature altered", good.rsplit(".", 1)[0] + "." + altered(signature[:-4]) + "AAAA"
    for where, variant in alterations(claims):
        yield f"claim {where}", f"{part(head)}.{part(variant)}.{signature}"
    for where, variant in alterations(head):
        yield f"header {where}", f"{part(variant)}.{part(claims)}.{signature}"
        yield f"header {where}, signed", signed(variant, claims, keys["policy"])
    for algorithm in ("none", "None", "HS256", "RS256", "Ed25519"):
        yield f"algorithm {algorithm}, unsigned", f"{part({**head, 'alg': algorithm})}.{part(claims)}."
    for claim in ("iss", "sub", "aud", "jti", "digest"):
        yield f"claim {claim} altered, signed", signed(head, {**claims, claim: altered(claims[claim])}, keys["policy"])
    yield "another principal chain, signed", signed(head, {**claims, "act": ["person:eve"]}, keys["policy"])
    for service, key in keys.items():
        if service != "policy":
            yield f"issued by {service}", issued(key)
            yield f"issued by {service} under policy's key id", signed(head, claims, key)


async def published(scene: Scene, grants: dict[str, ActionGranted]) -> dict[str, Message]:
    """Send grants as policy would; by request id, what the executor said to each."""
    forgeries = []
    for how, grant in grants.items():
        envelope = seal_event(grant, time=now(), key=scene.keys["policy"])
        forgeries.append(Forgery(how, grant.nats_subject(), envelope.headers(), envelope.body))
    await scene.bench.publish("policy", forgeries)
    await scene.bench.settled()
    said = [m for m in await scene.bench.messages("ACTIONS") if m.service == "executor"]
    return {m.headers["ce-subject"]: m for m in said}


async def a_grant(scene: Scene) -> ActionGranted:
    """A real one, of the action that was executed."""
    messages = await scene.bench.messages("ACTIONS")
    wanted = f"{scene.actions['executed']}.granted"
    return ActionGranted.from_bytes(next(m for m in messages if m.headers["ce-id"] == wanted).body)


async def test_a_grant_with_a_wrong_warrant_causes_no_call_and_is_refused_by_the_executor(scene: Scene) -> None:
    real = await a_grant(scene)
    calls, states = list(scene.world.downstream.calls), await scene.states()
    grants = {}
    for how, _ in forged_warrants(anew(real), real.warrant, scene.keys):
        action = anew(real)
        token = dict(forged_warrants(action, real.warrant, scene.keys))[how]
        grants[how] = real.model_copy(update={"action": action, "warrant": token})
    assert len(grants) > 50
    said = await published(scene, grants)

    assert scene.world.downstream.calls == calls
    assert await scene.states() == states
    for how, grant in grants.items():
        answer = said.get(grant.action.request_id)
        assert answer is not None and answer.kind == "actions.refused", how
        assert [reason["code"] for reason in json.loads(answer.body)["reasons"]] == ["warrant"], how


async def test_a_good_warrant_does_not_cover_another_action(scene: Scene) -> None:
    """Each field of the action altered in turn, under a warrant that was issued for what it was before."""
    real = await a_grant(scene)
    calls = list(scene.world.downstream.calls)
    # which say nothing of what would be executed; a box that is said to be of another action does not open
    unbound = {"reason", "requested_at", "amends", "sealed_for"}
    bound = set(Action.model_fields) - unbound
    changes: dict[str, Any] = {
        "request_id": new_id(),
        "agent_id": "worker-2",
        "principal_chain": ("person:eve",),
        "session_id": "another",
        "env": "prod",
        "tool": "write_thing",
        "tool_version": real.action.tool_version + 1,
        "args": {"thing_id": 2},
        "digest": "sha256:" + "0" * 64,
    }
    assert changes.keys() == bound
    grants = {}
    for field, value in changes.items():
        action = anew(real)
        token = warrant.issue(
            action,
            policy_version="v",
            approval_id=None,
            at=now(),
            lifetime=timedelta(minutes=5),
            key=scene.keys["policy"],
        )
        changed = action.model_copy(update={field: value})
        grants[field] = real.model_copy(update={"action": changed, "warrant": token})
        if field != "digest":
            again = changed.model_copy(update={"request_id": new_id() if field != "request_id" else value})
            fresh = again.model_copy(update={"digest": again.computed_digest()})
            grants[f"{field}, digest made anew"] = real.model_copy(update={"action": fresh, "warrant": token})
    said = await published(scene, grants)
    assert scene.world.downstream.calls == calls
    for field, grant in grants.items():
        assert said[grant.action.request_id].kind == "actions.refused", field


async def test_the_genuine_grant_would_have_run(scene: Scene) -> None:
    """The forger's bench works: what the tests above send differs from this in nothing but the warrant."""
    real = await a_grant(scene)
    action = anew(real)
    at, lifetime = now(), timedelta(minutes=5)
    token = warrant.issue(
        action, policy_version="v", approval_id=None, at=at, lifetime=lifetime, key=scene.keys["policy"]
    )
    calls = len(scene.world.downstream.calls)
    said = await published(scene, {"genuine": real.model_copy(update={"action": action, "warrant": token})})
    assert said[action.request_id].kind == "actions.executed"
    assert len(scene.world.downstream.calls) == calls + 1
