"""A Slack for tests: the Web API and Socket Mode over real HTTP and WebSocket on loopback: bolt runs unmodified.

It keeps and counts what was posted and updated, sends payloads as Slack does (enveloped, acknowledged, perhaps twice,
over any of the connections), limits rates, and goes away and comes back on the same port.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import json
import time
from collections import Counter, defaultdict
from typing import Any
from urllib.parse import urlencode

from aiohttp import WSMsgType, web

from .slack_limits import fault_of as fault_of

TEAM, BOT_TOKEN, APP_TOKEN = "T0COUNTERS", "xoxb-for-tests", "xapp-for-tests"
SIGNING_SECRET = "8f742231b10e8888abcd99yyyzzz85a5"


def sign(secret: str, timestamp: str, body: str) -> str:
    """`X-Slack-Signature` of a request (version v0)."""
    return "v0=" + hmac.new(secret.encode(), f"v0:{timestamp}:{body}".encode(), hashlib.sha256).hexdigest()


def signed_form(payload: dict[str, Any], *, secret: str = SIGNING_SECRET, at: float | None = None) -> Any:
    """Body and headers of an interactive payload over HTTP."""
    body = urlencode({"payload": json.dumps(payload)})
    timestamp = str(int(time.time() if at is None else at))
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "x-slack-request-timestamp": timestamp,
        "x-slack-signature": sign(secret, timestamp, body),
    }
    return body, headers


class FakeSlack:
    """One workspace. ``messages``: by channel and ts, as people see them now; ``calls``: how often a method worked."""

    def __init__(self) -> None:
        self.messages: dict[tuple[str, str], dict[str, Any]] = {}
        self.ephemeral: list[dict[str, Any]] = []
        self.responses: list[dict[str, Any]] = []
        self.modals: list[dict[str, Any]] = []
        self.calls: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.acks: dict[str, int] = Counter()
        #: What a payload was acknowledged with, by its envelope: for a form, what is wrong with it.
        self.answers: dict[str, dict[str, Any]] = {}
        self.pings = 0
        self.hellos = 0
        self.port = 0
        self.away = False
        #: How many of the next calls of a method are answered 429, and with which Retry-After.
        self.limits: dict[str, int] = {}
        self.retry_after = "1"
        #: Every call of these methods is answered with the error.
        self.errors: dict[str, str] = {}
        self.posted_at: dict[str, list[float]] = defaultdict(list)
        self._sockets: list[web.WebSocketResponse] = []
        self._turn = itertools.count()
        self._ids = itertools.count(1)
        self._runner: web.AppRunner | None = None
        self._changed = asyncio.Condition()

    @property
    def url(self) -> str:
        """The Web API's base address."""
        return f"http://127.0.0.1:{self.port}/api/"

    @property
    def connections(self) -> int:
        """Open Socket Mode connections."""
        return len(self._sockets)

    # --- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen; after :meth:`stop`, on the same port."""
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.router.add_post("/api/{method}", self._api)
        app.router.add_get("/link", self._link)
        app.router.add_post("/response", self._response)
        self._runner = web.AppRunner(app, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Go away: connections end, nobody answers."""
        for socket in list(self._sockets):
            await socket.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # --- what tests wait for ------------------------------------------------------------------------

    async def until(self, condition: Any, seconds: float = 30) -> Any:
        """The first true value of ``condition()``, asked whenever something happened here."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)
        return condition()

    async def _happened(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def main(self, channel: str) -> list[dict[str, Any]]:
        """The messages of a channel that are in no thread, the oldest first."""
        return [m for (where, _), m in sorted(self.messages.items()) if where == channel and "thread_ts" not in m]

    def thread(self, message: dict[str, Any]) -> list[str]:
        """What is said under a message."""
        return [m["text"] for _, m in sorted(self.messages.items()) if m.get("thread_ts") == message["ts"]]

    # --- what people do -----------------------------------------------------------------------------

    def press(self, message: dict[str, Any], action_id: str, user: str, team: str = TEAM) -> dict[str, Any]:
        """The payload of a pressed button; of several alike, the first."""
        button = next(b for b in buttons(message) if b["action_id"] == action_id)
        return {
            "type": "block_actions",
            "team": {"id": team, "domain": "tests"},
            "user": {"id": user, "username": user.lower(), "team_id": team},
            "api_app_id": "A0TESTS",
            "channel": {"id": message["channel"], "name": "approvals"},
            "container": {"type": "message", "message_ts": message["ts"], "channel_id": message["channel"]},
            "message": {"ts": message["ts"], "text": message["text"]},
            "trigger_id": f"{next(self._ids)}.trigger",
            "response_url": f"http://127.0.0.1:{self.port}/response",
            "actions": [{**button, "block_id": "countersign_decide", "type": "button", "action_ts": str(time.time())}],
        }

    def submit(
        self, modal: dict[str, Any], user: str, comment: str | None, team: str = TEAM, **given: Any
    ) -> dict[str, Any]:
        """The payload of a form that is sent: as it stood, but for the comment and what is ``given`` by field."""
        values = {
            block["block_id"]: {block["element"]["action_id"]: filled(block["element"], given.get(block["block_id"]))}
            for block in modal["view"]["blocks"]
            if block["type"] == "input"
        }
        values["comment"] = {"comment": {"type": "plain_text_input", "value": comment}}
        view = {**modal["view"], "id": "V1", "team_id": team, "state": {"values": values}}
        return {
            "type": "view_submission",
            "team": {"id": team, "domain": "tests"},
            "user": {"id": user, "username": user.lower(), "team_id": team},
            "api_app_id": "A0TESTS",
            "view": view,
        }

    def command(self, text: str, user: str, team: str = TEAM) -> dict[str, Any]:
        """The payload of `/countersign text`."""
        return {
            "command": "/countersign",
            "text": text,
            "team_id": team,
            "team_domain": "tests",
            "channel_id": "C0ANYWHERE",
            "user_id": user,
            "user_name": user.lower(),
            "api_app_id": "A0TESTS",
            "trigger_id": f"{next(self._ids)}.trigger",
            "response_url": f"http://127.0.0.1:{self.port}/response",
        }

    async def send(self, payload: dict[str, Any], *, times: int = 1, over: int | None = None) -> str:
        """Deliver a payload, perhaps twice, over the next connection or a certain one; returns once it was acked."""
        await self.until(lambda: self._sockets)
        envelope_id = f"envelope-{next(self._ids)}"
        kind = "slash_commands" if "command" in payload else "interactive"
        envelope = {"envelope_id": envelope_id, "type": kind, "accepts_response_payload": True, "payload": payload}
        for _ in range(times):
            turn = next(self._turn) if over is None else over
            await self._sockets[turn % len(self._sockets)].send_str(json.dumps(envelope))
        await self.until(lambda: self.acks[envelope_id] >= times)
        return envelope_id

    async def ask_to_reconnect(self) -> None:
        """Say that the connections end soon, as Slack does every few hours."""
        for socket in list(self._sockets):
            await socket.send_str(json.dumps({"type": "disconnect", "reason": "refresh_requested"}))

    # --- the Web API --------------------------------------------------------------------------------

    async def _api(self, request: web.Request) -> web.Response:
        method = request.match_info["method"]
        token = APP_TOKEN if method == "apps.connections.open" else BOT_TOKEN
        if self.away:
            return web.Response(status=503, text="away")
        if request.headers.get("Authorization") != f"Bearer {token}":
            return self._error(method, "invalid_auth")
        if self.limits.get(method, 0) > 0:
            self.limits[method] -= 1
            self.refused["ratelimited"] += 1
            body = {"ok": False, "error": "ratelimited"}
            return web.json_response(body, status=429, headers={"Retry-After": self.retry_after})
        if method in self.errors:
            return self._error(method, self.errors[method])
        given = await request.json() if request.content_type == "application/json" else dict(await request.post())
        if fault := fault_of(method, given):
            return self._error(method, fault)
        answer = getattr(self, f"_{method.replace('.', '_')}")(given)
        if isinstance(answer, str):
            return self._error(method, answer)
        self.calls[method] += 1
        await self._happened()
        return web.json_response({"ok": True, **answer})

    def _error(self, method: str, error: str) -> web.Response:
        self.refused[error] += 1
        return web.json_response({"ok": False, "error": error})

    def _auth_test(self, _: Any) -> dict[str, Any]:
        return {"team_id": TEAM, "team": "tests", "user_id": "U0BOT", "bot_id": "B0BOT", "user": "countersign"}

    def _users_info(self, given: Any) -> dict[str, Any]:
        return {"user": {"id": given["user"], "team_id": TEAM, "name": given["user"].lower()}}

    def _apps_connections_open(self, _: Any) -> dict[str, Any]:
        return {"url": f"ws://127.0.0.1:{self.port}/link?ticket={next(self._ids)}"}

    def _chat_postMessage(self, given: Any) -> dict[str, Any]:
        ts = f"{1_700_000_000 + next(self._ids)}.000100"
        self.messages[given["channel"], ts] = {**given, "ts": ts}
        self.posted_at[given["channel"]].append(time.monotonic())
        return {"channel": given["channel"], "ts": ts, "message": given}

    def _chat_update(self, given: Any) -> dict[str, Any] | str:
        known = self.messages.get((given["channel"], given["ts"]))
        if known is None:
            return "message_not_found"
        known.update(given)
        return {"channel": given["channel"], "ts": given["ts"]}

    def _chat_delete(self, given: Any) -> dict[str, Any] | str:
        found = self.messages.pop((given["channel"], given["ts"]), None)
        return {"ts": given["ts"]} if found else "message_not_found"

    def _chat_postEphemeral(self, given: Any) -> dict[str, Any]:
        self.ephemeral.append(given)
        return {"message_ts": "1.1"}

    def _views_open(self, given: Any) -> dict[str, Any]:
        self.modals.append(given)
        return {"view": given["view"]}

    async def _response(self, request: web.Request) -> web.Response:
        given = await request.json()
        if fault := fault_of("response_url", given):
            self.refused[fault] += 1
            return web.Response(status=400, text=fault)
        self.responses.append(given)
        await self._happened()
        return web.Response(text="ok")

    # --- Socket Mode --------------------------------------------------------------------------------

    async def _link(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        await socket.send_str(json.dumps({"type": "hello", "num_connections": len(self._sockets) + 1}))
        self._sockets.append(socket)
        self.hellos += 1
        await self._happened()
        try:
            async for message in socket:
                if message.type == WSMsgType.PING:
                    self.pings += 1
                    await socket.pong(message.data)
                elif message.type == WSMsgType.TEXT:
                    acknowledged = json.loads(message.data)
                    if envelope := acknowledged.get("envelope_id"):
                        self.answers[envelope] = acknowledged.get("payload") or {}
                        self.acks[envelope] += 1
                await self._happened()
        finally:
            self._sockets.remove(socket)
            await self._happened()
        return socket


def buttons(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The buttons of a message."""
    blocks = message["blocks"]
    return [e for block in blocks if block["type"] == "actions" for e in block["elements"]] + [
        block["accessory"] for block in blocks if "accessory" in block
    ]


def filled(element: dict[str, Any], given: Any) -> dict[str, Any]:
    """What stands in a field; without anything given, what stood there first."""
    match element["type"]:
        case "checkboxes":
            options = [each for each in element["options"] if each["value"] in (given or ())]
            return {"type": "checkboxes", "selected_options": options}
        case "radio_buttons":
            one = next((each for each in element["options"] if each["value"] == given), None)
            return {"type": "radio_buttons", "selected_option": one}
        case "datetimepicker":
            return {"type": "datetimepicker", "selected_date_time": given or element.get("initial_date_time")}
        case kind:
            return {"type": kind, "value": element.get("initial_value") if given is None else given}
