"""An agent that registers itself, and renews what it was given before that ends.

Each renewal opens a second connection before the first is closed, so that no result is missed in between.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import nats.errors
import orjson
from nats.aio.client import Client
from pydantic import ValidationError

from countersign_contracts import subjects
from countersign_contracts.enrolment import (
    Challenge,
    Registered,
    Renewed,
    registration_text,
    renewal_text,
    token_sha256,
)
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.fleet import HEARTBEAT_S
from countersign_contracts.model import Frozen
from countersign_ledger import TrustBundle

from .ending import end
from .identity import Identity
from .over_nats import NatsTransport, claims_in, creds_jwt
from .transport import jittered

F = TypeVar("F", bound=Frozen)

#: What part of their time the credentials are used before they are renewed.
_RENEW_AFTER = 2 / 3
#: How long the older connection is kept for what was asked on it.
_RETIRE_S = 12.0
_ANSWER_S = 10.0
_log = logging.getLogger("countersign.agent")


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an agent registers as, and where: at the gateway, or over NATS with a bootstrap credential, or either."""

    agent_type: str
    name: str
    version: str
    token: str
    gateway: str | None
    bootstrap_creds: Path | None


class EnrolledTransport(NatsTransport):
    """The NATS connection of an agent that holds its own key."""

    def __init__(self, url: str, enrolment: Enrolment, key_file: Path, trust: TrustBundle | None) -> None:
        super().__init__(url, key_file, trust, agent_id="")
        self._enrolment = enrolment
        self._key_file = key_file
        self._identity: Identity | None = None
        self._jwt = ""
        self._good_until = 0.0
        self._renew_at = 0.0
        self._keeping: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self.heartbeat_s = HEARTBEAT_S
        self.version = enrolment.version

    async def open(self) -> None:
        """Register, or come back as who registered with this key before; then connect.

        Raises :class:`CountersignError` saying why the agent is not taken, :class:`Unavailable` if nobody answers.
        """
        self._identity = Identity.kept_in(self._key_file)
        back = await self._come_back() if self._identity.agent_id and self._enrolment.gateway else None
        given = back or await self._register()
        self.agent_id = given.agent_id
        self._identity.known_as(given.agent_id)
        self._take(given)
        await super().open()
        self._keeping = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Stop renewing and disconnect."""
        await end(*(task for task in (self._keeping, *self._retiring) if task is not None))
        await super().close()

    def credentials(self) -> dict[str, Any]:
        """The agent's key and what lets it in now; asked again at each reconnect."""
        return {
            "user_jwt_cb": lambda: bytearray(self._jwt.encode()),
            "signature_cb": self._own.sign_for_nats,
        }

    @property
    def _own(self) -> Identity:
        if self._identity is None:
            raise CountersignError("use the agent in `async with`")
        return self._identity

    # --- registering ------------------------------------------------------------------------------------

    async def _register(self) -> Registered:
        said = self._enrolment
        text = registration_text(said.agent_type, said.name, said.version, self._own.public, token_sha256(said.token))
        body = {
            "agent_name": said.name,
            "agent_version": said.version,
            "agent_type": said.agent_type,
            "discovery_token": said.token,
            "nkey": self._own.public,
            "signature": self._own.sign(text),
        }
        if said.gateway is not None:
            return await self._post(said.gateway, "/api/v1/agents", body, Registered)
        if said.bootstrap_creds is None:
            raise CountersignError("say where to register: `gateway` (its URL), or `bootstrap_creds` (a file)")
        return await self._over_bootstrap(said.bootstrap_creds, body)

    async def _over_bootstrap(self, creds: Path, body: dict[str, Any]) -> Registered:
        door = Client()
        try:
            await door.connect(
                self._url,
                user_credentials=str(creds),
                inbox_prefix=subjects.bootstrap_inbox(str(claims_in(creds_jwt(creds), creds)["name"])),
                allow_reconnect=False,
                connect_timeout=5,
                error_cb=self._ignore,
            )
            reply = await door.request(subjects.REGISTER, orjson.dumps(body), timeout=_ANSWER_S)
        except (OSError, TimeoutError, nats.errors.Error) as error:
            raise Unavailable(f"nobody registers agents at {self._url}: {str(error) or type(error).__name__}") from None
        finally:
            await door.close()
        return _read(reply.data, Registered)

    # --- renewing ---------------------------------------------------------------------------------------

    async def _come_back(self) -> Renewed | None:
        """As who registered before; None where that has ended, and the token may say otherwise."""
        try:
            return await self._renew_over_http()
        except CountersignError as error:
            if error.code == "unauthenticated":
                return None
            raise

    async def _keep(self) -> None:
        """Renew, for as long as the agent lives; what fails is tried again, what is refused is not."""
        clock = asyncio.get_running_loop().time
        pause = 0.5
        while True:
            await asyncio.sleep(max(0.0, self._renew_at - clock()))
            try:
                await self._renew()
                pause = 0.5
            except CountersignError as error:
                if error.status not in (429, 500, 503):
                    _log.error("agent %s renews its credentials no more: %s", self.agent_id, error.detail)
                    return
                _log.warning("agent %s has not renewed its credentials yet: %s", self.agent_id, error.detail)
                self._renew_at = clock() + jittered(pause)
                pause = min(pause * 2, 30.0)

    async def _renew(self) -> None:
        clock = asyncio.get_running_loop().time
        if self._client.is_connected and clock() < self._good_until:
            try:
                renewed = await self._renew_over_nats()
            except Unavailable:
                if self._enrolment.gateway is None:
                    raise
                renewed = await self._renew_over_http()
        elif self._enrolment.gateway is not None:
            renewed = await self._renew_over_http()
        else:
            raise Unavailable("nats-server is away, and no `gateway` was given to renew at")
        self._take(renewed)
        before = await self.replace()
        task = asyncio.create_task(_retire(before))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _renew_over_nats(self) -> Renewed:
        subject = subjects.agent(self.agent_id, "renew")
        try:
            asked = await self._client.request(subject, b"{}", timeout=_ANSWER_S)
            body = self._proof(_read(asked.data, Challenge).nonce)
            return _read((await self._client.request(subject, orjson.dumps(body), timeout=_ANSWER_S)).data, Renewed)
        except (OSError, TimeoutError, nats.errors.Error) as error:
            raise Unavailable(f"the registry did not answer: {str(error) or type(error).__name__}") from None

    async def _renew_over_http(self) -> Renewed:
        gateway = self._enrolment.gateway or ""
        path = f"/api/v1/agents/{self._own.agent_id}"
        nonce = (await self._post(gateway, f"{path}/challenge", {}, Challenge)).nonce
        return await self._post(gateway, f"{path}/renew", self._proof(nonce), Renewed)

    def _proof(self, nonce: str) -> dict[str, Any]:
        signature = self._own.sign(renewal_text(str(self._own.agent_id), nonce))
        return {"nkey": self._own.public, "nonce": nonce, "signature": signature, "kinds": ["nats"]}

    def _take(self, given: Registered | Renewed) -> None:
        """Use what was given. Its time is counted from now by our own clock: the server's may differ."""
        if given.nats_jwt is None:
            raise CountersignError("the registry gave no NATS credential")
        claims = claims_in(given.nats_jwt, self._key_file)
        lifetime = max(1.0, float(claims["exp"]) - float(claims["iat"]))
        now = asyncio.get_running_loop().time()
        self._jwt, self.heartbeat_s = given.nats_jwt, given.heartbeat_s
        self._good_until, self._renew_at = now + lifetime, now + lifetime * _RENEW_AFTER

    async def _post(self, gateway: str, path: str, body: dict[str, Any], model: type[F]) -> F:
        deadline = time.monotonic() + _ANSWER_S
        pause = 0.2
        while True:
            try:
                timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
                async with (
                    aiohttp.ClientSession(timeout=timeout) as session,
                    session.post(gateway.rstrip("/") + path, json=body) as response,
                ):
                    raw = await response.read()
                    if response.status < 400:
                        return model.from_bytes(raw)
                    error: CountersignError = _problem(raw, response.status)
                    if error.status not in (429, 503):
                        raise error
            except (aiohttp.ClientError, TimeoutError) as failed:
                error = Unavailable(f"{gateway} does not answer: {str(failed) or type(failed).__name__}")
            if time.monotonic() + pause > deadline:
                raise error
            await asyncio.sleep(jittered(pause))
            pause = min(pause * 2, 2.0)


async def _retire(client: Client) -> None:
    """Close a connection once what was asked on it has been answered."""
    try:
        await asyncio.sleep(_RETIRE_S)
    finally:
        with suppress(OSError, TimeoutError, nats.errors.Error):
            await client.close()


def _problem(raw: bytes, status: int) -> CountersignError:
    try:
        return CountersignError.from_problem(orjson.loads(raw))
    except (orjson.JSONDecodeError, AttributeError):
        return CountersignError(f"HTTP status {status}")


def _read(body: bytes, model: type[F]) -> F:
    try:
        value = orjson.loads(body)
        if problem := value.get("problem"):
            raise CountersignError.from_problem(problem)
        return model.model_validate(value)
    except (orjson.JSONDecodeError, AttributeError, ValidationError):
        raise CountersignError("the answer is not the registry's") from None
