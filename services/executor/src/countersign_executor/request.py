"""A tool and its arguments become one HTTP request, or an error that says why not. Pure.

An argument can only fill the place that the tool gives it: scheme, host and the path around it are the
tool's. Path values are percent-encoded as one segment, and refused where a server that decodes too eagerly
could walk out of it. Headers are :mod:`.caller`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

import orjson

from countersign_contracts.catalogue import HttpCall
from countersign_contracts.templates import pieces, placeholders, shown, stray_brace

_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\]")
_URL_TEXT = re.compile(r"[!-~]*")
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SEPARATORS = re.compile(r"[/\\]")


class InvalidArguments(Exception):
    """The arguments do not fit the request that the tool declares; nothing was sent."""


class InvalidCall(Exception):
    """The declared call makes no sense. ``field`` of ``http`` is wrong, ``allowed`` would be right."""

    def __init__(self, field: str, message: str, allowed: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.message = message
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What is sent, but for its headers. ``url`` is final: it must not be quoted or normalised again.

    ``sensitive`` are texts in the body that are masked in everything that comes back; None where nothing is sensitive.
    """

    method: str
    url: str
    body: bytes | None = field(repr=False)
    sensitive: tuple[str, ...] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A declared call, made ready: ``path`` is literal text and argument names by turns."""

    method: str
    origin: str
    host: str
    static_query: str
    path: tuple[str, ...]
    call: HttpCall

    @classmethod
    def of(cls, call: HttpCall) -> Endpoint:
        """Read the URL template; raises :class:`InvalidCall`."""
        parts = _split(call.url)
        named = placeholders(parts.path)
        if missing := [name for name in call.path if name not in named]:
            raise InvalidCall("path", f"the URL has no `{{{missing[0]}}}`", ", ".join(named) or "nothing")
        if unlisted := [name for name in named if name not in call.path]:
            raise InvalidCall("url", f"`{{{unlisted[0]}}}` is not listed under `path`", ", ".join(call.path))
        if call.body and call.method not in _BODY_METHODS:
            raise InvalidCall("body", f"a {call.method} request has no body", "query, path")
        path = tuple(pieces(parts.path or "/"))
        return cls(
            method=call.method,
            origin=f"{parts.scheme}://{parts.netloc}",
            host=str(parts.hostname),
            static_query=parts.query,
            path=path,
            call=call,
        )

    def request(self, args: Mapping[str, Any]) -> HttpRequest:
        """The request for ``args``; raises :class:`InvalidArguments`.

        An argument that is absent leaves its field out, and so does a null in path or query; every argument
        given must have a place, since what was approved is what is sent.
        """
        call = self.call
        if stray := sorted(set(args) - {*call.path, *call.query, *call.body}):
            raise InvalidArguments(f"the tool sends no argument `{stray[0]}`")
        try:
            url = self.origin + self._path(args)
            query = "&".join(part for part in (self.static_query, self._query(args)) if part)
            body = self._body(args)
        except (UnicodeEncodeError, orjson.JSONEncodeError) as error:
            raise InvalidArguments(f"the arguments cannot be sent: {error}") from None
        return HttpRequest(self.method, f"{url}?{query}" if query else url, body)

    def _path(self, args: Mapping[str, Any]) -> str:
        filled = [text if index % 2 == 0 else _segment(text, args.get(text)) for index, text in enumerate(self.path)]
        path = "".join(filled)
        if _walks(path):
            raise InvalidArguments("the arguments put `.` or `..` segments into the path")
        return path

    def _query(self, args: Mapping[str, Any]) -> str:
        pairs: list[tuple[str, str]] = []
        for name in self.call.query:
            value = args.get(name)
            for each in value if isinstance(value, list) else [value]:
                if each is not None:
                    pairs.append((name, _scalar(name, each)))
        return urlencode(pairs, quote_via=quote, safe="")

    def _body(self, args: Mapping[str, Any]) -> bytes | None:
        if not self.call.body:
            return None
        return orjson.dumps({name: args[name] for name in self.call.body if name in args})


def _split(url: str) -> SplitResult:
    allowed = "for example https://api.example.com/tickets/{ticket_id}"
    if not _URL_TEXT.fullmatch(url):
        raise InvalidCall("url", "a URL is ASCII text without spaces", allowed)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidCall("url", f"not a URL: {error}", allowed) from None
    if parts.scheme not in ("http", "https"):
        raise InvalidCall("url", "the URL needs a scheme", "http, https")
    if "@" in parts.netloc:
        raise InvalidCall("url", "a URL holds no credentials; use a header with `${secret:NAME}`", allowed)
    if parts.hostname is None or not _HOST.fullmatch(re.sub(r":\d+$", "", parts.netloc.lower())):
        raise InvalidCall("url", "the URL needs a fixed host, without placeholders", allowed)
    if port == 0 or parts.netloc.endswith(":"):
        raise InvalidCall("url", "the port is not one", "1 to 65535")
    if parts.fragment or "#" in url:
        raise InvalidCall("url", "a URL that is called has no fragment", allowed)
    if "{" in parts.query or "}" in parts.query:
        raise InvalidCall("url", "placeholders stand in the path; use `query` for parameters", allowed)
    if stray_brace(parts.path):
        raise InvalidCall("url", "a brace that is no `{argument}`", allowed)
    if _walks(re.sub(r"\{\w+\}", "x", parts.path)) or "\\" in parts.path:
        raise InvalidCall("url", "the path has `.` or `..` segments", allowed)
    return parts


def _segment(name: str, value: Any) -> str:
    text = _scalar(name, value)
    if not text:
        raise InvalidArguments(f"`{name}` is part of the path and may not be empty")
    if _CONTROL.search(text):
        raise InvalidArguments(f"`{name}` is part of the path and may not hold control characters")
    return quote(text, safe="")


def _walks(text: str) -> bool:
    """Whether a server that decodes ``text`` once or again could see a dot segment in it (``;`` begins its
    parameters).
    """
    for _ in range(4):
        if any(part.partition(";")[0] in (".", "..") for part in _SEPARATORS.split(text)):
            return True
        if (decoded := unquote(text)) == text:
            return False
        text = decoded
    return True


def _scalar(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return shown(value)
    raise InvalidArguments(f"`{name}` is part of the URL and must be text, a number or a boolean")
