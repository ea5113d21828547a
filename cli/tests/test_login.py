"""`countersign login`, `logout`, `whoami`: what is kept, when it is refreshed, and that nobody else can read it."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from countersign_cli.login_store import LoginStore
from countersign_cli.main import app
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_harness.stack import Stack

URL = "https://gateway.example.com"


def issued(n: int, seconds: float = 900) -> dict[str, Any]:
    ends = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    return {"access_token": f"access-{n}", "refresh_token": f"csr_{n}", "expires_at": ends, "login_id": "lgn_1"}


class Gateway:
    """Counts who refreshes; each refresh token is taken once."""

    def __init__(self, seconds: float = 900) -> None:
        self.seconds = seconds
        self.came: list[str] = []

    def refresh(self, url: str, token: str) -> dict[str, Any]:
        assert url == URL
        if token in self.came:
            raise CountersignError("the refresh token was used before", code="unauthenticated")
        self.came.append(token)
        return issued(len(self.came) + 1, self.seconds)


def test_only_the_user_reads_what_is_kept_and_each_gateway_has_its_own(tmp_path: Path) -> None:
    store = LoginStore(tmp_path / "config" / "countersign")
    assert store.get(URL) is None and not store.folder.exists()
    store.put(URL, issued(1))
    store.put("https://other.example.com", issued(2))
    assert stat.S_IMODE((store.folder / "logins.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    store.forget("https://other.example.com")
    kept = store.get(URL)
    assert kept is not None and kept["access_token"] == "access-1"
    assert store.get("https://other.example.com") is None
    (store.folder / "logins.json").write_text("{")
    with pytest.raises(CountersignError, match=r"logins\.json cannot be read"):
        store.get(URL)


def test_a_token_that_ends_soon_is_refreshed_once_however_many_want_it(tmp_path: Path) -> None:
    store, gateway = LoginStore(tmp_path), Gateway()
    store.put(URL, issued(1, 300))
    assert store.access_token(URL, gateway.refresh) == "access-1" and gateway.came == []
    store.put(URL, issued(1, 10))
    with ThreadPoolExecutor(8) as several:
        got = list(several.map(lambda _: LoginStore(tmp_path).access_token(URL, gateway.refresh), range(8)))
    assert set(got) == {"access-2"} and gateway.came == ["csr_1"]


def test_what_has_ended_says_what_to_do_and_what_is_away_ends_nothing(tmp_path: Path) -> None:
    store, gateway = LoginStore(tmp_path), Gateway()
    store.put(URL, issued(1, 0))
    gateway.came.append("csr_1")
    with pytest.raises(CountersignError, match="`countersign login` again") as refusal:
        store.access_token(URL, gateway.refresh)
    assert refusal.value.code == "unauthenticated" and "used before" in refusal.value.detail

    def away(*_: str) -> dict[str, Any]:
        raise Unavailable("does not answer")

    with pytest.raises(Unavailable):
        store.access_token(URL, away)
    kept = store.get(URL)
    assert kept is not None and kept["refresh_token"] == "csr_1"


class Terminal:
    """Types commands at a gateway and a registry, without COUNTERSIGN_TOKEN."""

    def __init__(self, url: str, config: Path) -> None:
        self.url = url
        self.config = config

    async def type(self, *words: str, answers: str = "", **more: str) -> Any:
        env = {"COUNTERSIGN_URL": self.url, "COUNTERSIGN_CONFIG_DIR": str(self.config), "COLUMNS": "120", **more}
        return await asyncio.to_thread(CliRunner().invoke, app, list(words), input=answers, env=env)

    async def says(self, *words: str, answers: str = "") -> str:
        done = await self.type(*words, answers=answers)
        assert done.exit_code == 0, done.stderr
        return str(done.stdout)


@pytest_asyncio.fixture
async def terminal(stack: Stack, tmp_path: Path) -> AsyncIterator[Terminal]:
    await stack.service("registry", access_token_s=10)  # ends soon: refreshed by each command
    gateway = await stack.service("gateway")
    yield Terminal(f"http://127.0.0.1:{gateway.http.port}", tmp_path / "config")


async def test_one_logs_in_is_refreshed_without_noticing_and_logs_out(terminal: Terminal, stack: Stack) -> None:
    token = stack.layout.admin_token.read_text().strip()
    done = await terminal.type("whoami")
    assert (done.exit_code, "`countersign login`" in done.stderr) == (1, True), done.stderr
    assert "You are admin with admin; the login ends in 1" in await terminal.says("login", answers=token + "\n")
    kept = json.loads((terminal.config / "logins.json").read_text())[terminal.url]
    assert kept["name"] == "admin" and token not in (terminal.config / "logins.json").read_text()
    for _ in range(2):
        assert "admin" in await terminal.says("whoami")
        newer = json.loads((terminal.config / "logins.json").read_text())[terminal.url]
        assert newer["refresh_token"] != kept["refresh_token"] and newer["login_id"] == kept["login_id"]
        kept = newer
    assert "logged out" in await terminal.says("logout")
    done = await terminal.type("whoami", COUNTERSIGN_TOKEN=kept["access_token"])
    assert (done.exit_code, "this login has ended" in done.stderr) == (1, True), done.stderr
    assert terminal.url not in (terminal.config / "logins.json").read_text()
    for words in (("logout",), ("whoami",)):
        done = await terminal.type(*words)
        assert done.exit_code == 1 and done.stderr.startswith("error: "), done.stderr

    done = await terminal.type("login", answers="csp_wrong\n")
    assert (done.exit_code, "no person's token" in done.stderr) == (1, True), done.stderr
    done = await terminal.type("login")
    assert (done.exit_code, "no token was given" in done.stderr) == (1, True), done.stderr
