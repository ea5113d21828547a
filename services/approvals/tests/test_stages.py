"""Votes by rules on real servers: stages, quorum, who may, and what is on the record of those who may not."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from countersign_chassis import Failpoints
from countersign_contracts.approval_commands import ApprovalView, ListApprovals
from countersign_contracts.errors import CountersignError
from countersign_contracts.model import now

from .conftest import Scene, held, vote

RULES = """
kind: approval_rule
name: two-stages
match: {environments: [prod]}
stages:
  - {name: owner, approvers: ["owner:team"]}
  - {name: security, approvers: ["group:security"], quorum: 2, assurance: strong}
deadline_s: 600
"""


async def test_stages_follow_one_another_until_each_has_its_quorum(scene: Scene) -> None:
    await scene.apply(RULES)
    await asyncio.gather(
        scene.person("olga", "ops"), scene.person("sam", "security"), scene.person("zoe", "security", "ops")
    )
    event = await scene.hold(owner_team="ops")
    view = await scene.known(event, lambda v: v.stages[0].people == ("olga", "zoe"))
    assert view.asked_by.rule == "two-stages" and view.asked_by.version == 1
    assert view.deadline - view.requested_at == timedelta(seconds=600)
    assert [stage.state for stage in view.stages] == ["open", "waiting"]
    assert view.waits_for == ("1 of owner:team", "then 2 of group:security")
    early = await scene.refused(vote(event, "sam", assurance="strong"), "not_entitled")
    assert "stage `owner` is open" in early.detail
    view = await scene.gateway.ask(vote(event, "olga"))
    assert [stage.state for stage in view.stages] == ["done", "open"] and view.stages[0].approved_by == ("olga",)
    weak = await scene.refused(vote(event, "sam"), "assurance")
    assert "--code" in weak.detail
    assert await scene.gateway.ask(vote(event, "olga")) == view  # the same again changes nothing
    view = await scene.gateway.ask(vote(event, "sam", assurance="strong"))
    assert view.state == "pending" and view.waits_for == ("1 more of group:security",)
    view = await scene.gateway.ask(vote(event, "zoe", assurance="strong"))
    assert view.state == "approved" and [v.stage for v in view.votes] == ["owner", "security", "security"]
    events = await scene.told("resolved", about=event.approval_id)
    kinds = [each.spec.name for each in events if each.spec.name != "vote_refused"]
    assert kinds == ["requested", "voted", "advanced", "voted", "voted", "resolved"]
    assert events[0].asked_by == view.asked_by and events[-1].votes == view.votes


async def test_one_rejection_by_a_later_stage_ends_it(scene: Scene) -> None:
    await scene.apply(RULES)
    await asyncio.gather(scene.person("olga", "ops"), scene.person("sam", "security"))
    event = await scene.hold()
    view = await scene.gateway.ask(vote(event, "sam", "reject"))
    assert view.state == "rejected" and view.votes[0].stage == "security"


@pytest.mark.parametrize("quorum", [1, 3])
async def test_of_a_hundred_votes_at_once_exactly_the_quorum_counts(scene: Scene, quorum: int) -> None:
    await scene.apply(f"kind: approval_rule\nname: r\nstages: [{{name: one, approvers: [anyone], quorum: {quorum}}}]\n")
    await scene.start()
    await scene.people(*(f"p{n}" for n in range(100)))
    event = await scene.hold()
    answers = await asyncio.gather(
        *(scene.gateway.ask(vote(event, f"p{n}"), timeout_s=60) for n in range(100)), return_exceptions=True
    )
    counted = [a for a in answers if isinstance(a, ApprovalView)]
    refused = [a for a in answers if isinstance(a, CountersignError)]
    assert len(counted) == quorum and len(refused) == 100 - quorum and {e.code for e in refused} == {"conflict"}
    events = await scene.told("resolved", about=event.approval_id)
    assert sum(e.spec.name == "voted" for e in events) == quorum
    assert len(events[-1].votes) == quorum
    await scene.gateway.ask(vote(event, events[-1].votes[0].voter))  # the same again is no refusal
    connection = await asyncpg.connect(scene.stack.superuser_dsn())
    resolutions = "SELECT count(*) FROM approvals.event WHERE type = 'countersign.approvals.resolved.v1'"
    assert await connection.fetchval(resolutions) == 1
    # who floods an approval does not flood the ledger
    recorded = "SELECT count(*) FROM approvals.event WHERE type = 'countersign.approvals.vote_refused.v1'"
    assert 5 <= await connection.fetchval(recorded) <= 10
    await connection.close()


async def test_every_misuse_of_a_vote_is_refused_with_a_reason_and_on_the_record(scene: Scene) -> None:
    event = await scene.hold(owner_oncall="carol", principal_chain=("person:bob",))
    other = await scene.hold(owner_oncall="carol")
    await scene.person("rita", roles=("reader",))
    await scene.person("gone", status="removed")
    await scene.refused(vote(event, digest="sha256:" + "0" * 64), "digest_mismatch")
    await scene.refused(vote(event, digest=other.action.digest[:-1] + "0"), "digest_mismatch")
    for voter in ("nobody", "rita", "gone", "bob", "carol"):
        await scene.refused(vote(event, voter), "not_entitled")
    events = await scene.told("vote_refused", 5, about=event.approval_id)
    codes = [e.code for e in events if e.spec.name == "vote_refused"]
    assert codes == ["digest_mismatch"] * 2 + ["not_entitled"] * 3
    assert all(e.reason for e in events if e.spec.name == "vote_refused")
    await scene.gateway.ask(vote(other))
    await scene.refused(vote(other, "bob"), "conflict")
    await scene.refused(vote(other, "alice", "reject"), "conflict")
    unknown = vote(event).model_copy(update={"approval_id": "apr_nothing"})
    await scene.refused(unknown, "not_found")
    late = await scene.hold(held(deadline_s=1))
    await scene.known(late, lambda v: v.state == "expired")
    await scene.refused(vote(late), "conflict")
    told = await scene.told("vote_refused", 1, about=late.approval_id)
    assert told[-1].voter == "alice" and "expired" in told[-1].reason


async def test_each_service_votes_for_those_alone_whom_it_knows(scene: Scene) -> None:
    await scene.person("sally", slack="T1/U1")
    await scene.person("former", slack="T1/U9", status="removed")
    event = await scene.hold()
    for bus, voter, channel, more in (
        (scene.gateway, "slack:T1/U1", "slack", {}),
        (scene.gateway, "person:alice", "slack", {}),
        (scene.gateway, "person:alice", "standing", {}),
        (scene.slack, "person:alice", "slack", {}),
        (scene.slack, "person:alice", "http", {}),
        (scene.slack, "slack:T1/U1", "standing", {}),
        (scene.slack, "slack:T1/U1", "http", {}),
        (scene.slack, "slack:T1/U1", "slack", {"assurance": "strong"}),
    ):
        command = vote(event).model_copy(update={"voter": voter, "channel": channel, **more})
        await scene.refused(command, "forbidden", bus)
    from_slack = vote(event).model_copy(update={"channel": "slack", "voter": "slack:T1/U2"})
    missing = await scene.refused(from_slack, "not_enrolled", scene.slack)
    assert "countersign people link-slack" in missing.detail
    for identity in ("T2/U1", "T1/U9"):
        await scene.refused(from_slack.model_copy(update={"voter": f"slack:{identity}"}), "not_enrolled", scene.slack)
    view = await scene.slack.ask(from_slack.model_copy(update={"voter": "slack:T1/U1"}))
    assert view.state == "approved" and view.votes[0].voter == "sally" and view.votes[0].channel == "slack"
    told = await scene.told("vote_refused", 1, about=event.approval_id)
    assert told[-1].identity == "T1/U1" and told[-1].voter is None


async def test_their_own_counts_only_where_the_rule_says_so_and_the_vote_shows_it(scene: Scene) -> None:
    await scene.apply("kind: approval_rule\nname: own\nallow_own: true\nstages: [{name: a, approvers: [anyone]}]\n")
    event = await scene.hold(owner_oncall="alice")
    view = await scene.gateway.ask(vote(event))
    assert view.state == "approved" and view.votes[0].own == "alice is on call for agent worker-1"


async def test_a_rule_that_changes_does_not_change_what_was_asked(scene: Scene) -> None:
    await scene.apply(RULES)
    event = await scene.hold()
    await scene.apply(RULES.replace('"owner:team"', "anyone").replace("deadline_s: 600", "deadline_s: 60"))
    await scene.refused(vote(event), "not_entitled")
    later = await scene.hold()
    view = await scene.gateway.ask(vote(later))
    assert view.asked_by.version == 2 and view.stages[0].state == "done"


async def test_lists_are_filtered_and_say_what_waits_for_whom(scene: Scene) -> None:
    await scene.apply(RULES + "---\n" + RULES.replace("two-stages", "dev").replace("prod", "dev"))
    await scene.person("olga", "ops")
    await scene.person("sam", "security")
    first = await scene.hold(owner_team="ops", tool="pay", risk="critical")
    own = await scene.hold(owner_team="ops", owner_oncall="Olga")
    third = await scene.hold(owner_team="ops", env="dev")
    anyone = await scene.hold(env="test")

    async def ids(**wanted: Any) -> list[str]:
        page = await scene.gateway.ask(ListApprovals(**wanted))
        return [item.approval_id for item in page.items]

    assert await ids(tool="pay") == await ids(risk="critical") == [first.approval_id]
    assert await ids(env="dev") == [third.approval_id]
    await scene.known(first, lambda v: v.stages[0].people == ("olga",))
    assert await ids(voter="olga") == [anyone.approval_id, third.approval_id, first.approval_id]
    assert await ids(voter="person:sam") == [anyone.approval_id]
    assert await ids(voter="nobody") == []
    await scene.gateway.ask(vote(first, "olga"))
    await scene.gateway.ask(vote(third, "olga"))
    assert await ids(voter="olga") == [anyone.approval_id]
    assert await ids(voter="sam") == [anyone.approval_id, third.approval_id, first.approval_id]
    assert own.approval_id in await ids(state="pending")


async def test_what_was_voted_is_told_after_a_crash_with_the_stage_it_opened(offstage: Scene) -> None:
    async def die() -> None:
        raise RuntimeError("killed here")

    dying = await offstage.start(Failpoints({"approvals.after_vote_before_publish": die}))
    await offstage.person("olga", "ops")
    await offstage.apply(RULES)
    event = await offstage.hold()
    with pytest.raises(CountersignError):
        await offstage.gateway.ask(vote(event, "olga"))
    await dying.stop()
    await offstage.start(leftovers_poll_s=0.1)
    events = await offstage.told("advanced", about=event.approval_id)
    assert [e.spec.name for e in events] == ["requested", "voted", "advanced"]


async def test_a_service_that_was_upgraded_tells_what_an_earlier_version_asked(offstage: Scene) -> None:
    """Rows of the first migration alone: no events kept, no rule, one vote and nothing published."""
    service = await offstage.start()
    event = await offstage.hold()
    await offstage.gateway.ask(vote(event))
    await service.stop()
    connection = await asyncpg.connect(offstage.stack.superuser_dsn())
    await connection.execute("SET search_path TO approvals")
    await connection.execute("DELETE FROM event; UPDATE approval SET asked_by = '{}', agenda = '{}'")
    await connection.execute("UPDATE vote SET body = NULL, comment = 'earlier'")
    await connection.execute("INSERT INTO unpublished SELECT approval_id, $1 FROM approval", now())
    await offstage.start(leftovers_poll_s=0.1)
    async with asyncio.timeout(20):
        while await connection.fetchval("SELECT count(*) FROM event WHERE published_at IS NOT NULL") < 3:
            await asyncio.sleep(0.05)
    kinds = [row["type"] for row in await connection.fetch("SELECT type FROM event ORDER BY seq")]
    assert [kind.split(".")[2] for kind in kinds] == ["requested", "voted", "resolved"]
    assert await connection.fetchval("SELECT count(*) FROM unpublished") == 0
    await connection.close()
