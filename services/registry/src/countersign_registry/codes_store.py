"""The registry's SQL for codes: enrolment in a channel, one-time code generators, and what was tried wrong."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from countersign_chassis import Connection

from .tries import Tries

_START = """
INSERT INTO enrolment (person, channel, digest, expires_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (person, channel) DO UPDATE SET digest = excluded.digest, expires_at = excluded.expires_at
"""
_WHOSE = "SELECT person FROM enrolment WHERE channel = $1 AND digest = $2 AND expires_at > $3"
_USE = "DELETE FROM enrolment WHERE person = $1 AND channel = $2 AND digest = $3 AND expires_at > $4 RETURNING person"
_HOLDER = "SELECT person FROM channel_identity WHERE channel = $1 AND identity = $2"
_NO_CODES = "DELETE FROM enrolment WHERE person = $1"
_PAST_CODES = "DELETE FROM enrolment WHERE expires_at <= $1"

_GENERATOR = "SELECT secret, pending, pending_until, last_step FROM totp WHERE person = $1"
_PENDING = """
INSERT INTO totp (person, pending, pending_until) VALUES ($1, $2, $3)
ON CONFLICT (person) DO UPDATE SET pending = excluded.pending, pending_until = excluded.pending_until
"""
_CONFIRM = """
UPDATE totp SET secret = pending, pending = NULL, pending_until = NULL, last_step = $2 WHERE person = $1
"""
_TAKEN = "UPDATE totp SET last_step = $2 WHERE person = $1"
_NO_GENERATOR = "DELETE FROM totp WHERE person = $1"

_TRIES = "SELECT wrong, last_at, locked_until FROM wrong_tries WHERE about = $1"
_TRIED = """
INSERT INTO wrong_tries (about, wrong, last_at, locked_until) VALUES ($1, $2, $3, $4)
ON CONFLICT (about) DO UPDATE
SET wrong = excluded.wrong, last_at = excluded.last_at, locked_until = excluded.locked_until
"""
_NO_TRIES = "DELETE FROM wrong_tries WHERE about = $1"
_PAST_TRIES = "DELETE FROM wrong_tries WHERE last_at < $1"


@dataclass(frozen=True, slots=True)
class Generator:
    """A person's one-time code generator: encrypted secrets, and the step of the last code taken."""

    secret: bytes | None
    pending: bytes | None
    pending_until: datetime | None
    last_step: int


class CodesStore:
    """Codes. Everything works in the caller's transaction, in which the person, or all enrolments, are locked."""

    # --- enrolment ----------------------------------------------------------------------------------

    async def start(self, connection: Connection, person: str, channel: str, digest: bytes, until: datetime) -> None:
        """Keep a person's code for a channel in place of an earlier one."""
        await connection.execute(_START, person, channel, digest, until)

    async def whose(self, connection: Connection, channel: str, digest: bytes, at: datetime) -> str | None:
        """Who was given that code, if it counts."""
        person: str | None = await connection.fetchval(_WHOSE, channel, digest, at)
        return person

    async def use(self, connection: Connection, person: str, channel: str, digest: bytes, at: datetime) -> bool:
        """Use the code up; False if it does not count any more."""
        return await connection.fetchval(_USE, person, channel, digest, at) is not None

    async def holder(self, connection: Connection, channel: str, identity: str) -> str | None:
        """Who is known by that identity."""
        person: str | None = await connection.fetchval(_HOLDER, channel, identity)
        return person

    # --- one-time codes -----------------------------------------------------------------------------

    async def generator(self, connection: Connection, person: str) -> Generator:
        """The person's; an empty one if there is none."""
        row = await connection.fetchrow(_GENERATOR, person)
        return Generator(None, None, None, 0) if row is None else Generator(**dict(row))

    async def pend(self, connection: Connection, person: str, secret: bytes, until: datetime) -> None:
        """A new generator, to be confirmed until then."""
        await connection.execute(_PENDING, person, secret, until)

    async def confirm(self, connection: Connection, person: str, step: int) -> None:
        """The new generator counts from now on; its code of ``step`` is taken."""
        await connection.execute(_CONFIRM, person, step)

    async def take(self, connection: Connection, person: str, step: int) -> None:
        """No code up to that of ``step`` is taken again."""
        await connection.execute(_TAKEN, person, step)

    async def remove_generator(self, connection: Connection, person: str) -> None:
        """The person has none any more."""
        await connection.execute(_NO_GENERATOR, person)

    async def forget(self, connection: Connection, person: str) -> None:
        """Nothing that the person was given counts any more."""
        await connection.execute(_NO_CODES, person)
        await connection.execute(_NO_GENERATOR, person)

    # --- wrong ones ---------------------------------------------------------------------------------

    async def tries(self, connection: Connection, about: str) -> Tries | None:
        """What was tried wrong."""
        row = await connection.fetchrow(_TRIES, about)
        return None if row is None else Tries(**dict(row))

    async def tried(self, connection: Connection, about: str, tries: Tries | None) -> None:
        """Keep what was tried wrong, or that nothing was."""
        if tries is None:
            await connection.execute(_NO_TRIES, about)
        else:
            await connection.execute(_TRIED, about, tries.wrong, tries.last_at, tries.locked_until)

    async def tidy(self, connection: Connection, at: datetime, tries_before: datetime) -> None:
        """Delete what counts no more."""
        await connection.execute(_PAST_CODES, at)
        await connection.execute(_PAST_TRIES, tries_before)
