"""Approvals over HTTP: what the gateway asks of the approvals service and the registry, and what followers hear.

The two other services are stood in for on the real bus, so that each test sees exactly what was asked of them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from countersign_contracts.actions import Action, ActionRef, Decision, Reason
from countersign_contracts.approval_commands import (
    Approvals,
    ApprovalView,
    CastVote,
    GetApproval,
    ListApprovals,
    ListStandings,
    RevokeStanding,
    Standings,
)
from countersign_contracts.approvals import (
    ApprovalRequested,
    ApprovalResolved,
    ApprovalVoteRefused,
    Standing,
    StandingGranted,
)
from countersign_contracts.command import Command, Done
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.ids import new_id
from countersign_contracts.model import now
from countersign_contracts.people_commands import VerifyTotp
from countersign_gateway.http import approvals as http_approvals
from countersign_harness.world import World

PATH = "/api/v1/approvals"
DIGEST = "sha256:" + "0" * 64
GOOD_CODE = "123456"


def action(**more: Any) -> Action:
    return Action(
        request_id=more.pop("request_id", new_id()),
        agent_id="worker-1",
        env="prod",
        tool="write_thing",
        tool_version=1,
        args={"thing_id": 1},
        digest=DIGEST,
        requested_at=now(),
        **more,
    )


def view(approval_id: str = "apr_1", state: str = "pending", resource: str | None = "things/1") -> ApprovalView:
    decision = Decision(
        outcome="hold",
        reasons=(Reason(code="policy", message="high risk needs approval"),),
        policy_version="v",
        decided_at=now(),
    )
    return ApprovalView(
        approval_id=approval_id,
        state=state,
        action=action(),
        decision=decision,
        owner_team="ops",
        resource=resource,
        requested_at=now(),
        deadline=now() + timedelta(hours=1),
        waits_for=("1 of anyone",),
    )


STANDING = Standing(
    standing_id="std_1",
    approval_id="apr_1",
    agent_id="worker-1",
    tool="write_thing",
    env="prod",
    resource="things/*",
    granted_by=("alice",),
    granted_at=datetime(2026, 1, 1, tzinfo=UTC),
    until=datetime(2030, 1, 1, tzinfo=UTC),
    max_uses=20,
)


class Desk:
    """Stands in for the approvals service: what it was asked, and what it answers."""

    def __init__(self) -> None:
        self.asked: list[Command] = []
        self.found = view()

    def of(self, kind: type[Command]) -> list[Any]:
        return [command for command in self.asked if isinstance(command, kind)]

    async def start(self, bus: Any) -> None:
        for kind in (GetApproval, CastVote, ListApprovals, ListStandings, RevokeStanding):
            await bus.answer(kind, self._answer)
        await bus.connection.barrier()

    async def _answer(self, command: Any) -> Any:
        self.asked.append(command)
        match command:
            case GetApproval():
                return self.found
            case CastVote(approval_id="apr_wrong"):
                raise CountersignError("look at it again", code="digest_mismatch")
            case CastVote(approval_id="apr_down"):
                raise Unavailable("the approvals service cannot reach its database; try again")
            case CastVote():
                return view(command.approval_id, "approved" if command.vote == "approve" else "rejected")
            case ListApprovals():
                return Approvals(items=(self.found,))
            case ListStandings():
                return Standings(items=(STANDING,))
            case RevokeStanding():
                return STANDING.model_copy(update={"revoked_by": command.by, "revoked_at": now()})


@pytest_asyncio.fixture
async def doors(stack: Any) -> AsyncIterator[Any]:
    """A gateway and a registry; the approvals service is stood in for."""
    async with World(stack) as world:
        desk = Desk()
        bus = await stack.bus("approvals")
        await desk.start(bus)
        await world.start_door(max_followers=2, max_untold_events=4, events_keep_alive_s=0.3)
        for name, role in (("alice", "approver"), ("rita", "reader"), ("otto", "operator")):
            await world.add_person(name, role)
        yield SimpleNamespace(world=world, desk=desk, bus=bus, gateway=world.services["gateway"], stack=stack)


@pytest_asyncio.fixture
async def codes(doors: Any, monkeypatch: pytest.MonkeyPatch) -> list[VerifyTotp]:
    """What the registry was asked about one-time codes; only one of them is good."""
    asked: list[VerifyTotp] = []
    ask = doors.gateway.bus.ask

    async def answer(command: Command, **more: Any) -> Any:
        if not isinstance(command, VerifyTotp):
            return await ask(command, **more)
        asked.append(command)
        if command.code == "999999":
            raise Unavailable("the registry service is not running; try again in a moment")
        if command.code != GOOD_CODE:
            raise CountersignError("the code is wrong, or was used", code="wrong_code")
        return Done()

    monkeypatch.setattr(doors.gateway.bus, "ask", answer)
    return asked


def problem(answer: Any) -> str:
    return str(answer["type"]).rpartition(":")[2]


# --- votes ------------------------------------------------------------------------------------------------


async def test_a_vote_carries_what_the_voter_said_and_who_they_are(doors: Any, codes: list[VerifyTotp]) -> None:
    body = {
        "vote": "approve",
        "digest": DIGEST,
        "comment": "fine",
        "channel": "cli",
        "code": GOOD_CODE,
        "changes": {"amount": 5, "note": None},
        "standing": {"for_s": 3600, "max_uses": 20},
    }
    before = now()
    status, answer, _ = await doors.world.request("POST", f"{PATH}/apr_1/votes", body, as_="alice")
    assert status == 200 and answer["state"] == "approved", answer
    (cast,) = doors.desk.of(CastVote)
    assert (cast.approval_id, cast.voter, cast.vote, cast.digest) == ("apr_1", "person:alice", "approve", DIGEST)
    assert (cast.channel, cast.comment, cast.assurance) == ("cli", "fine", "strong")
    assert cast.changes == {"amount": 5, "note": None}
    assert cast.standing.resource == "things/1" and cast.standing.max_uses == 20
    assert timedelta(seconds=3590) < cast.standing.until - before < timedelta(seconds=3630)
    assert [(asked.name, asked.code) for asked in codes] == [("alice", GOOD_CODE)]


async def test_without_a_code_a_vote_is_basic_and_nobody_is_asked_about_codes(
    doors: Any, codes: list[VerifyTotp]
) -> None:
    status, _, _ = await doors.world.request(
        "POST", f"{PATH}/apr_1/votes", {"vote": "reject", "digest": DIGEST}, as_="alice"
    )
    assert status == 200 and doors.desk.of(CastVote)[0].assurance == "basic" and not codes


async def test_a_wrong_code_votes_nothing_and_says_so(doors: Any, codes: list[VerifyTotp]) -> None:
    body = {"vote": "approve", "digest": DIGEST, "code": "000000"}
    status, answer, headers = await doors.world.request("POST", f"{PATH}/apr_1/votes", body, as_="alice")
    assert status == 403 and "WWW-Authenticate" not in headers, "the token is still good"
    assert problem(answer) == "wrong_code" and answer["detail"] == "the code is wrong, or was used; nothing was voted"
    several = {"vote": "approve", "code": "000000", "items": [{"approval_id": "apr_1", "digest": DIGEST}]}
    status, answer, _ = await doors.world.request("POST", f"{PATH}/votes", several, as_="alice")
    assert status == 403 and not doors.desk.of(CastVote)
    status, answer, _ = await doors.world.request("POST", f"{PATH}/apr_1/votes", body | {"code": "999999"}, as_="alice")
    assert status == 503 and problem(answer) == "unavailable" and not doors.desk.of(CastVote)


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ({"code": "12345"}, "invalid", "code"),
        ({"code": "١٢٣٤٥٦"}, "invalid", "code"),
        ({"standing": {"max_uses": 1}}, "invalid", "for_s"),
        ({"standing": {"max_uses": 1, "for_s": 5, "until": "2030-01-01T00:00:00Z"}}, "invalid", "for_s"),
        ({"standing": {"max_uses": 1, "until": "2020-01-01T00:00:00Z"}}, "invalid", "past"),
        ({"standing": {"max_uses": 0, "for_s": 5}}, "invalid", "max_uses"),
        ({"changes": {"not a name": 1}}, "invalid", "changes"),
        ({"changes": {"a": {"$sealed": "x"}}}, "invalid", "$sealed"),
        ({"changes": {"a": 2**60}}, "malformed", "canonical"),
        ({"changes": {"a": "x" * 70_000}}, "too_large", "65536"),
        ({"vote": "reject", "changes": {"a": 1}}, "invalid", "only who approves"),
        ({"vote": "reject", "standing": {"max_uses": 1, "for_s": 5}}, "invalid", "only who approves"),
    ],
)
async def test_a_vote_that_cannot_be_meant_is_refused_before_it_is_cast(
    doors: Any, more: dict[str, Any], code: str, says: str
) -> None:
    body = {"vote": "approve", "digest": DIGEST} | more
    status, answer, _ = await doors.world.request("POST", f"{PATH}/apr_1/votes", body, as_="alice")
    assert (problem(answer), 400 <= status < 500) == (code, True) and says in answer["detail"], answer
    assert not doors.desk.of(CastVote)


async def test_not_a_number_does_not_pass_as_left_out(doors: Any) -> None:
    """JSON knows no NaN, but a lenient parser takes it, and a lenient writer makes null of it: leave it out."""
    raw = json.dumps({"vote": "approve", "digest": DIGEST, "changes": {"amount": float("nan")}})
    headers = {"Authorization": f"Bearer {doors.world.tokens['alice']}", "Content-Type": "application/json"}
    url = f"{doors.world.url}{PATH}/apr_1/votes"
    async with doors.world.http.post(url, data=raw, headers=headers) as answered:
        assert answered.status == 400 and not doors.desk.of(CastVote)


@pytest.mark.parametrize(("resource", "says"), [("things/*", "things/*"), (None, "declares none")])
async def test_an_agent_s_characters_never_become_a_pattern_unseen(doors: Any, resource: str | None, says: str) -> None:
    doors.desk.found = view(resource=resource)
    body = {"vote": "approve", "digest": DIGEST, "standing": {"for_s": 60, "max_uses": 2}}
    status, answer, _ = await doors.world.request("POST", f"{PATH}/apr_1/votes", body, as_="alice")
    assert status == 422 and says in answer["detail"] and not doors.desk.of(CastVote)
    body["standing"] = {"for_s": 60, "max_uses": 2, "resource": "things/*"}
    assert (await doors.world.request("POST", f"{PATH}/apr_1/votes", body, as_="alice"))[0] == 200
    assert doors.desk.of(CastVote)[0].standing.resource == "things/*"


async def test_of_several_votes_each_has_its_answer_and_one_that_fails_stops_none(
    doors: Any, codes: list[VerifyTotp]
) -> None:
    ids = ["apr_1", "apr_wrong", "apr_2", "apr_down", "apr_3"]
    digests = {name: "sha256:" + f"{n}" * 64 for n, name in enumerate(ids)}
    body = {
        "vote": "reject",
        "comment": "not today",
        "code": GOOD_CODE,
        "items": [{"approval_id": name, "digest": digests[name]} for name in ids],
    }
    answer = await doors.world.ok("POST", f"{PATH}/votes", body, as_="alice")
    assert [(item["approval_id"], item["digest"]) for item in answer["items"]] == list(digests.items())
    said = [item["state"] or problem(item["problem"]) for item in answer["items"]]
    assert said == ["rejected", "digest_mismatch", "rejected", "unavailable", "rejected"]
    cast = {vote.approval_id: vote for vote in doors.desk.of(CastVote)}
    assert {name: vote.digest for name, vote in cast.items()} == digests
    assert {(v.voter, v.comment, v.assurance) for v in cast.values()} == {("person:alice", "not today", "strong")}
    assert len(codes) == 1, "a code counts once, so it is for the whole step"


async def test_a_step_has_between_one_and_a_hundred_votes(doors: Any) -> None:
    for count in (0, http_approvals.MOST_AT_ONCE + 1):
        body = {"vote": "approve", "items": [{"approval_id": f"apr_{n}", "digest": DIGEST} for n in range(count)]}
        assert (await doors.world.request("POST", f"{PATH}/votes", body, as_="alice"))[0] == 422
    assert not doors.desk.of(CastVote)


async def test_who_may_not_vote_votes_on_none_of_several_either(doors: Any) -> None:
    body = {"vote": "approve", "items": [{"approval_id": "apr_1", "digest": DIGEST}]}
    for who in ("rita", "otto"):
        assert (await doors.world.request("POST", f"{PATH}/votes", body, as_=who))[0] == 403
    assert not doors.desk.of(CastVote)


# --- lists ------------------------------------------------------------------------------------------------


async def test_a_list_is_filtered_by_what_was_asked_for(doors: Any) -> None:
    query = "state=pending&agent_id=worker-1&tool=write_thing&env=prod&risk=high&mine=true&limit=7&after=apr_9"
    await doors.world.ok("GET", f"{PATH}?{query}", as_="alice")
    await doors.world.ok("GET", PATH, as_="rita")
    mine, every = doors.desk.of(ListApprovals)
    assert mine == ListApprovals(
        state="pending",
        agent_id="worker-1",
        tool="write_thing",
        env="prod",
        risk="high",
        voter="alice",
        limit=7,
        after="apr_9",
    )
    assert every == ListApprovals()
    status, answer, _ = await doors.world.request("GET", f"{PATH}?risk=huge", as_="alice")
    assert status == 422 and "risk" in answer["detail"]


async def test_standing_approvals_are_listed_and_revoked_with_a_reason(doors: Any) -> None:
    listed = await doors.world.ok("GET", f"{PATH}/standing?in_force=false&agent_id=worker-1", as_="rita")
    assert listed["items"][0]["standing_id"] == "std_1"
    assert doors.desk.of(ListStandings) == [ListStandings(in_force=False, agent_id="worker-1")]
    status, answer, _ = await doors.world.request("DELETE", f"{PATH}/standing/std_1", as_="alice")
    assert status == 422 and "reason" in answer["detail"]
    assert (await doors.world.request("DELETE", f"{PATH}/standing/std_1?reason=x", as_="rita"))[0] == 403
    for who in ("alice", "otto"):
        revoked = await doors.world.ok("DELETE", f"{PATH}/standing/std_1?reason=enough", as_=who)
        assert revoked["revoked_by"] == who
    assert [(r.standing_id, r.by, r.reason) for r in doors.desk.of(RevokeStanding)] == [
        ("std_1", "alice", "enough"),
        ("std_1", "otto", "enough"),
    ]


# --- followers --------------------------------------------------------------------------------------------


class Stream:
    """One client of the event stream."""

    def __init__(self, response: Any) -> None:
        self.response = response

    async def block(self) -> str:
        """The next event or comment."""
        async with asyncio.timeout(10):
            raw: bytes = await self.response.content.readuntil(b"\n\n")
            return raw.decode().rstrip("\n")

    async def event(self) -> tuple[str, Any]:
        """The next event's name and data, comments passed over."""
        while True:
            lines = dict(line.split(": ", 1) for line in (await self.block()).splitlines() if line[0] != ":")
            if "event" in lines:
                return lines["event"], json.loads(lines["data"])


async def follow(doors: Any, who: str = "rita") -> Stream:
    headers = {"Authorization": f"Bearer {doors.world.tokens[who]}"}
    response = await doors.world.http.get(f"{doors.world.url}{PATH}/events", headers=headers)
    assert response.status == 200, await response.text()
    assert response.headers["Content-Type"].startswith("text/event-stream")
    stream = Stream(response)
    assert (await stream.block()).startswith(": following")
    return stream


def requested(approval_id: str) -> ApprovalRequested:
    return ApprovalRequested(
        approval_id=approval_id, action=action().ref(), requested_at=now(), deadline=now() + timedelta(hours=1)
    )


async def test_a_follower_hears_what_is_new_and_what_changes(doors: Any) -> None:
    stream = await follow(doors)
    ref: ActionRef = action().ref()
    events = [
        requested("apr_7"),
        ApprovalVoteRefused(
            approval_id="apr_7", action=ref, refusal="1", channel="http", code="c", reason="r", refused_at=now()
        ),
        ApprovalResolved(approval_id="apr_7", action=ref, state="rejected", resolved_at=now()),
        StandingGranted(standing=STANDING),
    ]
    for event in [*events, events[0], events[2]]:  # what its service is not sure of it sends again
        await doors.bus.publish(event)
    heard = [await stream.event() for _ in range(3)]
    assert [name for name, _ in heard] == ["requested", "resolved", "standing_granted"], "a refused vote changes none"
    asked, ended, granted = (data for _, data in heard)
    assert (asked["approval_id"], asked["state"], asked["tool"], asked["env"]) == (
        "apr_7",
        "pending",
        "write_thing",
        "prod",
    )
    assert ended["state"] == "rejected" and ended["request_id"] == ref.request_id
    assert granted["standing_id"] == "std_1" and granted["approval_id"] == "apr_1" and "state" not in granted
    assert (await stream.block()) == ": nothing new", "silence is never long"
    stream.response.close()


async def test_every_replica_tells_its_own_followers(doors: Any) -> None:
    other = await doors.stack.service("gateway", instance="gateway-2")
    first = await follow(doors)
    headers = {"Authorization": f"Bearer {doors.world.tokens['rita']}"}
    url = f"http://127.0.0.1:{other.http.port}{PATH}/events"
    second = Stream(await doors.world.http.get(url, headers=headers))
    await doors.bus.publish(requested("apr_8"))
    for stream in (first, second):
        assert (await stream.event())[1]["approval_id"] == "apr_8"
        stream.response.close()


async def test_what_approvals_did_not_sign_is_not_told(doors: Any) -> None:
    stream = await follow(doors)
    await doors.bus.connection.client.publish("approvals.requested.apr_9", b"{}")
    event = requested("apr_10")
    sealed = doors.bus.seal(event)
    await doors.bus.connection.client.publish(
        "approvals.requested.apr_11", sealed.body, headers=sealed.headers()
    )  # another's subject
    await doors.bus.publish(requested("apr_12"))
    assert (await stream.event())[1]["approval_id"] == "apr_12"
    stream.response.close()


async def test_following_needs_the_right_to_read_for_as_long_as_it_lasts(doors: Any) -> None:
    async with doors.world.http.get(f"{doors.world.url}{PATH}/events") as refused:
        assert refused.status == 401
    stream = await follow(doors, "alice")
    await doors.world.request("DELETE", "/api/v1/people/alice")
    name, data = await stream.event()
    assert name == "end" and "revoked" in data["reason"]
    async with asyncio.timeout(5):
        assert await stream.response.content.read() == b""


async def test_there_are_only_so_many_followers_and_who_leaves_makes_room(doors: Any) -> None:
    streams = [await follow(doors), await follow(doors)]
    status, answer, headers = await doors.world.request("GET", f"{PATH}/events", as_="rita")
    assert status == 503 and problem(answer) == "at_capacity" and headers["Retry-After"] == "60"
    streams[0].response.close()
    async with asyncio.timeout(10):
        while (await _tried(doors)).status != 200:
            await asyncio.sleep(0.02)
    streams[1].response.close()


async def _tried(doors: Any) -> Any:
    headers = {"Authorization": f"Bearer {doors.world.tokens['rita']}"}
    response = await doors.world.http.get(f"{doors.world.url}{PATH}/events", headers=headers)
    response.close()
    return response


async def test_the_stream_ends_cleanly_when_the_gateway_stops(doors: Any) -> None:
    stream = await follow(doors)
    stopping = asyncio.create_task(doors.gateway.stop())
    name, data = await stream.event()
    assert name == "end" and "stops" in data["reason"]
    async with asyncio.timeout(5):
        assert await stream.response.content.read() == b"", "the body ends as it should, not by a cut"
    async with asyncio.timeout(10):
        await stopping
