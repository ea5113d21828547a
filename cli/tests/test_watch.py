"""`countersign approvals watch` in a real pseudo-terminal, against the whole product: the screen, keys, votes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import pytest

from countersign_harness.authenticator import Authenticator
from countersign_harness.pseudo_terminal import PseudoTerminal
from countersign_harness.world import World

COMMAND = [sys.executable, "-m", "countersign_cli", "approvals", "watch"]
UP, DOWN, ENTER, ESC, END = "\x1b[A", "\x1b[B", "\r", "\x1b", "\x1b[F"


def environment(world: World, who: str = "alice") -> dict[str, str]:
    # the size is the terminal's: who runs the tests may have said another one
    kept = {n: v for n, v in os.environ.items() if not n.startswith("COUNTERSIGN_") and n not in ("COLUMNS", "LINES")}
    return kept | {"COUNTERSIGN_URL": world.url, "COUNTERSIGN_TOKEN": world.tokens[who]}


def watching(world: World, *options: str, who: str = "alice", columns: int = 110, rows: int = 30) -> PseudoTerminal:
    return PseudoTerminal([*COMMAND, *options], environment(world, who), columns, rows)


async def held(world: World, thing_id: int = 1, **more: Any) -> str:
    body = {"thing_id": thing_id, "status": more.pop("status", "x")}
    asked = await world.submit("write_thing", body, env="prod", wait=0, **more)
    await world.approval_of(asked["request_id"])
    return str(asked["request_id"])


async def test_what_is_held_appears_by_itself_and_is_approved_with_a_comment(world: World) -> None:
    async with watching(world) as tty:
        await tty.until("nothing waits for a decision", "live")
        request_id = await held(world, reason="she sent it back")
        await tty.until("write_thing", "worker-1", "prod", "high")
        tty.press(ENTER)
        shown = await tty.until("arguments, all of them", 'status = "x"', "thing_id = 1", "she sent it back", "sha256:")
        assert "high risk needs approval" in shown and "a approve" in shown
        tty.press("a")
        await tty.until("approve exactly this", "comment")
        tty.press("the parcel is hére\x7f\x7f\x7f\x7fhere")
        await tty.until("the parcel is here")
        tty.press(ENTER)
        assert await world.until(request_id, "succeeded") == "succeeded"
        await tty.until("is approved", "nothing waits for a decision")
        tty.press("q")
        assert await tty.ended() == 0 and tty.mannered
    vote = (await world.approval_of(request_id))["votes"][0]
    assert (vote["voter"], vote["vote"], vote["channel"], vote["comment"]) == (
        "alice",
        "approve",
        "cli",
        "the parcel is here",
    )
    assert world.downstream.calls and b"is approved" in tty.written.split(b"\x1b[?1049l")[1], "said where it stays"


async def test_arrows_choose_and_several_marked_are_rejected_in_one_step(world: World) -> None:
    first, second, third = [await held(world, n + 1) for n in range(3)]  # the newest is on top
    async with watching(world) as tty:
        await tty.until("3 pending")
        tty.press(" " + DOWN + " ")
        await tty.until("2 marked")
        tty.press("r")
        shown = await tty.until("reject exactly these 2", "1 of 2")
        assert third in shown or third.replace("-", "") in shown
        tty.press("not today" + ENTER)
        await tty.until("1 pending")
        tty.press("q")
        assert await tty.ended() == 0
    votes = {name: (await world.approval_of(name))["votes"] for name in (first, second, third)}
    assert [len(votes[name]) for name in (first, second, third)] == [1, 0, 1]
    assert votes[third][0]["comment"] == votes[first][0]["comment"] == "not today"
    assert votes[third][0]["digest"] != votes[first][0]["digest"], "each with its own"


TWO_STEPS = """
kind: approval_rule
name: two_steps
match: {tools: [write_thing]}
stages: [{name: security, approvers: ["group:security"], quorum: 2, assurance: strong}]
changes: {status: remove}
"""


async def test_a_stage_with_one_time_codes_is_shown_and_its_code_is_asked_for(world: World) -> None:
    assert (await world.apply({"rule.yaml": TWO_STEPS}))["errors"] == []
    for name in ("alice", "bob"):
        await world.ok("PUT", f"/api/v1/people/{name}/groups", {"groups": ["security"]})
    app = Authenticator((await world.ok("POST", "/api/v1/me/totp", {}, as_="alice"))["secret"])
    await world.ok("POST", "/api/v1/me/totp/confirm", {"code": app.code()}, as_="alice")
    request_id = await held(world)
    async with watching(world, "--mine", rows=40) as tty:
        await tty.until("1 that you may vote on", "2 of group:security")
        tty.press("a")
        shown = await tty.until("approve exactly this", "one-time code", "two_steps", "may vote now: alice, bob")
        assert "may be changed" in shown and "status left out" in shown
        tty.press(ENTER + "12345" + ENTER)
        await tty.until("six digits")
        tty.press("\x15000000" + ENTER)
        await tty.until("nothing was voted", "is wrong")
        tty.press("a" + ENTER + app.code() + ENTER)
        await tty.until("still pending: it waits for")
        await tty.until("nothing waits for a decision")
        tty.press("q")
        assert await tty.ended() == 0
    (vote,) = (await world.approval_of(request_id))["votes"]
    assert (vote["voter"], vote["assurance"], vote["stage"]) == ("alice", "strong", "security")


async def test_nothing_is_voted_without_enter_and_ctrl_c_leaves_the_terminal_as_it_was(world: World) -> None:
    request_id = await held(world)
    async with watching(world) as tty:
        await tty.until("1 pending")
        tty.press("a")
        await tty.until("approve exactly this")
        tty.press("yes" + ESC)
        await tty.until("nothing was voted", "a approve")
        tty.press(ESC)
        await tty.until("1 pending")
        tty.press("\x03")
        assert await tty.ended() == 0 and tty.mannered
    assert (await world.approval_of(request_id))["votes"] == []


async def test_who_may_not_decide_is_told_why_and_the_vote_does_not_count(world: World) -> None:
    request_id = await held(world, on_behalf_of="person:alice")
    async with watching(world) as tty:
        await tty.until("1 pending")
        tty.press("a")
        await tty.until("approve exactly this", "person:alice")
        tty.press(ENTER)
        await tty.until("somebody else must decide")
        tty.press("\x03")
        await tty.ended()
    assert (await world.approval_of(request_id))["state"] == "pending"


async def test_what_somebody_else_decides_meanwhile_is_seen_and_not_voted_on(world: World) -> None:
    request_id = await held(world)
    async with watching(world) as tty:
        await tty.until("1 pending")
        tty.press("a")
        await tty.until("approve exactly this")
        await world.vote(await world.approval_of(request_id), "reject", as_="bob")
        await tty.until("is rejected already", "bob rejected")
        tty.press("\x03")
        await tty.ended()


async def test_the_screen_fits_any_size_and_what_is_below_is_said(world: World) -> None:
    await held(world, status="\u202eevil\u202c\x1b[2J" + "long " * 300)
    async with watching(world, columns=60, rows=12) as tty:
        await tty.until("1 pending")
        tty.press(ENTER)
        shown = await tty.until("more lines below")
        assert len(shown.splitlines()) <= 12
        tty.press(END)
        await tty.until("long", without="more lines below")
        for columns, rows in ((140, 50), (30, 6), (1, 1), (100, 40)):
            tty.resize(columns, rows)
            await asyncio.sleep(0.1)
        await tty.until("arguments, all of them", "\\u202eevil\\u202c")
        async with asyncio.timeout(30):  # what was drawn for another size is drawn over
            while not tty.grid.text.splitlines()[-1].startswith("a approve"):
                await asyncio.sleep(0.05)
        assert "\u202e" not in tty.grid.text
        tty.press("\x03")
        assert await tty.ended() == 0 and tty.mannered


async def test_a_gateway_that_goes_away_is_said_and_the_watch_goes_on_when_it_is_back(world: World) -> None:
    async with watching(world) as tty:
        await tty.until("live")
        gateway = world.services["gateway"]
        port = gateway.http.port
        await gateway.stop()
        await tty.until("trying again", without="● live")
        world.services["gateway"] = await world.stack.service("gateway", http_port=port)
        await tty.until("● live")
        await held(world)
        await tty.until("1 pending", "write_thing")
        tty.press("q")
        assert await tty.ended() == 0


async def test_without_a_terminal_it_says_what_else_there_is(world: World) -> None:
    process = await asyncio.create_subprocess_exec(*COMMAND, env=environment(world), stdin=-3, stdout=-1, stderr=-1)
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2 and not out
    assert b"--json" in err and b"approvals list" in err and b"Traceback" not in err


async def test_for_programs_there_is_a_line_of_json_for_each_event(world: World) -> None:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "--json", env=environment(world), stdin=-3, stdout=-1, stderr=-1
    )
    assert process.stdout is not None and process.stderr is not None
    async with asyncio.timeout(60):
        assert b"following" in await process.stderr.readline()
        request_id = await held(world)
        asked = json.loads(await process.stdout.readline())
        await world.vote(await world.approval_of(request_id), "approve")
        lines = [json.loads(await process.stdout.readline()) for _ in range(2)]
        process.terminate()
        await process.wait()
    assert (asked["kind"], asked["request_id"], asked["state"]) == ("requested", request_id, "pending")
    assert [(each["kind"], each["state"]) for each in lines] == [("voted", "pending"), ("resolved", "approved")]


async def test_a_void_token_ends_it_with_one_line(world: World) -> None:
    async with watching(world) as tty:
        await tty.until("live")
        await world.request("DELETE", "/api/v1/people/alice")
        assert await tty.ended() == 1 and tty.mannered
        after = tty.written.split(b"\x1b[?1049l")[1]
        assert b"error:" in after and b"Traceback" not in after


@pytest.mark.parametrize("keys", ["\x1b[1;5A", "\x1b]0;title\x07", "\xff\xfe", "é" * 50])
async def test_no_key_breaks_it(world: World, keys: str) -> None:
    await held(world)
    async with watching(world) as tty:
        await tty.until("1 pending")
        tty.press(keys)
        tty.press(DOWN)
        await tty.until("1 pending")
        tty.press("\x03")
        assert await tty.ended() == 0
