"""Where agents register, renew and ask for their configuration over NATS, in account AGENTS: plain request-reply, a
JSON object each way.

Who speaks on ``agents.<id>.renew`` is that agent: nats-server made sure. Whoever speaks on
``agents.bootstrap.register`` has a bootstrap credential, and may do nothing else; who it is says the token in the body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import nats.errors
import orjson
from nats.aio.msg import Msg
from pydantic import ValidationError

from countersign_chassis.connection import NatsConnection
from countersign_chassis.outages import OUTAGES
from countersign_contracts import subjects
from countersign_contracts.agent_config import Configured
from countersign_contracts.enrolment import (
    ChallengeAgent,
    RegisterWithToken,
    Registration,
    Renewal,
    RenewCredentials,
)
from countersign_contracts.errors import CountersignError, Malformed, Unavailable
from countersign_contracts.model import Frozen, explain

from .configurations import Configurations
from .enrolling import Enrolment

F = TypeVar("F", bound=Frozen)
_MAX_BYTES = 4096
_MAX_AT_ONCE = 4096


class Doors:
    """Every registry listens; one of them answers."""

    def __init__(
        self, connection: NatsConnection, enrolment: Enrolment, configurations: Configurations, log: Any
    ) -> None:
        self._connection = connection
        self._enrolment = enrolment
        self._configurations = configurations
        self._log = log
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        client = self._connection.client
        await client.listen(subjects.REGISTER, self._spawning(self._register), queue="registry")
        await client.listen(subjects.agent("*", "renew"), self._spawning(self._renew), queue="registry")
        await client.listen(subjects.agent("*", "config"), self._spawning(self._config), queue="registry")
        # every registry hears these: the one that sent a configuration waits for what the agent says
        await client.listen(subjects.agent("*", "configured"), self._hear)

    async def drain(self) -> None:
        """What was begun is answered, if that takes no longer than a second; the agents ask again."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)

    def _hear(self, msg: Msg) -> None:
        task = asyncio.create_task(self._configured(msg))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _configured(self, msg: Msg) -> None:
        try:
            await self._configurations.hear(subjects.agent_of(msg.subject), _read(msg.data, Configured))
        except CountersignError as error:
            self._log.info("what an agent said of its configuration is dropped", subject=msg.subject, why=error.detail)
        except OUTAGES as error:
            self._log.warning("what an agent said of its configuration is lost", error=repr(error))

    async def _config(self, msg: Msg) -> Frozen:
        return await self._configurations.ask(subjects.agent_of(msg.subject))

    def _spawning(self, handler: Callable[[Msg], Awaitable[Frozen]]) -> Callable[[Msg], None]:
        def receive(msg: Msg) -> None:
            task = asyncio.create_task(self._answer(msg, handler))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return receive

    async def _answer(self, msg: Msg, handler: Callable[[Msg], Awaitable[Frozen]]) -> None:
        # whoever asks may name any subject of its account as reply: only an inbox that it could hear is answered
        name = subjects.agent_of(msg.subject)
        inbox = subjects.bootstrap_inbox("") if msg.subject == subjects.REGISTER else f"{subjects.inbox(name)}."
        if not msg.reply.startswith(inbox):
            self._log.info("request with a foreign reply subject dropped", subject=msg.subject)
            return
        try:
            if len(self._tasks) > _MAX_AT_ONCE:
                raise Unavailable("the registry has too much to do; try again in a moment")
            body = (await handler(msg)).to_bytes()
        except CountersignError as error:
            body = orjson.dumps({"problem": error.problem()})
        except OUTAGES as error:
            self._log.warning("request failed for an outage", subject=msg.subject, error=repr(error))
            problem = Unavailable("the registry cannot reach its database; try again").problem()
            body = orjson.dumps({"problem": problem})
        except Exception:
            self._log.exception("request failed", subject=msg.subject)
            body = orjson.dumps({"problem": CountersignError("the registry failed; its log says why").problem()})
        try:
            self._connection.client.send(msg.reply, body)
        except nats.errors.Error as error:
            self._log.warning("reply not sent; the agent asks again", error=str(error))

    async def _register(self, msg: Msg) -> Frozen:
        return await self._enrolment.register(RegisterWithToken.of(_read(msg.data, Registration)))

    async def _renew(self, msg: Msg) -> Frozen:
        agent_id = subjects.agent_of(msg.subject)
        if msg.data.strip() in (b"", b"{}"):
            return await self._enrolment.challenge(ChallengeAgent(agent_id=agent_id))
        return await self._enrolment.renew(RenewCredentials(agent_id=agent_id, renewal=_read(msg.data, Renewal)))


def _read(body: bytes, model: type[F]) -> F:
    if len(body) > _MAX_BYTES:
        raise CountersignError(f"the message has {len(body)} bytes; at most {_MAX_BYTES} are taken", code="too_large")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error}") from None
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise CountersignError(explain(error), code="invalid") from None
