"""One HTTP call.

A prepared request goes out once, an :class:`Attempt` comes back. Whether to try again is not its matter.

No redirects, no cookies, no proxies, no credentials from the environment. What is not sent is told apart
from what may have arrived.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from countersign_chassis.outbound import EgressRefused
from countersign_contracts.actions import Failure
from countersign_contracts.catalogue import HttpCall
from countersign_contracts.model import now

from .answer import Body
from .masking import Masking
from .network import Gate, GatedConnector, Passage, passing
from .outcome import Attempt, judged_status, retry_after_s
from .request import HttpRequest
from .secrets import Secrets

_CHUNK_BYTES = 64 * 1024


class Connector:
    """Keeps connections: one pool for public addresses only, one for tools that declare ``allow_private``.

    The pools are apart so that a connection to a private address, kept by one tool, is never another's way
    around its own declaration.
    """

    def __init__(
        self,
        *,
        connect_timeout_s: float,
        keepalive_s: float,
        dns_ttl_s: int,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._keepalive_s = keepalive_s
        self._dns_ttl_s = dns_ttl_s
        self._resolver = resolver
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def open(self) -> None:
        """Make the pools; connects to nothing."""
        self._sessions = {private: self._session(private) for private in (False, True)}

    async def close(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()
        self._sessions = {}

    def _session(self, allow_private: bool) -> aiohttp.ClientSession:
        pool = GatedConnector(
            self._resolver or ThreadedResolver(),
            allow_private=allow_private,
            limit=0,  # bounded before a call is claimed, by host and in all
            keepalive_timeout=self._keepalive_s,
            force_close=False,
            use_dns_cache=self._dns_ttl_s > 0,
            ttl_dns_cache=self._dns_ttl_s or None,
        )
        return aiohttp.ClientSession(
            connector=pool, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, raise_for_status=False
        )

    async def attempt(
        self, call: HttpCall, request: HttpRequest, headers: Mapping[str, str], secrets: Secrets | Masking, gate: Gate
    ) -> Attempt:
        """Send ``request`` once. Raises only what ``gate`` raises; then nothing was sent."""
        with passing(gate) as passage:
            try:
                return await self._send(call, request, headers, secrets)
            except EgressRefused as error:
                return _failed(passage, "egress_refused", str(error), secrets)
            except aiohttp.ClientConnectorError as error:
                if isinstance(error.os_error, EgressRefused):
                    return _failed(passage, "egress_refused", str(error.os_error), secrets)
                return _failed(passage, "connection", f"cannot connect: {_told(error.os_error)}", secrets)
            except TimeoutError:
                what = f"no answer within {call.timeout_s:g} s" if passage.sent else "no connection in time"
                return _failed(passage, "timeout", what, secrets)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                what = "the connection was lost" if passage.sent else "cannot connect"
                return _failed(passage, "connection", f"{what}: {_told(error)}", secrets)

    async def _send(
        self, call: HttpCall, request: HttpRequest, headers: Mapping[str, str], secrets: Secrets | Masking
    ) -> Attempt:
        timeout = aiohttp.ClientTimeout(total=call.timeout_s, sock_connect=min(self._connect_timeout_s, call.timeout_s))
        async with self._sessions[call.allow_private].request(
            request.method,
            URL(request.url, encoded=True),
            data=request.body,
            headers=headers,
            allow_redirects=False,
            timeout=timeout,
        ) as response:
            if not 100 <= response.status <= 999:
                raise ValueError(f"{response.status} is no HTTP status")
            body = Body(call.response_limit_bytes)
            failure = judged_status(response.status)
            whole = True
            cut: Failure | None = None
            try:
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    if not body.feed(chunk):
                        whole = False
                        response.close()
                        break
            except TimeoutError:
                whole, cut = (
                    False,
                    Failure(code="timeout", message=f"the answer took longer than {call.timeout_s:g} s"),
                )
            except (aiohttp.ClientError, OSError) as error:
                whole, cut = (
                    False,
                    Failure(code="connection", message=f"the answer broke off: {_told(error)}"),
                )
            answer = body.answer(response.status, response.headers.get("Content-Type", ""), secrets, whole=whole)
            wait = retry_after_s(response.headers.get("Retry-After"), now())
        if failure is None and cut is not None:
            # it began to say yes: whether the effect happened is not known from half an answer
            message = secrets.redact(f"{cut.message} (status {answer.status})")
            return Attempt("lost", answer, Failure(code=cut.code, message=message), wait)
        return Attempt("answered", answer, failure, wait)


def _failed(passage: Passage, code: str, message: str, secrets: Secrets | Masking) -> Attempt:
    return Attempt("lost" if passage.sent else "not_sent", failure=Failure(code=code, message=secrets.redact(message)))


def _told(error: BaseException | Any) -> str:
    return str(error) or type(error).__name__
