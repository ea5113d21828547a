"""Whether a tool's declared HTTP call makes sense: URL, destination, headers, secrets. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from countersign_chassis.egress import refusal
from countersign_contracts.catalogue import FileError, Tool
from countersign_contracts.documents import Parsed

from .request import Endpoint, InvalidCall
from .secrets import Secrets, references, stray_reference

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_LITERAL = re.compile(r"[0-9.]+|\[.*\]|.*:.*")
#: Set by the executor or by HTTP itself.
_RESERVED = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "idempotency-key",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)


def http_errors(parsed: Parsed, tool: Tool, secrets: Secrets) -> Iterator[FileError]:
    """Everything wrong with the tool's ``http``."""
    try:
        endpoint = Endpoint.of(tool.http)
    except InvalidCall as error:
        yield parsed.error(("http", error.field), error.message, error.allowed)
        host = None
    else:
        yield from _destination_errors(parsed, endpoint)
        host = endpoint.host
    seen: set[str] = set()
    for name, value in tool.http.headers.items():
        yield from _header_errors(parsed, name, value, secrets, host)
        if name.lower() in seen:
            yield parsed.error(("http", "headers", name), f"header `{name}` is there twice")
        seen.add(name.lower())


def _destination_errors(parsed: Parsed, endpoint: Endpoint) -> Iterator[FileError]:
    """An address written as such is judged now; a name only when it is resolved for a call."""
    if not _LITERAL.fullmatch(endpoint.host):
        return
    reason = refusal(endpoint.host.strip("[]"), allow_private=endpoint.call.allow_private)
    if reason is not None:
        opened = refusal(endpoint.host.strip("[]"), allow_private=True) is None
        yield parsed.error(
            ("http", "url"), reason, "http.allow_private: true" if opened else "a public address or name"
        )


def _header_errors(parsed: Parsed, name: str, value: str, secrets: Secrets, host: str | None) -> Iterator[FileError]:
    loc = ("http", "headers", name)
    if not _HEADER.fullmatch(name):
        yield parsed.error(loc, f"{name!r} cannot name a header", "letters, digits, `-`, `_`")
    elif name.lower() in _RESERVED:
        yield parsed.error(loc, f"header `{name}` is set by Countersign or by HTTP itself")
    if not value.isascii() or not (value.isprintable() or not value):
        yield parsed.error(loc, "a header's value is printable ASCII on one line")
    if stray_reference(value):
        yield parsed.error(loc, "`${…}` refers to a secret", "${secret:NAME}")
    for secret in references(value):
        if secret not in secrets.names:
            yield parsed.error(
                loc,
                f"the executor has no secret `{secret}`",
                ", ".join(secrets.names) or "none are set (secrets_file)",
            )
        elif host is not None and not secrets.is_for(secret, host):
            yield parsed.error(loc, f"secret `{secret}` is not for {host}", ", ".join(secrets.hosts(secret)))
