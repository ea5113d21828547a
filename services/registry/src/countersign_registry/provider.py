"""The OpenID Connect provider over HTTP: what it says of itself, its keys, and the exchange of a code.

Everything goes through connections whose every address is judged, without redirects and without a proxy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.resolver import ThreadedResolver

from countersign_chassis.outbound import EgressRefused, JudgedConnector
from countersign_contracts.errors import CountersignError, Malformed, Unavailable
from countersign_contracts.model import loads
from countersign_contracts.plain_text import printable
from countersign_contracts.provider_commands import Provider, ProviderCode

from .id_tokens import NotProven
from .nats_users import read_secret

_MAX_BYTES = 262_144
#: Requests under way to the provider: whoever may call the gateway can start some.
_AT_ONCE = 16
_TIMEOUT_S = 5.0
_METADATA_S = 3600.0
_KEYS_S = 600.0
#: Keys that are not known are asked for again no sooner: tokens that name any key at all must not become requests.
_KEYS_AGAIN_S = 5.0


class OpenIdProvider:
    """One provider, by its issuer."""

    def __init__(
        self, issuer: str, client_id: str, secret_file: Path | None, scopes: tuple[str, ...], *, allow_private: bool
    ) -> None:
        self.issuer = issuer
        self.client_id = client_id
        self._secret_file = secret_file
        self._scopes = scopes
        self._allow_private = allow_private
        self._lock = asyncio.Lock()
        self._under_way = 0
        self._metadata: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, dict[str, dict[str, Any]]] | None = None

    async def described(self) -> Provider:
        """What clients are told; raises :class:`Unavailable`."""
        metadata = await self._discovered()
        return Provider(
            issuer=self.issuer,
            authorization_endpoint=self._endpoint(metadata, "authorization_endpoint"),
            client_id=self.client_id,
            scopes=self._scopes,
        )

    async def keys(self, wanted: str) -> Mapping[str, Mapping[str, Any]]:
        """The provider's keys by id; read again where ``wanted`` is not among them, or they are old."""
        async with self._lock:
            at = monotonic()
            if self._keys is not None:
                age = at - self._keys[0]
                if age < _KEYS_AGAIN_S or (age < _KEYS_S and wanted in self._keys[1]):
                    return self._keys[1]
        metadata = await self._discovered()
        found = (await self._ask("GET", self._endpoint(metadata, "jwks_uri")))[1].get("keys")
        listed = found if isinstance(found, list) else []
        keys = {str(key["kid"]): key for key in listed if isinstance(key, dict) and key.get("kid")}
        async with self._lock:
            self._keys = (monotonic(), keys)
        return keys

    async def exchanged(self, proof: ProviderCode) -> str:
        """The ID token for a code; raises :class:`NotProven` where the provider refuses it."""
        metadata = await self._discovered()
        form = {
            "grant_type": "authorization_code",
            "code": proof.code,
            "redirect_uri": proof.redirect_uri,
            "code_verifier": proof.code_verifier,
            "client_id": self.client_id,
        }
        if self._secret_file is not None:
            form["client_secret"] = read_secret(self._secret_file, "client secret of the OpenID provider").strip()
        status, answer = await self._ask("POST", self._endpoint(metadata, "token_endpoint"), form)
        token = answer.get("id_token")
        if status != 200 or not isinstance(token, str):
            why = printable(str(answer.get("error", f"HTTP status {status}")))[:100]
            raise NotProven(f"the provider does not take the code: {why}; log in again")
        return token

    async def _discovered(self) -> dict[str, Any]:
        async with self._lock:
            if self._metadata is not None and monotonic() - self._metadata[0] < _METADATA_S:
                return self._metadata[1]
        status, found = await self._ask("GET", f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if status != 200 or found.get("issuer") != self.issuer:
            raise Unavailable(
                f"what {self.issuer} says of itself is of another issuer, or nothing: compare `oidc_issuer` letter by"
                " letter"
            )
        async with self._lock:
            self._metadata = (monotonic(), found)
        return found

    def _endpoint(self, metadata: Mapping[str, Any], name: str) -> str:
        url = metadata.get(name)
        if not isinstance(url, str) or urlsplit(url).scheme not in ("https", urlsplit(self.issuer).scheme):
            raise Unavailable(f"{self.issuer} names no `{name}` that may be used")
        return url

    async def _ask(self, method: str, url: str, form: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        if self._under_way >= _AT_ONCE:
            raise Unavailable(f"{self._under_way} requests to the OpenID provider are under way; try again")
        self._under_way += 1
        try:
            return await self._request(method, url, form)
        finally:
            self._under_way -= 1

    async def _request(self, method: str, url: str, form: Mapping[str, str] | None) -> tuple[int, dict[str, Any]]:
        encrypted = urlsplit(url).scheme == "https"
        connector = JudgedConnector(ThreadedResolver(), allow_private=self._allow_private, allow_public=encrypted)
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, timeout=timeout
                ) as session,
                session.request(
                    method, url, data=form, allow_redirects=False, headers={"accept": "application/json"}
                ) as response,
            ):
                answer = loads(await _whole(response))
                return response.status, answer if isinstance(answer, dict) else {}
        except (EgressRefused, aiohttp.ClientError, OSError, TimeoutError, Malformed) as error:
            inner = getattr(error, "os_error", error)
            why = str(inner) if isinstance(inner, (EgressRefused, CountersignError)) else type(inner).__name__
            raise Unavailable(f"the OpenID provider {self.issuer} does not answer as one: {why}") from None


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """The body; raises :class:`Malformed` beyond what a provider can have to say."""
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MAX_BYTES:
            raise Malformed(f"more than {_MAX_BYTES} bytes")
    return body
