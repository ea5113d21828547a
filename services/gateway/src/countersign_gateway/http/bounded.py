"""No request body is larger than what anything here could be done with: refused while it comes, not once it was read.

Who is not known yet can send one, so what it costs must not depend on what is sent.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from countersign_contracts.errors import CountersignError

from .problems import answer

#: Whatever goes on from here does so in one message of the bus, which is half as long. Many paths take far less.
MOST_BYTES = 2 * 1024 * 1024
_REFUSAL = f"the body is larger than {MOST_BYTES} bytes; send less at once"


class Bounded:
    """ASGI middleware: answers 413, or lets the application fail with that, beyond ``MOST_BYTES``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if declared.isdigit() and int(declared[:20]) > MOST_BYTES:
            await answer(CountersignError(_REFUSAL, code="too_large"))(scope, receive, send)
            return
        size = 0

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MOST_BYTES:
                # FastAPI passes this kind of exception on; any other becomes "the body cannot be parsed"
                raise HTTPException(413, _REFUSAL)
            return message

        await self._app(scope, bounded, send)
