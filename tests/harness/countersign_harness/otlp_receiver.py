"""A receiver of OTLP/HTTP in JSON, as a collector is one: keeps the spans that services send."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Seen:
    """A span as it was received; times in seconds."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str | None
    seconds: float
    attributes: dict[str, Any]
    links: tuple[str, ...]  # trace ids
    failed: bool


@dataclass
class OtlpReceiver:
    """Listens on a free port; ``url`` is what services are told."""

    spans: list[Seen] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    url: str = ""
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen."""
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{port}/v1/traces"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def until(self, *names: str, trace_id: str | None = None, seconds: float = 30) -> list[Seen]:
        """The spans of a trace, once all of these names are among them."""
        async with asyncio.timeout(seconds):
            while True:
                found = [span for span in self.spans if trace_id in (None, span.trace_id)]
                if set(names) <= {span.name for span in found}:
                    return found
                await asyncio.sleep(0.05)

    async def _take(self, request: web.Request) -> web.StreamResponse:
        assert request.content_type == "application/json"
        self.bodies.append(await request.read())
        for resource in (await request.json())["resourceSpans"]:
            service = _values(resource["resource"]["attributes"])["service.name"]
            for scope in resource["scopeSpans"]:
                self.spans += [_seen(service, span) for span in scope["spans"]]
        return web.json_response({})


def _seen(service: str, span: dict[str, Any]) -> Seen:
    return Seen(
        service=service,
        name=span["name"],
        kind=span["kind"],
        trace_id=span["traceId"],
        span_id=span["spanId"],
        parent_id=span.get("parentSpanId"),
        seconds=(int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])) / 1e9,
        attributes=_values(span["attributes"]),
        links=tuple(link["traceId"] for link in span["links"]),
        failed=span["status"].get("code") == 2,
    )


def _values(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in attributes}
