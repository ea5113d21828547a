"""A held action waits for its own people: no forged, altered, borrowed or replayed approval lets it go."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import nats.errors
import pytest

from countersign_contracts.approval_commands import CastVote
from countersign_contracts.approvals import ApprovalResolved
from countersign_contracts.envelope import Envelope, seal, seal_event
from countersign_contracts.ids import new_id
from countersign_contracts.model import now
from countersign_harness.forging import Forgery, alterations

if TYPE_CHECKING:
    from .conftest import Scene


async def resolutions(scene: Scene, held: str) -> tuple[Envelope, ApprovalResolved]:
    """The real approval of the action that was approved, and the same for one that is held."""
    messages = await scene.bench.messages("APPROVALS")
    real = next(
        m for m in messages if m.kind == "approvals.resolved" and m.headers["ce-subject"] == scene.actions["approved"]
    )
    approval = await scene.world.approval_of(held)
    resolved = ApprovalResolved.from_bytes(real.body)
    digest = approval["action"]["digest"]
    wanted = resolved.model_copy(
        update={
            "approval_id": approval["approval_id"],
            "action": resolved.action.model_copy(
                update={
                    "request_id": held,
                    "digest": digest,
                    "session_id": approval["action"].get("session_id"),
                }
            ),
            "votes": tuple(vote.model_copy(update={"digest": digest}) for vote in resolved.votes),
        }
    )
    return Envelope.read(real.headers, real.body), wanted


async def test_no_other_service_can_approve(scene: Scene) -> None:
    """The perfect approval of what is held, signed by every service but approvals."""
    _, wanted = await resolutions(scene, scene.actions["held"])
    calls = list(scene.world.downstream.calls)
    forgeries = []
    for service, key in scene.keys.items():
        if service == "approvals":
            continue
        as_itself = seal_event(wanted, time=now(), key=key)
        other = replace(as_itself, source="/countersign/approvals", keyid=scene.keys["approvals"].kid)
        other = replace(other, signature=key.sign(other.signing_bytes()))
        forgeries += [Forgery(f"by {service}", wanted.nats_subject(), e.headers(), e.body) for e in (as_itself, other)]
    taken = await scene.bench.publish("approvals", forgeries)
    await scene.bench.settled()
    assert await scene.world.state(scene.actions["held"]) == "held"
    assert scene.world.downstream.calls == calls
    assert taken.keys() <= (await scene.bench.recorded_as("unverified", "APPROVALS")).keys()


async def test_a_real_approval_cannot_be_turned_into_one_of_another_action(scene: Scene) -> None:
    envelope, wanted = await resolutions(scene, scene.actions["held"])
    calls = list(scene.world.downstream.calls)
    bodies = [json.loads(wanted.to_bytes()), *(v for _, v in alterations(json.loads(wanted.to_bytes())))]
    borrowed = [
        Forgery("borrowed", wanted.nats_subject(), each.headers(), json.dumps(body).encode())
        for body in bodies
        for each in (envelope, replace(envelope, id=wanted.event_id(), subject=wanted.about()))
    ]
    taken = await scene.bench.publish("approvals", borrowed)
    await scene.bench.settled()
    assert await scene.world.state(scene.actions["held"]) == "held"
    assert scene.world.downstream.calls == calls
    assert taken.keys() <= (await scene.bench.recorded_as("unverified", "APPROVALS")).keys()


async def test_approvals_itself_approves_exactly_what_was_held_or_nothing(scene: Scene) -> None:
    """Even with the right key: another id, another digest, or no vote at all is a denial."""
    calls = list(scene.world.downstream.calls)
    other = "sha256:" + "0" * 64
    for field in ("approval_id", "action.digest", "votes.digest", "votes"):
        asked = await scene.world.submit("write_thing", {"thing_id": 1, "status": "x"}, env="prod", wait=0)
        _, wanted = await resolutions(scene, asked["request_id"])
        changes: dict[str, Any] = {
            "approval_id": {"approval_id": f"apr_{new_id().replace('-', '')}"},
            "action.digest": {"action": wanted.action.model_copy(update={"digest": other})},
            "votes.digest": {"votes": tuple(vote.model_copy(update={"digest": other}) for vote in wanted.votes)},
            "votes": {"votes": ()},
        }
        forged = wanted.model_copy(update=changes[field])
        envelope = seal_event(forged, time=now(), key=scene.keys["approvals"])
        forgery = Forgery(field, forged.nats_subject(), envelope.headers(), envelope.body)
        await scene.bench.publish("approvals", [forgery])
        assert await scene.world.until(asked["request_id"], "denied", "succeeded", "granted") == "denied", field
        told = await scene.world.ok("GET", f"/api/v1/actions/{asked['request_id']}")
        assert [reason["code"] for reason in told["reasons"]] == ["approval_digest"], field
    assert scene.world.downstream.calls == calls


async def test_no_vote_counts_but_one_that_the_gateway_signed(scene: Scene) -> None:
    """The command that carries a vote: signed by others, altered in turn, sent by others."""
    approval = await scene.world.approval_of(scene.actions["held"])
    digest = approval["action"]["digest"]
    vote = CastVote(
        approval_id=approval["approval_id"], vote="approve", digest=digest, voter="person:alice", channel="http"
    )
    rpc = CastVote.rpc
    gateway = await scene.world.stack.client("gateway-core")
    real = seal(vote.to_bytes(), id=new_id(), type=rpc.type, subject=rpc.subject, time=now(), key=scene.keys["gateway"])
    forged = {
        f"body{where}": replace(real, body=json.dumps(v).encode()) for where, v in alterations(json.loads(real.body))
    }
    forged |= {"older": replace(real, time="2026-01-01T00:00:00.000000Z"), "other id": replace(real, id=new_id())}
    for service, key in scene.keys.items():
        if service not in rpc.callers:
            forged[f"by {service}"] = seal(
                vote.to_bytes(), id=new_id(), type=rpc.type, subject=rpc.subject, time=now(), key=key
            )
            named = replace(real, keyid=key.kid)
            forged[f"by {service} as the gateway"] = replace(named, signature=key.sign(named.signing_bytes()))
    for how, envelope in forged.items():
        reply = await gateway.request(rpc.subject, envelope.body, headers=envelope.headers(), timeout=10)
        assert json.loads(reply.data)["problem"]["status"] == 403, how
    for service in scene.keys:
        if service not in rpc.callers:
            line = await scene.world.stack.client(f"{service}-core")
            with pytest.raises(nats.errors.TimeoutError):
                await line.request(rpc.subject, real.body, headers=real.headers(), timeout=0.3)
    seen = await scene.world.approval_of(scene.actions["held"])
    assert (seen["state"], seen["votes"]) == ("pending", [])
