"""`countersign login` and `logout`: tokens that last minutes, in a file of the user's, in place of one that lasts."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.markup import escape

from countersign_contracts.errors import CountersignError, Unavailable

from ..client import Client, gateway_url, logins_of, refreshed
from ..output import ago, command, console, errors, print_json

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@command
def login(
    token: Annotated[
        bool, typer.Option("--token", help="With your own token, also where there is an OpenID provider.")
    ] = False,
    browser: Annotated[bool, typer.Option(help="Open the provider's page; its address is shown anyway.")] = True,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where the provider's answer is listened for on 127.0.0.1; 0: any.")
    ] = 0,
    within_s: Annotated[float, typer.Option(min=1, help="How long you may take at the provider.")] = 300,
    json: Json = False,
) -> None:
    """Log in at the OpenID provider, or with your own token, asked for or read from standard input.

    What comes of it lasts minutes, is kept in a file that only you can read, and refreshed by itself until the login
    ends or you log out. Over ssh: --no-browser --port N, and `ssh -L N:127.0.0.1:N` from where the browser is.
    """
    from ..settings import ClientSettings

    settings = ClientSettings()
    url = gateway_url(settings)
    provider = None if token else _provider(url)
    if provider is None:
        issued = Client(url, _own_token()).post("/api/v1/tokens", {})
    else:
        issued = Client(url, "").post("/api/v1/tokens", {"provider": _proof(provider, browser, port, within_s)})
    logins_of(settings).put(url, issued)
    if json:
        return print_json({name: issued[name] for name in ("login_id", "name", "roles", "refresh_expires_at")})
    ends = ago(issued["refresh_expires_at"])
    console.print(f"You are {escape(issued['name'])} with {', '.join(issued['roles'])}; the login ends {ends}")


@command
def logout() -> None:
    """Log out: the login ends, and none of its tokens counts any more."""
    from ..settings import ClientSettings

    settings = ClientSettings()
    url = gateway_url(settings)
    store = logins_of(settings)
    kept = store.get(url)
    if kept is None:
        raise CountersignError(f"you are not logged in at {url}", code="not_found")
    try:
        token = store.access_token(url, refreshed)
        Client(url, token).delete(f"/api/v1/tokens/{kept['login_id']}")
    except Unavailable as error:
        store.forget(url)
        raise Unavailable(
            f"the login is forgotten here, but it has not ended: {error.detail}; it ends"
            f" {ago(kept['refresh_expires_at'])}, or by DELETE /api/v1/tokens/{kept['login_id']}"
        ) from None
    except CountersignError as error:
        if error.code != "unauthenticated":  # it has ended already
            raise
    store.forget(url)
    console.print(f"you are logged out of {url}")


def _provider(url: str) -> Any:
    try:
        return Client(url, "").get("/api/v1/tokens/provider")
    except CountersignError as error:
        if error.code != "not_found":
            raise
        return None


def _proof(provider: Any, browser: bool, port: int, within_s: float) -> dict[str, str]:
    from ..browser_login import authorize

    def show(url: str) -> None:
        errors.print(f"Log in at {escape(str(provider['issuer']))}:\n\n  {escape(url)}\n")

    if not browser:
        return authorize(provider, port=port, within_s=within_s, show=show, browse=lambda _: None)
    return authorize(provider, port=port, within_s=within_s, show=show)


def _own_token() -> str:
    asked = sys.stdin.isatty()
    token = str(typer.prompt("Your token", hide_input=True, err=True)) if asked else sys.stdin.readline()
    if not token.strip():
        raise CountersignError("no token was given: type it, or pipe it in", code="unauthenticated")
    return token.strip()
