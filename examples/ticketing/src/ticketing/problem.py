"""Errors as RFC 9457 problem details: their stable types, and the handlers that answer with them.

A problem says what is wrong with the request; it never carries a stack trace or the value that was sent.
"""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ticketing.store import Busy, KeyReused, NotFound

BASE = "https://ticketing.example/problems/"
MEDIA_TYPE = "application/problem+json"
BODY_LIMIT_BYTES = 262_144

TITLES: dict[str, tuple[HTTPStatus, str]] = {
    "malformed-request": (HTTPStatus.BAD_REQUEST, "The request body is not well-formed JSON"),
    "not-found": (HTTPStatus.NOT_FOUND, "There is nothing at this address"),
    "method-not-allowed": (HTTPStatus.METHOD_NOT_ALLOWED, "The address does not offer this method"),
    "key-reused": (HTTPStatus.CONFLICT, "The idempotency key belongs to a different request"),
    "too-large": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request body is too large"),
    "invalid-request": (HTTPStatus.UNPROCESSABLE_ENTITY, "The request does not have the right shape"),
    "internal": (HTTPStatus.INTERNAL_SERVER_ERROR, "The service failed"),
    "busy": (HTTPStatus.SERVICE_UNAVAILABLE, "The service is busy; nothing was done"),
}
KIND_OF_STATUS = {int(status): kind for kind, (status, _) in TITLES.items()}


class Problem(BaseModel):
    """A problem detail (RFC 9457). `errors` lists every invalid part of an invalid request: what it is `in`
    (body, query, path, header), its `pointer` into the body (RFC 6901) or its `name`, and the `detail`.
    """

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] = []


def problem(kind: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any) -> JSONResponse:
    """The response for a problem of one of the kinds in `TITLES`."""
    status, title = TITLES[kind]
    body = {"type": BASE + kind, "title": title, "status": int(status), "detail": detail, **more}
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem detail, and refuse bodies over BODY_LIMIT_BYTES."""
    app.add_middleware(BodyLimit)

    @app.exception_handler(NotFound)
    async def not_found(_: Request, error: NotFound) -> JSONResponse:
        return problem("not-found", str(error))

    @app.exception_handler(KeyReused)
    async def key_reused(_: Request, error: KeyReused) -> JSONResponse:
        return problem("key-reused", str(error))

    @app.exception_handler(Busy)
    async def busy(_: Request, error: Busy) -> JSONResponse:
        return problem("busy", str(error), headers={"Retry-After": "1"})

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _invalid(error)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_allowed(app, request))
        kind = KIND_OF_STATUS.get(error.status_code)
        if kind is not None:
            return problem(kind, str(error.detail), headers=headers)
        status = HTTPStatus(error.status_code)
        body = {"type": "about:blank", "title": status.phrase, "status": status, "detail": str(error.detail)}
        return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)

    @app.exception_handler(Exception)
    async def internal(_: Request, __: Exception) -> JSONResponse:
        # The server logs the exception and hangs up; the client learns only that it happened.
        detail = "the service failed while answering; its log says why"
        return problem("internal", detail, headers={"Connection": "close"})


def _allowed(app: FastAPI, request: Request) -> list[str]:
    # A route knows only its own method; the address's other methods are other routes (RFC 9110, 10.2.1).
    here = [route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in here if isinstance(route, Route) for method in route.methods or ()})


def _invalid(error: RequestValidationError) -> JSONResponse:
    found = error.errors()
    if any(part["type"] == "json_invalid" for part in found):
        return problem("malformed-request", "the request body is not well-formed JSON")
    errors = [_part(part["loc"], part["msg"]) for part in found]
    return problem("invalid-request", f"{len(errors)} part(s) of the request are invalid", errors=errors)


def _part(location: tuple[str | int, ...], message: str) -> dict[str, str]:
    where, *path = location
    if where == "body":
        steps = (str(step).replace("~", "~0").replace("/", "~1") for step in path)
        return {"in": "body", "pointer": "".join(f"/{step}" for step in steps), "detail": message}
    return {"in": str(where), "name": ".".join(map(str, path)), "detail": message}


class BodyLimit:
    """ASGI middleware: 413 as soon as a request body exceeds BODY_LIMIT_BYTES, without reading the rest."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body counted."""
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > BODY_LIMIT_BYTES:
                raise HTTPException(413, f"at most {BODY_LIMIT_BYTES} bytes are accepted")
            return message

        await self._app(scope, counted, send)
