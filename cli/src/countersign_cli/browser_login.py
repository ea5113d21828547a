"""Logging in with a browser: an authorization request with PKCE, and the loopback redirect that answers it (RFC 8252).

What comes back is exchanged by the control plane, not here: a secret of the client, where there is one, stays there.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import webbrowser
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from time import monotonic
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from countersign_contracts.errors import CountersignError
from countersign_contracts.plain_text import printable

_PAGE = "<!doctype html><meta charset=utf-8><title>Countersign</title><p>{}"


def authorize(
    provider: Mapping[str, Any],
    *,
    port: int,
    within_s: float,
    show: Callable[[str], None],
    browse: Callable[[str], Any] = webbrowser.open,
) -> dict[str, str]:
    """What POST /api/v1/tokens takes as `provider`, once somebody logged in there.

    ``port``: where the answer is listened for, 0 any free one. ``show`` is given the address to open, and so is
    ``browse``. Raises :class:`CountersignError` when nobody logs in for ``within_s`` seconds, or the provider refuses.
    """
    answers: list[dict[str, list[str]]] = []
    try:
        server = _listen(port, answers)
    except OSError as error:
        raise CountersignError(
            f"nothing can listen on 127.0.0.1:{port}: {error.strerror}; name another --port"
        ) from None
    with server:
        redirect_uri = f"http://127.0.0.1:{server.server_address[1]}/callback"
        verifier, nonce, state = (secrets.token_urlsafe(n) for n in (48, 24, 24))
        url = _request(provider, redirect_uri, verifier, nonce, state)
        show(url)
        browse(url)
        ends = monotonic() + within_s
        while (left := ends - monotonic()) > 0:
            server.timeout = left
            server.handle_request()
            while answers:
                code = _code(answers.pop(0), state, str(provider["issuer"]))
                if code is not None:
                    return {"code": code, "code_verifier": verifier, "redirect_uri": redirect_uri, "nonce": nonce}
    raise CountersignError(f"nobody logged in within {within_s:.0f} s; try again", code="unauthenticated")


def _request(provider: Mapping[str, Any], redirect_uri: str, verifier: str, nonce: str, state: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    query = {
        "response_type": "code",
        "client_id": provider["client_id"],
        "redirect_uri": redirect_uri,
        "scope": " ".join(provider["scopes"]),
        "state": state,
        "nonce": nonce,
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    endpoint = str(provider["authorization_endpoint"])
    if urlsplit(endpoint).scheme not in ("https", "http"):
        raise CountersignError(f"the provider's address is none for a browser: {printable(endpoint)}")
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"


def _code(answer: Mapping[str, list[str]], state: str, issuer: str) -> str | None:
    """The code, where the answer is to this request; raises what the provider refused."""
    one = {name: values[0] for name, values in answer.items() if len(values) == 1}
    # whoever else finds the port is not heard; and nobody answers in another provider's place (RFC 9207)
    if not secrets.compare_digest(one.get("state", "").encode(), state.encode()) or one.get("iss", issuer) != issuer:
        return None
    if "error" in one:
        said = printable(one.get("error_description", one["error"]))[:200]
        raise CountersignError(f"the provider refused: {said}", code="unauthenticated")
    return one.get("code")


def _listen(port: int, answers: list[dict[str, list[str]]]) -> HTTPServer:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # who connects and says nothing holds up nobody for long

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            found = asked.path == "/callback"
            if found:
                answers.append(parse_qs(asked.query))
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Security-Policy", "default-src 'none'")
            self.end_headers()
            self.wfile.write(_PAGE.format("Go back to the terminal." if found else "Nothing is here.").encode())

        def log_message(self, *_: Any) -> None:
            """Nothing: what is logged would show the code."""

    return HTTPServer(("127.0.0.1", port), Handler)
