"""Errors over HTTP: RFC 9457 problem details, never a stack trace."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from countersign_chassis.outages import OUTAGES
from countersign_contracts.errors import PROBLEM_JSON, CountersignError

from ..submission import database_away

#: Where a path takes two kinds of bodies: which one it was read as. No part of where the fault is.
AS_PERSON, AS_AGENT = "as-person", "as-agent"

PROBLEM_CONTENT: dict[str, Any] = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}

#: For the OpenAPI document: every operation may answer one.
RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "A problem (RFC 9457)",
        "content": PROBLEM_CONTENT,
    },
    "5XX": {
        "description": "A problem (RFC 9457)",
        "content": PROBLEM_CONTENT,
    },
}

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "description": "urn:countersign:problem:<code>; stable, branch on it"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what was wrong, where, what is allowed, what to do"},
        "errors": {"type": "array", "items": {"type": "object"}},
        "retry_after_s": {"type": "number"},
    },
}


def answer(error: CountersignError) -> Response:
    """The problem response."""
    headers = {}
    if retry := error.extra.get("retry_after_s"):
        headers["Retry-After"] = str(retry)
    elif error.status == 503:
        headers["Retry-After"] = "1"
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="countersign"'
    return JSONResponse(error.problem(), status_code=error.status, headers=headers, media_type=PROBLEM_JSON)


_BY_STATUS = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type"}


def install(app: FastAPI, log: Any) -> None:
    """Turn every exception into a problem."""

    @app.exception_handler(CountersignError)
    async def _ours(_: Request, error: CountersignError) -> Response:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> Response:
        fields = [
            {
                "field": ".".join(str(part) for part in e["loc"] if part not in (AS_PERSON, AS_AGENT)),
                "message": e["msg"],
            }
            for e in error.errors()[:20]
        ]
        if any(e["type"] == "json_invalid" for e in error.errors()):
            return answer(CountersignError(f"the body is not JSON: {fields[0]['message']}", code="malformed"))
        detail = "; ".join(f"{f['field']}: {f['message'].lower()}" for f in fields[:5])
        return answer(CountersignError(detail, code="invalid", errors=fields))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        code = _BY_STATUS.get(error.status_code, "malformed" if error.status_code < 500 else "internal")
        if code == "not_found":
            detail = f"there is no {request.method} {request.url.path}; the API is described at /openapi.json"
        elif code == "method_not_allowed":
            detail = f"{request.url.path} does not take {request.method}"
        else:
            detail = str(error.detail)
        return answer(CountersignError(detail, code=code))

    async def _outage(request: Request, error: Exception) -> Response:
        log.warning("request failed for an outage", path=request.url.path, error=repr(error))
        return answer(database_away())

    for outage in OUTAGES:
        if not issubclass(outage, CountersignError):
            app.add_exception_handler(outage, _outage)

    @app.exception_handler(ClientDisconnect)
    async def _gone(_: Request, error: ClientDisconnect) -> Response:
        return answer(CountersignError("the caller went away before its request was whole", code="malformed"))

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> Response:
        log.error("request failed", path=request.url.path, error=repr(error), exc_info=error)
        return answer(CountersignError("the gateway could not answer; its log says why", code="internal"))
