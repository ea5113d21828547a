"""Enrolment: a person becomes known in a channel by typing there a code that they were given here.

Never by name or email: who shows the code in the channel has the person's token as well as the channel's account. A
code is random, counts for ten minutes, once, and is void after a newer one. It is kept as a keyed digest.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from prometheus_client import Counter

from countersign_chassis import Connection
from countersign_chassis.sealing import DigestKey
from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import ChannelIdentity, PersonRecord
from countersign_contracts.people_commands import (
    ConfirmEnrolment,
    EnrolmentCode,
    PersonView,
    RemoveChannel,
    StartEnrolment,
)

from . import tries
from .codes_store import CodesStore
from .fresh_logins import FreshLogins
from .person_changes import PersonChanges
from .store import Lock, Store

LIFETIME = timedelta(minutes=10)
#: Crockford's base32: nothing in it is mistaken for something else.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CHARACTERS = 8
_MISREAD = str.maketrans({"O": "0", "I": "1", "L": "1", "-": "", " ": ""})
#: Of one channel, for one person: several workspaces, not a crowd.
MAX_IDENTITIES = 8
_AGAIN = "`countersign people link-slack` gives a new one, which counts for 10 minutes and once"


def new_code() -> str:
    """40 random bits for people to type: ``K7QM-2XRD``."""
    text = "".join(secrets.choice(_ALPHABET) for _ in range(_CHARACTERS))
    return f"{text[:4]}-{text[4:]}"


def as_given(typed: str) -> str:
    """What people meant to type."""
    return typed.upper().translate(_MISREAD)


class EnrolmentCommands:
    """Answers the commands about channel identities."""

    def __init__(
        self,
        store: Store,
        codes: CodesStore,
        changes: PersonChanges,
        fresh: FreshLogins,
        key: DigestKey,
        refused: Counter,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._codes = codes
        self._changes = changes
        self._fresh = fresh
        self._key = key
        self._refused = refused
        self._clock = clock

    async def start(self, command: StartEnrolment) -> EnrolmentCode:
        """A code for a person; the one they had for that channel is void. Raises `not_found`, `fresh_login`."""
        code, at = new_code(), self._clock()
        async with self._changes.transaction() as connection:
            await self._changes.active(connection, command.name)
            await self._fresh.require(connection, command.name, command.login_id)
            await self._codes.tidy(connection, at, at - max(tries.TOTP.forget, tries.ENROLMENT.forget))
            await self._codes.start(
                connection, command.name, command.channel, self._digest(command.channel, code), at + LIFETIME
            )
        return EnrolmentCode(code=code, expires_at=at + LIFETIME)

    async def confirm(self, command: ConfirmEnrolment) -> PersonView:
        """Who types a code is the person it was given to, there.

        Raises `not_found` for a code that does not count, `locked_out`, and `conflict` for an identity that is another
        person's: the code can then be used again once that is removed.
        """
        at = self._clock()
        async with self._changes.transaction() as connection:
            # one after the other: wrong ones are counted exactly, and an identity becomes one person's
            await self._store.within(connection, Lock.ENROL)
            answer = await self._confirm(connection, command, at)
        if isinstance(answer, CountersignError):
            self._refused.labels("enrolment", answer.code).inc()
            raise answer
        await self._changes.shown(answer.name, command.rpc.timeout_s - 1)
        return answer

    async def _confirm(
        self, connection: Connection, command: ConfirmEnrolment, at: datetime
    ) -> PersonView | CountersignError:
        """The refusal is returned, so that what was counted is committed."""
        mine = f"enrolment:{command.channel}:{command.identity}"
        bounded = ((mine, tries.ENROLMENT), ("enrolment", tries.ENROLMENTS))
        tried = [await self._codes.tries(connection, about) for about, _ in bounded]
        try:
            for one in tried:
                tries.require_unlocked(one, at, "enrolment codes")
        except CountersignError as error:
            return error
        digest = self._digest(command.channel, command.code)
        name = await self._codes.whose(connection, command.channel, digest, at)
        # looked up before the person could be locked: somebody may have started anew, or removed them, meanwhile
        person = None if name is None else await self._changes.known(connection, name)
        holder = await self._codes.holder(connection, command.channel, command.identity)
        if person is not None and holder not in (None, person.name):
            return CountersignError(
                f"`{command.identity}` is enrolled as `{holder}` already; `countersign people unlink-slack` ends that,"
                " and then this code can be typed again",
                code="conflict",
            )
        if person is not None and holder is None and _full(person, command.channel):
            return CountersignError(
                f"`{person.name}` has {MAX_IDENTITIES} identities there, as many as one may have; unlink one first",
                code="conflict",
            )
        if (
            person is None
            or person.status != "active"
            or not await self._codes.use(connection, person.name, command.channel, digest, at)
        ):
            for (about, bounds), one in zip(bounded, tried, strict=True):
                await self._codes.tried(connection, about, tries.failed(one, at, bounds))
            return CountersignError(f"the code is wrong, used or expired; {_AGAIN}", code="not_found")
        await self._codes.tried(connection, mine, None)
        if holder is None:
            enrolled = ChannelIdentity(channel=command.channel, identity=command.identity, enrolled_at=at)
            channels = (*person.channels, enrolled)
            wanted = person.model_copy(update={"channels": tuple(sorted(channels, key=lambda c: c.identity))})
            await self._changes.write(connection, person, wanted, f"{command.channel}:{command.identity}", at)
        return await self._changes.view(connection, person.name)

    async def remove(self, command: RemoveChannel) -> PersonView:
        """A person is known by that identity no more; again is harmless. Raises `not_found`."""
        async with self._changes.transaction() as connection:
            person = await self._changes.known(connection, command.name)
            if command.by != command.name:
                await self._changes.require_authority(connection, command.by, person.permissions)
            kept = tuple(
                each for each in person.channels if (each.channel, each.identity) != (command.channel, command.identity)
            )
            wanted = person.model_copy(update={"channels": kept})
            await self._changes.write(connection, person, wanted, command.by, self._clock())
            view = await self._changes.view(connection, command.name)
        await self._changes.require_shown(
            command.name, command.rpc.timeout_s - 1, f"`{command.name}` is not `{command.identity}` any more"
        )
        return view

    def _digest(self, channel: str, code: str) -> bytes:
        return self._key.digest(f"enrolment:{channel}", as_given(code).encode())


def _full(person: PersonRecord, channel: str) -> bool:
    return sum(each.channel == channel for each in person.channels) >= MAX_IDENTITIES
