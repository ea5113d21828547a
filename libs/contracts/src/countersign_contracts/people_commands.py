"""The commands about people: who they are, which groups they are in, and how they prove it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from .approval_rules import GroupName, PersonName
from .command import Command, Done, Rpc
from .fleet import ChannelIdentity, RoleName
from .logins import LoginId
from .model import Frozen, Time

#: The login whose access token came with the request; none: the person's own token did.
OfLogin = Annotated[LoginId | None, Field(description="the login it was asked with; none: the person's own token")]
OneTimeCode = Annotated[str, StringConstraints(pattern=r"^[0-9]{6}$")]


class PersonView(Frozen):
    name: str
    roles: tuple[str, ...]
    status: str
    groups: tuple[GroupName, ...] = ()
    channels: tuple[ChannelIdentity, ...] = ()
    totp: bool = False
    created_at: Time
    revision: int = 0


class People(Frozen):
    """By name; removed ones too."""

    items: tuple[PersonView, ...]
    next: str | None = Field(default=None, description="pass as `after` for the next page; none: there is no more")


class IssuedToken(Frozen):
    """A person's token, shown once."""

    name: str
    roles: tuple[str, ...]
    token: str
    revision: int


class AddPerson(Command):
    """Add a person, or give a known one a new token and roles. Without ``groups`` a known one keeps theirs.

    Raises `invalid` for a role that there is not, `forbidden` where ``by`` may not do what the person may, before or
    after, and `fresh_login`.
    """

    rpc: ClassVar[Rpc] = Rpc("registry", "add_person")
    reply: ClassVar[type[Frozen]] = IssuedToken
    name: PersonName
    roles: tuple[RoleName, ...] = Field(min_length=1, max_length=32)
    groups: tuple[GroupName, ...] | None = Field(default=None, max_length=64)
    by: str
    login_id: OfLogin = None


class SetRoles(Command):
    """The roles a person has from now on; their token and logins stay. Raises as :class:`AddPerson` does."""

    rpc: ClassVar[Rpc] = Rpc("registry", "set_roles")
    reply: ClassVar[type[Frozen]] = PersonView
    name: PersonName
    roles: tuple[RoleName, ...] = Field(min_length=1, max_length=32)
    by: str


class RemovePerson(Command):
    rpc: ClassVar[Rpc] = Rpc("registry", "remove_person")
    reply: ClassVar[type[Frozen]] = Done
    name: str
    by: str


class ListPeople(Command):
    rpc: ClassVar[Rpc] = Rpc("registry", "people")
    reply: ClassVar[type[Frozen]] = People
    limit: int = Field(default=100, ge=1, le=500)
    after: str | None = Field(default=None, max_length=256)


class SetGroups(Command):
    """The groups a person is in from now on."""

    rpc: ClassVar[Rpc] = Rpc("registry", "set_groups")
    reply: ClassVar[type[Frozen]] = PersonView
    name: PersonName
    groups: tuple[GroupName, ...] = Field(max_length=64)
    by: str


class EnrolmentCode(Frozen):
    """Shown once: whoever types it into the channel in time is that person there."""

    code: str
    expires_at: Time


class StartEnrolment(Command):
    """A person wants to be known in a channel; an earlier code of theirs for it is void. Raises `fresh_login`."""

    rpc: ClassVar[Rpc] = Rpc("registry", "start_enrolment")
    reply: ClassVar[type[Frozen]] = EnrolmentCode
    name: PersonName
    channel: Literal["slack"]
    login_id: OfLogin = None


class ConfirmEnrolment(Command):
    """Somebody in the channel typed a code.

    Raises `not_found` for one that is wrong, used or expired, `locked_out` after too many of these, and `conflict` for
    somebody who is enrolled as another person.
    """

    rpc: ClassVar[Rpc] = Rpc("registry", "confirm_enrolment", callers=("slack",))
    reply: ClassVar[type[Frozen]] = PersonView
    channel: Literal["slack"]
    identity: str = Field(min_length=1, max_length=256)
    code: str = Field(min_length=1, max_length=64)


class RemoveChannel(Command):
    """A person is known by that identity no more."""

    rpc: ClassVar[Rpc] = Rpc("registry", "remove_channel")
    reply: ClassVar[type[Frozen]] = PersonView
    name: PersonName
    channel: Literal["slack"]
    identity: str = Field(min_length=1, max_length=256)
    by: str


class TotpSecret(Frozen):
    """Shown once: what an authenticator app takes (RFC 6238), as text and as `otpauth` URI."""

    secret: str
    uri: str


class StartTotp(Command):
    """A new one-time code generator, in force once a code of it is confirmed; the present one stays until then.

    ``code`` is one of the present generator: who has none may not replace it. Raises as :class:`VerifyTotp` does, and
    `fresh_login` for the first one.
    """

    rpc: ClassVar[Rpc] = Rpc("registry", "start_totp")
    reply: ClassVar[type[Frozen]] = TotpSecret
    name: PersonName
    code: OneTimeCode | None = None
    login_id: OfLogin = None


class ConfirmTotp(Command):
    """The first code of a new generator. Raises `not_found` if none was started or it is too late, or `wrong_code`."""

    rpc: ClassVar[Rpc] = Rpc("registry", "confirm_totp")
    reply: ClassVar[type[Frozen]] = PersonView
    name: PersonName
    code: OneTimeCode


class VerifyTotp(Command):
    """Whether a code is the person's and fresh; each is taken once.

    Raises `wrong_code`, `locked_out` after too many wrong ones, `conflict` where the person has no generator, and
    `not_found` for a person who is not there any more.
    """

    rpc: ClassVar[Rpc] = Rpc("registry", "verify_totp")
    reply: ClassVar[type[Frozen]] = Done
    name: PersonName
    code: OneTimeCode


class RemoveTotp(Command):
    """A person has no one-time code generator any more. Oneself needs a ``code`` of it: an admin must not."""

    rpc: ClassVar[Rpc] = Rpc("registry", "remove_totp")
    reply: ClassVar[type[Frozen]] = PersonView
    name: PersonName
    by: str
    code: OneTimeCode | None = None
