"""Access tokens over HTTP: exchanged, used, refreshed, ended; at each of two gateways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest_asyncio

from countersign_harness.stack import Stack
from countersign_harness.world import World

TOKENS = "/api/v1/tokens"


class Desk(World):
    """Two gateways and a registry, person `ann` (reader), and an agent's credential."""

    other: str

    async def exchange(self, as_: str, **body: str) -> Any:
        status, issued, headers = await self.request("POST", TOKENS, body, as_=as_)
        assert status == 201, issued
        assert headers["Cache-Control"] == "no-store"
        return issued

    async def me(self, as_: str, *, url: str | None = None) -> tuple[int, str]:
        """Status, and who one is or what is wrong."""
        here, self.url = self.url, url or self.url
        try:
            status, answer, _ = await self.request("GET", "/api/v1/me", as_=as_)
        finally:
            self.url = here
        return status, answer.get("name") or answer["detail"]

    async def until_refused(self, as_: str, says: str, url: str) -> None:
        async with asyncio.timeout(20):
            while (got := await self.me(as_, url=url))[0] == 200:
                await asyncio.sleep(0.02)
        assert got[0] == 401 and says in got[1], got


@pytest_asyncio.fixture
async def desk(stack: Stack) -> AsyncIterator[Desk]:
    async with Desk(stack) as desk:
        await desk.start_door()
        desk.other = f"http://127.0.0.1:{(await stack.service('gateway')).http.port}"
        await desk.add_person("ann", "reader")
        await desk.add_agent("bot")
        yield desk


async def test_an_access_token_is_its_person_everywhere_until_its_login_ends(desk: Desk) -> None:
    await only_a_person_s_own_token_and_a_refresh_token_are_exchanged(desk)
    await with_an_old_login_nobody_becomes_surer_of_who_they_are(desk)
    await what_it_may_is_looked_up_and_a_spent_refresh_token_ends_it(desk)
    await one_ends_one_s_own_logins_and_an_admin_anybody_s(desk)


async def with_an_old_login_nobody_becomes_surer_of_who_they_are(desk: Desk) -> None:
    mine, admins = await desk.exchange("ann"), await desk.exchange("admin")
    desk.tokens |= {"mine": mine["access_token"], "boss": admins["access_token"]}
    lasting: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("mine", "/api/v1/me/channels/slack", {}),
        ("mine", "/api/v1/me/totp", {}),
        ("boss", "/api/v1/people", {"name": "new", "roles": ["reader"]}),
    )
    for who, path, body in lasting:
        assert (await desk.request("POST", path, body, as_=who))[0] == 201
    connection = await asyncpg.connect(desk.stack.superuser_dsn())
    await connection.execute("UPDATE registry.login SET started_at = now() - interval '6 minutes'")
    await connection.close()
    for who, path, body in lasting:
        status, problem, _ = await desk.request("POST", path, body, as_=who)
        assert (status, problem["type"]) == (403, "urn:countersign:problem:fresh_login"), problem
        assert "log in again (`countersign login`)" in problem["detail"]
    assert await desk.me("mine") == (200, "ann"), "for the rest it is as good as before"
    assert (await desk.request("POST", "/api/v1/me/totp", {}, as_="ann"))[0] == 201, "one's own token is the proof"


async def what_it_may_is_looked_up_and_a_spent_refresh_token_ends_it(desk: Desk) -> None:
    issued = await desk.exchange("ann")
    desk.tokens |= {"access": issued["access_token"]}
    assert await desk.me("access") == (200, "ann")
    assert (issued["token_type"], issued["roles"]) == ("Bearer", ["reader"])

    # what it may is looked up, not believed
    status, problem, _ = await desk.request("GET", "/api/v1/people", as_="access")
    assert (status, "takes admin" in problem["detail"]) == (403, True), problem

    again = await desk.exchange("", refresh_token=issued["refresh_token"])
    desk.tokens |= {"again": again["access_token"]}
    async with asyncio.timeout(20):  # the other gateway may say once that it has not read this login yet
        while (await desk.me("again", url=desk.other))[0] == 503:
            await asyncio.sleep(0.02)
    assert await desk.me("again", url=desk.other) == (200, "ann")
    listed = (await desk.ok("GET", TOKENS, as_="again"))["items"][:1]  # the latest
    assert [(one["login_id"], one["name"], one["proof"]) for one in listed] == [(issued["login_id"], "ann", "token")]

    # the spent one comes again: everything of this login is void, everywhere
    status, problem, _ = await desk.request("POST", TOKENS, {"refresh_token": issued["refresh_token"]}, as_="")
    assert (status, "somebody has a copy" in problem["detail"]) == (401, True), problem
    for url in (desk.url, desk.other):
        for token in ("access", "again"):
            await desk.until_refused(token, "this login has ended", url)


async def one_ends_one_s_own_logins_and_an_admin_anybody_s(desk: Desk) -> None:
    mine, admins = await desk.exchange("ann"), await desk.exchange("admin")
    desk.tokens |= {"mine": mine["access_token"], "boss": admins["access_token"]}
    status, problem, _ = await desk.request("DELETE", f"{TOKENS}/{admins['login_id']}", as_="mine")
    assert (status, "you have no login" in problem["detail"]) == (404, True), problem
    status, problem, _ = await desk.request("GET", f"{TOKENS}?person=admin", as_="mine")
    assert status == 403, problem
    listed = (await desk.ok("GET", f"{TOKENS}?person=ann&limit=1", as_="boss"))["items"]
    assert [one["login_id"] for one in listed] == [mine["login_id"]]

    await desk.ok("DELETE", f"{TOKENS}/{mine['login_id']}", as_="boss")
    status, detail = await desk.me("mine")
    assert (status, "this login has ended" in detail) == (401, True), "the gateway that was told acts on it at once"
    await desk.until_refused("mine", "this login has ended", desk.other)
    await desk.ok("DELETE", f"{TOKENS}/{admins['login_id']}", as_="boss")
    assert (await desk.me("boss"))[0] == 401

    removed = await desk.exchange("ann")
    desk.tokens |= {"removed": removed["access_token"]}
    assert await desk.me("removed") == (200, "ann")
    await desk.ok("DELETE", "/api/v1/people/ann")
    for url in (desk.url, desk.other):
        await desk.until_refused("removed", "", url)


async def only_a_person_s_own_token_and_a_refresh_token_are_exchanged(desk: Desk) -> None:
    issued = await desk.exchange("ann")
    desk.tokens |= {
        "access": issued["access_token"],
        "wrong": "csp_wrong",
        "forged": issued["access_token"][:-4] + "AAAA",
    }
    for who, body, wanted, says in (
        ("access", {}, 401, "exchanged for nothing"),
        ("bot", {}, 401, "no person's token"),
        ("wrong", {}, 401, "no person's token"),
        ("", {}, 401, "send `Authorization"),
        ("", {"refresh_token": "csr_" + "x" * 43}, 401, "not known, or void"),
        ("", {"refresh_token": desk.tokens["ann"]}, 422, "refresh_token"),
        ("ann", {"roles": ["admin"]}, 422, "roles"),
    ):
        status, problem, _ = await desk.request("POST", TOKENS, body, as_=who)
        assert (status, says in problem["detail"]) == (wanted, True), problem
    assert (await desk.me("forged"))[0] == 401
    # an agent does nothing here
    for method, path in (("GET", TOKENS), ("DELETE", f"{TOKENS}/{issued['login_id']}")):
        status, problem, _ = await desk.request(method, path, as_="bot")
        assert status == 403, problem
