"""`countersign login` and `logout`: tokens that last minutes, in a file of the user's, in place of one that lasts."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.markup import escape

from countersign_contracts.errors import CountersignError, Unavailable

from ..client import Client, gateway_url, logins_of, refreshed
from ..output import ago, command, console, print_json

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@command
def login(json: Json = False) -> None:
    """Log in: exchange your token, asked for or read from standard input, for ones that last minutes.

    They are kept in a file that only you can read and refreshed by themselves, until the login ends or you log out.
    """
    from ..settings import ClientSettings

    settings = ClientSettings()
    url = gateway_url(settings)
    issued = Client(url, _own_token()).post("/api/v1/tokens", {})
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


def _own_token() -> str:
    asked = sys.stdin.isatty()
    token = str(typer.prompt("Your token", hide_input=True, err=True)) if asked else sys.stdin.readline()
    if not token.strip():
        raise CountersignError("no token was given: type it, or pipe it in", code="unauthenticated")
    return token.strip()
