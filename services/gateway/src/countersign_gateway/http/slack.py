"""What Slack posts over HTTP: passed on as it came. Whether it is Slack's, the Slack service finds out.

No part of the API: Slack's own protocol, at one address for events, buttons, forms and the slash command.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.slack_commands import SLACK_BODY_BYTES, SLACK_HEADERS, HandleSlackRequest, SlackAnswer

from .context import PartsOf, Public, read_whole

#: Requests that wait for the Slack service at once: anybody may send some.
MOST_AT_ONCE = 64


def slack_router() -> APIRouter:
    """The one path, with its own bound."""
    router = APIRouter(include_in_schema=False)
    under_way = 0

    @router.post("/slack/events", dependencies=[Depends(Public("Slack's signature is checked by the Slack service"))])
    async def slack_events(request: Request, parts: PartsOf) -> Any:
        nonlocal under_way
        if under_way >= MOST_AT_ONCE:
            raise Unavailable(f"{under_way} requests of Slack's are under way; try again")
        under_way += 1
        try:
            body = await read_whole(request, SLACK_BODY_BYTES)
            answer: SlackAnswer = await parts.bus.ask(HandleSlackRequest(headers=_passed_on(request), body=_text(body)))
        finally:
            under_way -= 1
        return Response(answer.body, status_code=answer.status, media_type=answer.content_type)

    return router


def _passed_on(request: Request) -> dict[str, str]:
    return {name: request.headers[name] for name in SLACK_HEADERS if name in request.headers}


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise CountersignError("the body is no UTF-8 text, as everything of Slack's is", code="malformed") from None
