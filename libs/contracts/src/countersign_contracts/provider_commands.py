"""Logging in with an OpenID Connect provider: what clients are told of it, and the code that they bring from it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from .command import Command, Rpc
from .logins import IssuedAccess
from .model import Frozen


class Provider(Frozen):
    """Where people log in, and as which client (RFC 8252: a public one, with PKCE)."""

    issuer: str
    authorization_endpoint: str
    client_id: str
    scopes: tuple[str, ...]


class ProviderCode(Frozen):
    """What an authorization request came back with (RFC 6749 section 4.1), and what was made for it."""

    code: str = Field(min_length=1, max_length=4096)
    code_verifier: str = Field(pattern=r"^[A-Za-z0-9._~-]{43,128}$", description="RFC 7636")
    redirect_uri: str = Field(
        pattern=r"^http://(127\.0\.0\.1|\[::1\]):[0-9]{1,5}/callback$", description="loopback (RFC 8252 section 7.3)"
    )
    nonce: str = Field(pattern=r"^[A-Za-z0-9_-]{16,128}$", description="of this authorization request")


class DescribeProvider(Command):
    """Raises `not_found` where none is configured, and `unavailable` where it does not answer."""

    rpc: ClassVar[Rpc] = Rpc("registry", "provider", timeout_s=12)
    reply: ClassVar[type[Frozen]] = Provider


class LogInWithProvider(Command):
    """Exchange the code and see who it is.

    Raises `unauthenticated` for what proves nobody, `forbidden` for somebody who is no person here, `not_found` where
    no provider is configured.
    """

    rpc: ClassVar[Rpc] = Rpc("registry", "log_in_with_provider", timeout_s=25)
    reply: ClassVar[type[Frozen]] = IssuedAccess
    proof: ProviderCode
