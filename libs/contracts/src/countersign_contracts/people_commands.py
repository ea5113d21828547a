"""The commands about people: who they are, which groups they are in, and how they prove it."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from .approval_rules import GroupName, PersonName
from .command import Command, Done, Rpc
from .fleet import ChannelIdentity
from .model import Frozen, Time


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
    items: tuple[PersonView, ...]


class IssuedToken(Frozen):
    """A person's token, shown once."""

    name: str
    roles: tuple[str, ...]
    token: str
    revision: int


class AddPerson(Command):
    """Add a person, or give a known one a new token and roles. Without ``groups`` a known one keeps theirs."""

    rpc: ClassVar[Rpc] = Rpc("registry", "add_person")
    reply: ClassVar[type[Frozen]] = IssuedToken
    name: PersonName
    roles: tuple[Literal["admin", "operator", "approver", "reader"], ...] = Field(min_length=1)
    groups: tuple[GroupName, ...] | None = Field(default=None, max_length=64)
    by: str


class RemovePerson(Command):
    rpc: ClassVar[Rpc] = Rpc("registry", "remove_person")
    reply: ClassVar[type[Frozen]] = Done
    name: str
    by: str


class ListPeople(Command):
    rpc: ClassVar[Rpc] = Rpc("registry", "people")
    reply: ClassVar[type[Frozen]] = People


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
    """A person wants to be known in a channel; an earlier code of theirs for it is void."""

    rpc: ClassVar[Rpc] = Rpc("registry", "start_enrolment")
    reply: ClassVar[type[Frozen]] = EnrolmentCode
    name: PersonName
    channel: Literal["slack"]


class ConfirmEnrolment(Command):
    """Somebody in the channel typed a code. Raises `not_found` for one that is wrong, used or expired."""

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
    """A new one-time code generator, in force once a code of it is confirmed; the present one stays until then."""

    rpc: ClassVar[Rpc] = Rpc("registry", "start_totp")
    reply: ClassVar[type[Frozen]] = TotpSecret
    name: PersonName


class ConfirmTotp(Command):
    rpc: ClassVar[Rpc] = Rpc("registry", "confirm_totp")
    reply: ClassVar[type[Frozen]] = PersonView
    name: PersonName
    code: str = Field(pattern=r"^[0-9]{6}$")


class VerifyTotp(Command):
    """Whether a code is the person's and fresh; each is taken once. Raises `unauthorised` if not."""

    rpc: ClassVar[Rpc] = Rpc("registry", "verify_totp")
    reply: ClassVar[type[Frozen]] = Done
    name: PersonName
    code: str = Field(pattern=r"^[0-9]{6}$")


class RemoveTotp(Command):
    rpc: ClassVar[Rpc] = Rpc("registry", "remove_totp")
    reply: ClassVar[type[Frozen]] = PersonView
    name: PersonName
    by: str
