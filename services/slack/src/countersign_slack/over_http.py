"""Payloads over HTTP, passed on by the gateway: the signature is checked here, over the bytes as they came."""

from __future__ import annotations

import time
from json import JSONDecodeError
from typing import Any

from slack_bolt.async_app import AsyncApp
from slack_bolt.request.async_request import AsyncBoltRequest

from countersign_contracts.slack_commands import HandleSlackRequest, SlackAnswer

from .refusals import Refusals

#: Slack's own bound: an older request was replayed.
MAX_AGE_S = 300


class OverHttp:
    """Answers the gateway."""

    def __init__(self, app: AsyncApp, refusals: Refusals, log: Any) -> None:
        self._app = app
        self._refusals = refusals
        self._log = log

    async def handle(self, command: HandleSlackRequest) -> SlackAnswer:
        """One request. Whatever is wrong with it is an answer."""
        try:
            request = AsyncBoltRequest(body=command.body, headers=dict(command.headers), mode="http")
            response = await self._app.async_dispatch(request)
        except (JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            await self._refusals.tell("malformed", "a request that cannot be read")
            self._log.info("unreadable request", error=repr(error))
            return SlackAnswer(status=400, body="this request cannot be read")
        if response.status == 401:
            stale = is_stale(command.headers.get("x-slack-request-timestamp", ""), time.time())
            await self._refusals.tell(
                "stale" if stale else "signature",
                "a request whose signature is older than 5 minutes" if stale else "a request with a wrong signature",
            )
        content_type = next(iter(response.headers.get("content-type", [])), "text/plain;charset=utf-8")
        return SlackAnswer(status=response.status, content_type=content_type, body=response.body or "")


def is_stale(timestamp: str, at: float) -> bool:
    """Whether a request's time is too far from ours; what is no time is."""
    try:
        return abs(at - int(timestamp)) > MAX_AGE_S
    except ValueError:
        return True
