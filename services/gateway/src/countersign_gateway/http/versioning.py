"""Which version of the API is asked for: by path, by header, by query parameter, or by several that agree.

A version is Major.Minor.Patch (https://semver.org). The path names the major one (``/api/v1/…``); header
``API-Version`` and parameter ``api_version`` name one as exactly as the caller likes, and take the path's place where
it names none (``/api/…``). Whoever asks is answered by the version that is served of that major one, and told which.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from countersign_contracts.errors import CountersignError

from .problems import answer

HEADER, PARAMETER = "API-Version", "api_version"
Version = tuple[int, int, int]
#: By their major number, the versions that are served.
SERVED: Mapping[int, Version] = {1: (1, 0, 0)}
_PREFIX = "/api/"
_IN_PATH = re.compile(r"v(\d{1,4})(?:/|$)", re.ASCII)
_VERSION = re.compile(r"(\d{1,4})(?:\.(\d{1,4}))?(?:\.(\d{1,4}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The version that answers, and the path where it does."""

    version: Version
    path: str


def text(version: Version) -> str:
    """Major.Minor.Patch."""
    return ".".join(map(str, version))


def choose(
    path: str, header: Sequence[str], parameter: Sequence[str], served: Mapping[int, Version] = SERVED
) -> Chosen:
    """What a request to ``path`` asks for. Raises `unknown_version` saying what is served.

    A minor version newer than what is served is not: what the caller counts on may not be there.
    """
    rest = path.removeprefix(_PREFIX)
    in_path = _IN_PATH.match(rest)
    asked = [(f"the path says v{in_path[1]}", in_path[1])] if in_path else []
    asked += [(f"header {HEADER} says {each!r}", each) for each in header]
    asked += [(f"parameter {PARAMETER} says {each!r}", each) for each in parameter]
    if not asked:
        raise _refusal(f"{path} names no version of the API", served)
    found = {said: _served(version, served) for said, version in asked}
    if wrong := [said for said, version in found.items() if version is None]:
        raise _refusal(f"{wrong[0]}, which is not served", served)
    versions = {version for version in found.values() if version is not None}
    if len(versions) > 1:
        raise _refusal(f"{' and '.join(found)}: ask for one", served)
    version = versions.pop()
    return Chosen(version, path if in_path else f"{_PREFIX}v{version[0]}/{rest}")


def _served(asked: str, served: Mapping[int, Version]) -> Version | None:
    found = _VERSION.fullmatch(asked.strip())
    if found is None:
        return None
    version = served.get(int(found[1]))
    wanted = (int(found[1]), int(found[2] or 0), int(found[3] or 0))
    return version if version is not None and wanted <= version else None


def _refusal(what: str, served: Mapping[int, Version]) -> CountersignError:
    versions = [text(version) for version in served.values()]
    major = max(served)
    return CountersignError(
        f"{what}; served: {', '.join(versions)}; name it by the path (/api/v{major}/…), by header {HEADER}: {major} or"
        f" by ?{PARAMETER}={major}",
        code="unknown_version",
        versions=versions,
    )


class Versioning:
    """ASGI middleware: sends each request below ``/api/`` to the version it asks for, which the answer names."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not scope["path"].startswith(_PREFIX):
            await self._app(scope, receive, send)
            return
        wanted = HEADER.lower().encode()
        header = [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]
        parameter: list[str] = []
        if PARAMETER.encode() in scope["query_string"]:
            query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            parameter = [value for name, value in query if name == PARAMETER]
        try:
            chosen = choose(scope["path"], header, parameter)
        except CountersignError as error:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": error.detail[:120]})
            else:
                await answer(error)(scope, receive, send)
            return
        negotiated = chosen.path != scope["path"]
        if negotiated:
            scope = {**scope, "path": chosen.path, "raw_path": chosen.path.encode("utf-8")}

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[HEADER] = text(chosen.version)
                if negotiated:
                    headers.add_vary_header(HEADER)
            await send(message)

        await self._app(scope, receive, told)
