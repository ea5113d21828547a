"""`countersign people`, against a gateway and a registry: groups, Slack, one-time codes, who one is."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b32decode
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from countersign_cli.client import Client
from countersign_cli.commands import people
from countersign_cli.main import app
from countersign_cli.output import console
from countersign_contracts.model import now
from countersign_contracts.people_commands import ConfirmEnrolment
from countersign_contracts.roles import EVERYTHING
from countersign_harness.stack import Stack
from countersign_registry.totp import code_of, step_at


class Desk:
    """Types commands as a person."""

    def __init__(self, stack: Stack, url: str) -> None:
        self.stack = stack
        self.url = url
        self.tokens = {"admin": stack.layout.admin_token.read_text().strip()}

    async def type(self, *words: str, as_: str = "admin", answers: str = "") -> Any:
        """Run a command; its result."""
        env = {"COUNTERSIGN_URL": self.url, "COUNTERSIGN_TOKEN": self.tokens[as_], "COLUMNS": "120"}
        return await asyncio.to_thread(CliRunner().invoke, app, ["people", *words], input=answers, env=env)

    async def says(self, *words: str, as_: str = "admin", answers: str = "") -> str:
        """What a command that must succeed prints."""
        done = await self.type(*words, as_=as_, answers=answers)
        assert done.exit_code == 0, done.stderr
        return str(done.stdout)

    async def refused(self, *words: str, as_: str = "admin", exit_code: int = 1) -> str:
        """The one line of a command that must not."""
        done = await self.type(*words, as_=as_)
        assert (done.exit_code, done.stdout) == (exit_code, "")
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
        return str(done.stderr)


@pytest_asyncio.fixture
async def desk(stack: Stack) -> AsyncIterator[Desk]:
    """Person alice, an approver in group security."""
    await stack.service("registry")
    gateway = await stack.service("gateway")
    desk = Desk(stack, f"http://127.0.0.1:{gateway.http.port}")
    said = await desk.says("add", "alice", "--role", "approver", "--group", "security")
    desk.tokens["alice"] = said.strip().splitlines()[-1]
    yield desk


def codes(secret: str, *away: int) -> list[str]:
    return [code_of(b32decode(secret), step_at(now()) + each) for each in away]


async def test_groups_are_set_as_said_and_nothing_is_cleared_by_a_slip(desk: Desk) -> None:
    assert await desk.says("groups", "alice", "Payments Team", "b") == "alice is in Payments Team, b\n"
    assert re.search(r"alice +approver +Payments Team, b +- +active", await desk.says("list"))
    assert "say --none" in await desk.refused("groups", "alice", exit_code=2)
    assert "say --none" in await desk.refused("groups", "alice", "b", "--none", exit_code=2)
    assert "no person `zoe`" in await desk.refused("groups", "zoe", "b")
    assert "this takes admin" in await desk.refused("groups", "alice", "b", as_="alice")
    assert await desk.says("groups", "alice", "--none") == "alice is in no group\n"
    assert json.loads(await desk.says("groups", "alice", "c", "--json"))["groups"] == ["c"]


async def test_linking_slack_says_what_to_type_and_unlinking_whom(desk: Desk) -> None:
    slack = await desk.stack.bus("slack")
    assert "linked to no Slack user" in await desk.refused("unlink-slack", as_="alice")

    async def link(user: str) -> str:
        said = await desk.says("link-slack", as_="alice")
        assert "Whoever types it is alice there" in said and "in 9 min" in said
        [code] = re.findall(r"^  /countersign link ([0-9A-Z]{4}-[0-9A-Z]{4})$", said, re.MULTILINE)
        await slack.ask(ConfirmEnrolment(channel="slack", identity=f"T1/{user}", code=code))
        return str(code)

    first = await link("U1")
    assert re.search(r"alice +approver +security +Slack T1/U1 +active", await desk.says("list"))
    assert first not in await desk.says("list", "--json")
    await link("U2")
    assert "T1/U1, T1/U2 in Slack: say which" in await desk.refused("unlink-slack", as_="alice", exit_code=2)
    assert "is no Slack user" in await desk.refused("unlink-slack", "bob", as_="alice", exit_code=2)
    assert await desk.says("unlink-slack", "T1/U1", as_="alice") == "alice is not T1/U1 any more\n"
    assert await desk.says("unlink-slack", "--person", "alice") == "alice is not T1/U2 any more\n"
    assert "no person `zoe`" in await desk.refused("unlink-slack", "--person", "zoe")
    assert "this takes admin" in await desk.refused("unlink-slack", "--person", "admin", as_="alice")
    shown = json.loads(await desk.says("link-slack", "--json", as_="alice"))
    assert shown["type"] == f"/countersign link {shown['code']}" and shown["name"] == "alice"


async def test_one_time_codes_are_set_up_shown_once_and_removed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    post = Client.post
    shown: dict[str, str] = {}

    def ask(what: str) -> str:
        secret = shown["present" if "present" in what else "secret"]
        wrong = next(code for n in range(9) if (code := f"{n:06}") not in codes(secret, *range(-2, 4)))
        return wrong if shown.pop("wrong", None) else codes(secret, int(shown["away"]))[0]

    def heard(client: Client, path: str, body: Any, **options: Any) -> Any:
        answer = post(client, path, body, **options)
        if path == "/api/v1/me/totp":
            shown["secret"] = answer["secret"]
        return answer

    monkeypatch.setattr(Client, "post", heard)
    monkeypatch.setattr(people, "_ask", ask)
    # a slip is no end
    shown |= {"wrong": "1", "away": "-1"}
    done = await desk.type("totp", as_="alice")
    assert done.exit_code == 0 and "the one-time code is wrong" in done.stderr
    assert (
        f"secret  {shown['secret']}\nuri     otpauth://totp/Countersign:alice?secret={shown['secret']}" in done.stdout
    )
    assert done.stdout.endswith("Your one-time codes count from now on.\n")
    assert re.search(r"also by +one-time codes", await desk.says("whoami", as_="alice"))

    # another one takes a code of the present one
    shown |= {"present": shown["secret"], "away": "0"}
    await desk.says("totp", as_="alice")
    shown |= {"present": shown["secret"], "away": "1"}
    assert await desk.says("totp", "--remove", "alice", as_="alice") == "alice has no one-time codes any more\n"

    # and in two steps for programs
    new = json.loads(await desk.says("totp", "--json", as_="alice"))
    assert (await desk.says("totp", "--confirm", codes(new["secret"], 0)[0], as_="alice")).startswith("Your one-time")
    shown |= {"present": new["secret"], "wrong": "1"}
    assert "the one-time code is wrong" in await desk.refused("totp", "--remove", "alice", as_="alice")
    assert await desk.says("totp", "--remove", "alice") == "alice has no one-time codes any more\n"


async def test_the_qr_code_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(console, "_force_terminal", True)
    people._show({"secret": "ABC", "uri": "otpauth://totp/Countersign:alice?secret=ABC&issuer=Countersign"})
    drawn = capsys.readouterr().out
    assert "▄▄▄▄▄" in drawn and "Scan this" in drawn and "secret  ABC" in drawn


async def test_whoami_is_for_people(desk: Desk) -> None:
    assert json.loads(await desk.says("whoami", "--json")) == {
        "name": "admin",
        "roles": ["admin"],
        "permissions": sorted(EVERYTHING),
        "groups": [],
        "channels": [],
        "totp": False,
    }
    desk.tokens["nobody"] = "csp_nonsense"
    assert "not known" in await desk.refused("whoami", as_="nobody")


async def test_roles_are_shown_given_and_removed(desk: Desk) -> None:
    shown = await desk.says("roles")
    assert re.search(r"approver +built in +1 +read, revoke, vote", shown)
    assert "alice has reader, approver" in await desk.says(
        "set-roles", "alice", "--role", "reader", "--role", "approver"
    )
    assert "there are admin, operator, approver, reader" in await desk.refused("set-roles", "alice", "--role", "chief")
    assert "built in and stays" in await desk.refused("remove-role", "reader")
    assert "no role `chief`" in await desk.refused("remove-role", "chief")
