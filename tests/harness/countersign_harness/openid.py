"""A small OpenID provider over real HTTP, with real keys and signatures; what it says can be made wrong."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

CLIENT = "countersign-cli"
SECRET = "the client's own"


class Key:
    """A key of the provider, by its algorithm."""

    def __init__(self, kid: str, algorithm: str) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.private: Any
        if algorithm == "ES256":
            self.private = ec.generate_private_key(ec.SECP256R1())
        elif algorithm == "EdDSA":
            self.private = ed25519.Ed25519PrivateKey.generate()
        else:
            self.private = rsa.generate_private_key(65537, 2048)

    def public(self) -> dict[str, Any]:
        """As in a JWKS."""
        form = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.private.public_key(), as_dict=True)
        return {**form, "kid": self.kid, "use": "sig", "alg": self.algorithm}

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """A signed token."""
        return jwt.encode(claims, self.private, self.algorithm, {"kid": self.kid, **header})


class OpenId:
    """Everybody who asks is who :attr:`who` says, without being asked anything."""

    def __init__(self) -> None:
        self.key = Key("first", "RS256")
        self.listed = [self.key]
        self.who: dict[str, Any] = {}
        self.changes: dict[str, Any] = {}  # of the claims; None: left out
        self.token: Callable[[dict[str, Any]], str] = lambda claims: self.key.sign(claims)
        self.secret: str | None = None
        self.asked: list[str] = []
        self.issuer = ""
        self._codes: dict[str, dict[str, str]] = {}
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._describe)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        app.router.add_get("/jwks", self._jwks)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.issuer = f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def settings(self, **more: Any) -> dict[str, Any]:
        """The registry's."""
        return {"oidc_issuer": self.issuer, "oidc_client_id": CLIENT, "oidc_allow_private": True, **more}

    def rotate(self, algorithm: str = "RS256") -> None:
        """Another key signs from now on, and is listed alone."""
        self.key = Key(secrets.token_hex(4), algorithm)
        self.listed = [self.key]

    async def proof(self, **wrong: str) -> dict[str, str]:
        """What a client has after its user logged in; made wrong where said."""
        verifier, nonce, redirect = secrets.token_urlsafe(48), secrets.token_urlsafe(16), "http://127.0.0.1:1/callback"
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": CLIENT,
            "redirect_uri": redirect,
            "scope": "openid email",
            "state": "s",
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        async with aiohttp.ClientSession(trust_env=False) as session:
            url = f"{self.issuer}/authorize?{urlencode(query)}"
            async with session.get(url, allow_redirects=False) as response:
                [code] = parse_qs(urlsplit(response.headers["Location"]).query)["code"]
        return {"code": code, "code_verifier": verifier, "redirect_uri": redirect, "nonce": nonce, **wrong}

    async def _describe(self, _: web.Request) -> web.Response:
        self.asked.append("configuration")
        return web.json_response(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/jwks",
            }
        )

    async def _jwks(self, request: web.Request) -> web.StreamResponse:
        """In pieces, as what is long comes."""
        self.asked.append("keys")
        body = json.dumps({"keys": [key.public() for key in self.listed]}).encode()
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for part in (body[:100], body[100:]):
            await response.write(part)
            await asyncio.sleep(0.02)
        await response.write_eof()
        return response

    async def _authorize(self, request: web.Request) -> web.Response:
        query = dict(request.query)
        if query.get("client_id") != CLIENT or query.get("code_challenge_method") != "S256":
            return web.Response(status=400)
        code = secrets.token_urlsafe(16)
        self._codes[code] = query
        back = urlencode({"code": code, "state": query["state"], "iss": self.issuer})
        return web.Response(status=302, headers={"Location": f"{query['redirect_uri']}?{back}"})

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        asked = self._codes.pop(str(form["code"]), None)
        digest = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != form["redirect_uri"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        if self.secret is not None and form.get("client_secret") != self.secret:
            return web.json_response({"error": "invalid_client"}, status=401)
        at = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "account-1",
            "iat": at,
            "exp": at + 300,
            "nonce": asked["nonce"],
            "email_verified": True,
            **self.who,
            **self.changes,
        }
        said = {name: value for name, value in claims.items() if value is not None}
        token = await asyncio.to_thread(self.token, said)
        return web.json_response({"access_token": "unused", "token_type": "Bearer", "id_token": token})
