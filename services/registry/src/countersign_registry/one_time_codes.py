"""One-time codes: a person's generator, and whether a code is theirs and fresh.

The secret rests encrypted in the registry's table, under a key of the registry's own: who reads the database cannot
make codes. A step's code is taken once, and none before it: what was seen over a shoulder is void.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from prometheus_client import Counter

from countersign_chassis import Connection
from countersign_chassis.at_rest import RestKeys
from countersign_chassis.sealing import NotOpened
from countersign_contracts.command import Done
from countersign_contracts.errors import CountersignError
from countersign_contracts.people_commands import (
    ConfirmTotp,
    PersonView,
    RemoveTotp,
    StartTotp,
    TotpSecret,
    VerifyTotp,
)

from . import totp, tries
from .codes_store import CodesStore, Generator
from .fresh_logins import FreshLogins
from .person_changes import PersonChanges

#: How long a new generator waits for its first code.
PENDING = timedelta(minutes=10)


class OneTimeCodes:
    """Answers the commands about one-time codes."""

    def __init__(
        self,
        codes: CodesStore,
        changes: PersonChanges,
        fresh: FreshLogins,
        keys: RestKeys,
        refused: Counter,
        clock: Callable[[], datetime],
    ) -> None:
        self._codes = codes
        self._changes = changes
        self._fresh = fresh
        self._keys = keys
        self._refused = refused
        self._clock = clock

    async def start(self, command: StartTotp) -> TotpSecret:
        """A new generator, to be confirmed within ten minutes; the present one counts until then.

        Who has one proves it by a code, and the first one takes a fresh login: a stolen token must not be enough to
        become sure of oneself. Raises `wrong_code`, `locked_out`, `fresh_login`, and `not_found` for a person who is
        not there.
        """
        secret, at = secrets.token_bytes(totp.SECRET_BYTES), self._clock()
        async with self._changes.transaction() as connection:
            await self._changes.active(connection, command.name)
            generator = await self._codes.generator(connection, command.name)
            refusal = None
            if generator.secret is None:
                await self._fresh.require(connection, command.name, command.login_id)
            else:
                refusal = await self._prove(connection, command.name, generator, command.code, at)
            if refusal is None:
                await self._codes.pend(
                    connection, command.name, self._keys.lock(secret, _about(command.name)), at + PENDING
                )
        self._raise(refusal)
        return TotpSecret(secret=totp.text_of(secret), uri=totp.uri_of(secret, command.name))

    async def confirm(self, command: ConfirmTotp) -> PersonView:
        """The new generator counts from now on. Raises `not_found` if there is none to confirm, `wrong_code`,
        `locked_out`."""
        at = self._clock()
        async with self._changes.transaction() as connection:
            person = await self._changes.active(connection, command.name)
            generator = await self._codes.generator(connection, command.name)
            if generator.pending is None or generator.pending_until is None or generator.pending_until <= at:
                raise CountersignError(
                    f"`{command.name}` has no new one-time code generator to confirm, or began more than 10 minutes"
                    " ago; `countersign people totp` begins again",
                    code="not_found",
                )
            # the steps of another secret say nothing about this one's
            step, refusal = await self._step(connection, command.name, generator.pending, 0, command.code, at)
            if step is not None:
                await self._codes.confirm(connection, command.name, step)
                # also where there was one: that it is another one is told
                await self._changes.write(
                    connection,
                    person.model_copy(update={"totp": False}),
                    person.model_copy(update={"totp": True}),
                    command.name,
                    at,
                )
            view = await self._changes.view(connection, command.name)
        self._raise(refusal)
        await self._changes.shown(command.name, command.rpc.timeout_s - 1)
        return view

    async def verify(self, command: VerifyTotp) -> Done:
        """Take a code. Raises as the command says."""
        at = self._clock()
        async with self._changes.transaction() as connection:
            await self._changes.active(connection, command.name)
            generator = await self._codes.generator(connection, command.name)
            refusal = await self._prove(connection, command.name, generator, command.code, at)
        self._raise(refusal)
        return Done()

    async def remove(self, command: RemoveTotp) -> PersonView:
        """The person has no generator, and none to confirm; again is harmless.

        Raises `wrong_code` and `locked_out` for oneself without a code, `not_found`.
        """
        at = self._clock()
        async with self._changes.transaction() as connection:
            person = await self._changes.known(connection, command.name)
            if command.by != command.name:
                await self._changes.require_authority(connection, command.by, person.permissions)
            generator = await self._codes.generator(connection, command.name)
            refusal = None
            if command.by == command.name and generator.secret is not None:
                refusal = await self._prove(connection, command.name, generator, command.code, at)
            if refusal is None:
                await self._codes.remove_generator(connection, command.name)
                await self._codes.tried(connection, _about(command.name), None)
                await self._changes.write(connection, person, person.model_copy(update={"totp": False}), command.by, at)
            view = await self._changes.view(connection, command.name)
        self._raise(refusal)
        await self._changes.require_shown(
            command.name, command.rpc.timeout_s - 1, f"the one-time codes of `{command.name}` count no more"
        )
        return view

    async def _prove(
        self, connection: Connection, name: str, generator: Generator, code: str | None, at: datetime
    ) -> CountersignError | None:
        """Take a code of the generator in force. A refusal is returned, so that what was counted is committed."""
        if generator.secret is None:
            return CountersignError(
                f"`{name}` has no one-time code generator; `countersign people totp` sets one up", code="conflict"
            )
        if code is None:
            return CountersignError(
                "a one-time code generator is set up: give a code of it; whoever lost it asks an admin for"
                f" `countersign people totp --remove {name}`",
                code="wrong_code",
            )
        step, refusal = await self._step(connection, name, generator.secret, generator.last_step, code, at)
        if step is not None:
            await self._codes.take(connection, name, step)
        return refusal

    async def _step(
        self, connection: Connection, name: str, locked: bytes, last: int, code: str, at: datetime
    ) -> tuple[int | None, CountersignError | None]:
        """The step after ``last`` that the code is of, or why it is refused."""
        tried = await self._codes.tries(connection, _about(name))
        try:
            tries.require_unlocked(tried, at, "one-time codes")
            secret = self._keys.unlock(locked, _about(name))
        except NotOpened:
            return None, CountersignError(
                f"the one-time code generator of `{name}` cannot be read: the registry's key of codes is another one."
                f" `countersign people totp --remove {name}` by an admin lets them set up a new one",
                code="conflict",
            )
        except CountersignError as error:
            return None, error
        steps = totp.steps_of(secret, code, at)
        fresh = [step for step in steps if step > last]
        if fresh:
            await self._codes.tried(connection, _about(name), None)
            return fresh[0], None
        if steps:
            return None, CountersignError(
                "this one-time code was used already: each counts once; the next one comes within 30 seconds",
                code="wrong_code",
            )
        await self._codes.tried(connection, _about(name), tries.failed(tried, at, tries.TOTP))
        return None, CountersignError(
            "the one-time code is wrong: take the present one, and see that the device's clock is right",
            code="wrong_code",
        )

    def _raise(self, refusal: CountersignError | None) -> None:
        if refusal is not None:
            self._refused.labels("totp", refusal.code).inc()
            raise refusal


def _about(name: str) -> str:
    return f"totp:{name}"
