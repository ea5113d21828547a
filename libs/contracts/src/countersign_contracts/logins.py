"""Logins: what a person, or automation, exchanged a proof of who they are for, once; commands, events, the projection.

A login is a family of tokens: access tokens that last minutes, one after another, and the refresh token that gets the
next one, replaced at each use (RFC 9700 section 4.14). It ends when it is said to, with the person, or after its time.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from .approval_rules import PersonName
from .command import Command, Rpc
from .event import Event, Spec
from .fleet import person_key
from .model import Frozen, Time

LoginId = Annotated[str, StringConstraints(pattern=r"^lgn_[0-9a-f]{32}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
#: By which proof: the person's own token, or an account at the OpenID provider.
LoginProof = Literal["token", "provider"]
#: `reused`: a refresh token came that was exchanged before, so that somebody has a copy; `replaced`: the person has
#: more logins than they may, or a new token.
LoginEnd = Literal["revoked", "reused", "replaced", "removed"]


class LoginsRecord(Frozen):
    """The logins of one person that have not ended: bucket ``logins``. An access token of any other counts nothing."""

    name: str
    logins: tuple[LoginId, ...]
    revision: int = Field(ge=1)

    @property
    def key(self) -> str:
        """The bucket's key."""
        return person_key(self.name)


class LoginView(Frozen):
    """A login, without its secrets."""

    login_id: LoginId
    name: str
    proof: LoginProof
    started_at: Time
    refreshed_at: Time
    expires_at: Time


class Logins(Frozen):
    items: tuple[LoginView, ...]


class IssuedAccess(Frozen):
    """An access token and what gets the next one; each is shown once."""

    login_id: LoginId
    name: str
    roles: tuple[str, ...]
    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  (RFC 6750)
    expires_at: Time
    refresh_token: str
    refresh_expires_at: Time
    revision: int = Field(description="of the person's record in bucket `logins`")


class EndedLogin(Frozen):
    """Whose login it was, if it was there, and the revision of their record that does not name it."""

    name: str | None = None
    revision: int = 0


class LogIn(Command):
    """Somebody has a person's token, of which this is the SHA-256. Raises `unauthenticated`."""

    rpc: ClassVar[Rpc] = Rpc("registry", "log_in")
    reply: ClassVar[type[Frozen]] = IssuedAccess
    token_sha256: Sha256


class RefreshLogin(Command):
    """Somebody has a refresh token, of which this is the SHA-256: it counts once.

    Raises `unauthenticated`; for one that was exchanged before, its login has ended with that.
    """

    rpc: ClassVar[Rpc] = Rpc("registry", "refresh_login")
    reply: ClassVar[type[Frozen]] = IssuedAccess
    refresh_sha256: Sha256


class ListLogins(Command):
    """Logins that have not ended, of one person or of all, the latest first."""

    rpc: ClassVar[Rpc] = Rpc("registry", "logins")
    reply: ClassVar[type[Frozen]] = Logins
    name: PersonName | None = None
    limit: int = Field(default=100, ge=1, le=500)


class EndLogin(Command):
    """A login ends; again is harmless. ``of``: only if it is that person's. Raises `not_found`."""

    rpc: ClassVar[Rpc] = Rpc("registry", "end_login")
    reply: ClassVar[type[Frozen]] = EndedLogin
    login_id: LoginId
    of: PersonName | None = None
    by: str


class LoginEvent(Event):
    """An event about one login; no secret is in it, and no hash of one."""

    login_id: LoginId
    person: str
    at: Time

    def about(self) -> str:
        return self.login_id

    def token(self) -> str:
        return "people"

    def event_id(self) -> str:
        return f"{self.login_id}.{self.spec.name}"


class LoginStarted(LoginEvent):
    """A person, or who has their token, logged in."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.login_started.{token}", ("registry",))
    proof: LoginProof
    expires_at: Time


class LoginEnded(LoginEvent):
    """None of its tokens counts any more."""

    spec: ClassVar[Spec] = Spec("FLEET", "fleet.login_ended.{token}", ("registry",))
    reason: LoginEnd
    by: str
