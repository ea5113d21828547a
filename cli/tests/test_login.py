"""`countersign login`, `logout`, `whoami`: what is kept, when it is refreshed, and that nobody else can read it."""

from __future__ import annotations

import asyncio
import json
import stat
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from countersign_cli.browser_login import _code, authorize
from countersign_cli.client import Client
from countersign_cli.login_store import LoginStore
from countersign_cli.main import app
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_harness.openid import OpenId
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


async def test_one_logs_in_with_a_browser_at_the_provider(stack: Stack, tmp_path: Path) -> None:
    provider = OpenId()
    await provider.start()
    try:
        await stack.service("registry", **provider.settings())
        gateway = await stack.service("gateway")
        terminal = Terminal(f"http://127.0.0.1:{gateway.http.port}", tmp_path / "config")
        client = Client(terminal.url, stack.layout.admin_token.read_text().strip())
        await asyncio.to_thread(client.post, "/api/v1/people", {"name": "ann@example.com", "roles": ["approver"]})
        described = await asyncio.to_thread(Client(terminal.url, "").get, "/api/v1/tokens/provider")

        def visit(url: str) -> None:
            """What a browser does: the provider's page, and where that sends it; first somebody who only guesses."""
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            [redirect] = parse_qs(urlsplit(url).query)["redirect_uri"]
            for guess in ("code=stolen&state=guessed", "error=access_denied&state=x", "state=", ""):
                opener.open(f"{redirect}?{guess}", timeout=30).read()
            with pytest.raises(urllib.error.HTTPError):
                opener.open(redirect.replace("callback", "elsewhere"), timeout=30)
            assert b"Go back to the terminal" in opener.open(url, timeout=30).read()

        def log_in() -> dict[str, str]:
            browsers: list[threading.Thread] = []

            def browse(url: str) -> None:
                browsers.append(threading.Thread(target=visit, args=(url,)))
                browsers[0].start()

            try:
                return authorize(described, port=0, within_s=60, show=lambda _: None, browse=browse)
            finally:
                browsers[0].join()

        provider.who = {"email": "ann@example.com"}
        proof = await asyncio.to_thread(log_in)
        issued = await asyncio.to_thread(Client(terminal.url, "").post, "/api/v1/tokens", {"provider": proof})
        LoginStore(terminal.config).put(terminal.url, issued)
        assert "approver" in await terminal.says("whoami")
        assert "logged out" in await terminal.says("logout")

        done = await terminal.type("login", "--no-browser", "--within-s", "1")
        assert (done.exit_code, "nobody logged in within 1 s" in done.stderr) == (1, True), done.stderr
        assert f"{provider.issuer}/authorize?response_type=code&client_id=" in done.stderr.replace("\n", "")
        token = stack.layout.admin_token.read_text().strip()
        assert "You are admin" in await terminal.says("login", "--token", answers=token)
    finally:
        await provider.stop()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"code": ["c"], "state": ["s"]}, "c"),
        ({"code": ["c"], "state": ["s"], "iss": ["https://id.example.com"]}, "c"),
        ({"code": ["c"], "state": ["s"], "iss": ["https://other.example.com"]}, None),
        ({"code": ["c"], "state": ["other"]}, None),
        ({"code": ["c", "d"], "state": ["s"]}, None),
        ({"code": ["c"], "state": ["s", "s"]}, None),
        ({"code": ["c"]}, None),
        ({}, None),
    ],
)
def test_an_answer_to_another_request_is_none(answer: dict[str, list[str]], code: str | None) -> None:
    assert _code(answer, "s", "https://id.example.com") == code


def test_what_the_provider_refuses_is_said() -> None:
    with pytest.raises(CountersignError, match="the provider refused: access_denied"):
        _code({"error": ["access_denied"], "state": ["s"]}, "s", "https://id.example.com")
