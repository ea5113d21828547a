"""Countersign over HTTP. The request id serves as idempotency key, so repeating is harmless here too."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson

from countersign_contracts.actions import ActionPage, ActionResult
from countersign_contracts.agent_config import Configuration, Configured
from countersign_contracts.errors import CountersignError, Unavailable

from .transport import Hears, jittered, retry_after_s

#: How often a gateway that does not answer at all is tried. One that says when to come back is heeded until time is up.
_TRIES = 5
#: How long one look waits where what happens meanwhile is to be told too, in seconds: HTTP answers with the end alone.
_LOOK_S = 2.0


class HttpTransport:
    """One HTTP session of one agent."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._session: aiohttp.ClientSession | None = None
        #: nothing is pushed on this way
        self.pushed = asyncio.Event()

    async def open(self) -> None:
        """Make the session; nothing is sent yet."""
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._token}"}, connector=aiohttp.TCPConnector(limit=0)
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def submit(self, body: dict[str, Any], timeout_s: float, *, queued: bool) -> ActionResult:
        """Post it; nothing is queued on this way."""
        return await self._post(body, None, timeout_s)

    async def call(self, body: dict[str, Any], wait_s: float) -> ActionResult:
        """Post it and wait."""
        return await self._post(body, f"wait={wait_s}", wait_s + 10)

    async def _post(self, body: dict[str, Any], prefer: str | None, timeout_s: float) -> ActionResult:
        submission = dict(body)
        headers = {"Idempotency-Key": submission.pop("request_id")}
        if prefer is not None:
            headers["Prefer"] = prefer
        answer = await self._send("POST", "/api/v1/actions", submission, headers, timeout_s)
        return ActionResult.model_validate(answer)

    async def get(self, request_id: str, wait_s: float, hears: Hears | None = None) -> ActionResult:
        """Look it up, waiting for its end; with ``hears`` not so long at a time."""
        if hears is not None:
            wait_s = min(wait_s, _LOOK_S)
        headers = {"Prefer": f"wait={wait_s}"} if wait_s > 0 else {}
        answer = await self._send("GET", f"/api/v1/actions/{request_id}", None, headers, wait_s + 10)
        result = ActionResult.model_validate({name: said for name, said in answer.items() if name != "action"})
        if hears is not None:
            hears(result)
        return result

    async def page(self, wanted: dict[str, Any]) -> ActionPage:
        """List them."""
        answer = await self._send("GET", f"/api/v1/actions?{urlencode(wanted)}", None, {}, 15)
        return ActionPage.model_validate(answer)

    async def cancel(self, request_id: str, reason: str | None) -> ActionResult:
        """Withdraw it."""
        answer = await self._send("POST", f"/api/v1/actions/{request_id}/cancel", {"reason": reason}, {}, 15)
        return ActionResult.model_validate(answer)

    async def heartbeat(self, body: dict[str, Any]) -> None:
        """Post it."""
        await self._send("POST", "/api/v1/heartbeat", body, {}, 10)

    async def tell(self, verb: str, body: bytes) -> None:
        """Post it."""
        await self._send("POST", f"/api/v1/telemetry/{verb}", body, {}, 10)

    async def configuration(self) -> Configuration:
        """Get it."""
        return Configuration.model_validate(await self._send("GET", "/api/v1/configuration", None, {}, 10))

    async def configured(self, said: Configured) -> None:
        """Post it."""
        await self._send("POST", "/api/v1/configuration/applied", said.model_dump(exclude_none=True), {}, 10)

    async def _send(
        self, method: str, path: str, body: dict[str, Any] | bytes | None, headers: dict[str, str], timeout_s: float
    ) -> Any:
        if self._session is None:
            raise CountersignError("use the agent in `async with`")
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        data = orjson.dumps(body) if isinstance(body, dict) else body
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        pause, left = 0.2, _TRIES
        while True:
            try:
                async with self._session.request(
                    method,
                    self._url + path,
                    data=data,
                    headers=headers | {"Content-Type": "application/json"},
                    timeout=timeout,
                ) as response:
                    raw = await response.read()
                    if response.status < 400:
                        return orjson.loads(raw) if raw else {}
                    error = _problem(raw, response.status)
                    again = jittered(max(pause, retry_after_s(error)))
                    if error.status not in (429, 503) or loop.time() + again > deadline:
                        raise error
            except (aiohttp.ClientError, TimeoutError) as error:
                left -= 1
                again = pause
                if left == 0:
                    raise Unavailable(f"{self._url} does not answer: {str(error) or type(error).__name__}") from None
            await asyncio.sleep(again)
            pause = min(pause * 2, 5.0)


def _problem(raw: bytes, status: int) -> CountersignError:
    try:
        return CountersignError.from_problem(orjson.loads(raw))
    except (orjson.JSONDecodeError, AttributeError):
        return CountersignError(f"HTTP status {status}")
