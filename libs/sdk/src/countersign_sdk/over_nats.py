"""Countersign over NATS: the agent chooses the request id and repeats until it hears ``accepted``."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import nats
import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from countersign_contracts import subjects
from countersign_contracts.actions import FINAL_STATES, ActionPage, ActionResult
from countersign_contracts.agent_config import Configuration, Configured
from countersign_contracts.envelope import Envelope
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.topology import RESULT_TYPE, RESULTS_TYPE
from countersign_ledger import TrustBundle

from .transport import Hears, jittered, retry_after_s

#: How long to wait before an unanswered message is sent again, doubling up to the last value.
_REPEAT_S = (1.0, 2.0, 4.0)
#: How long the requests of a call wait, one after the other, the last value for all further ones, and how much longer
#: an answer may take: a gateway that dies costs a call that has just begun little, and one that has waited no more.
_TURNS_S, _ANSWER_S = (1.0, 2.0, 5.0), 2.0
#: How long the stream has to say that it keeps a message.
_KEPT_S = 5.0


class NatsTransport:
    """One NATS connection of one agent."""

    def __init__(self, url: str, creds_file: Path, trust: TrustBundle | None, *, agent_id: str | None = None) -> None:
        self._url = url
        self._creds_file = creds_file
        self._trust = trust
        self.agent_id = agent_in(creds_file) if agent_id is None else agent_id
        self._client = Client()
        self._heard: dict[str, asyncio.Queue[Msg]] = {}
        self.pushed = asyncio.Event()

    def credentials(self) -> dict[str, Any]:
        """What nats-py is told to connect with."""
        return {"user_credentials": str(self._creds_file)}

    async def open(self) -> None:
        """Connect and listen for results. Raises :class:`Unavailable` if the server is away or refuses."""
        self._client = await self._connected()

    async def replace(self) -> Client:
        """Go on with a new connection, which listens before the present one is given back, to be closed.

        What was asked on the present one is answered there. Raises as :meth:`open`; the present one stays then.
        """
        before, self._client = self._client, await self._connected()
        return before

    async def _connected(self) -> Client:
        client = Client()
        try:
            await client.connect(
                [each.strip() for each in self._url.split(",")],
                name=f"countersign-agent-{self.agent_id}",
                **self.credentials(),
                inbox_prefix=subjects.inbox(self.agent_id),
                max_reconnect_attempts=-1,
                connect_timeout=5,
                error_cb=self._ignore,
                reconnected_cb=self._reconnected,
            )
        except (OSError, TimeoutError, nats.errors.Error) as error:
            await client.close()  # a refused connect leaves its socket open
            raise Unavailable(f"NATS at {self._url} does not let {self.agent_id} in: {error}") from None
        await client.subscribe(f"{subjects.agent(self.agent_id, 'results')}.>", cb=self._result)
        await client.subscribe(f"{subjects.agent(self.agent_id, 'control')}.config", cb=self._push)
        with suppress(TimeoutError, nats.errors.Error):
            # the library's PING overtakes subscriptions that wait to be written; the second one comes after them
            await client.flush()
            await client.flush()
        return client

    async def _ignore(self, error: Exception) -> None:
        """The client reconnects by itself; what failed shows as a missing answer."""

    async def _reconnected(self) -> None:
        self.pushed.set()  # maybe something was, meanwhile

    async def close(self) -> None:
        """Disconnect; what cannot be sent any more is not waited for."""
        with suppress(OSError, TimeoutError, nats.errors.Error):
            await self._client.close()

    async def _result(self, msg: Msg) -> None:
        queue = self._heard.get(msg.subject.rsplit(".", 1)[-1])
        if queue is not None:
            queue.put_nowait(msg)

    async def _push(self, _: Msg) -> None:
        self.pushed.set()

    # --- what an agent does -------------------------------------------------------------------------

    async def submit(self, body: dict[str, Any], timeout_s: float, *, queued: bool) -> ActionResult:
        """Queue it, and again until the gateway says that it is accepted; or request it, if it may not be queued.

        A repeat that the stream still has is not queued twice. What it accepted while nobody heard shows by asking.
        """
        if not queued:
            return await self._request(body, 0, timeout_s)
        request_id = body["request_id"]
        queue = self._heard.setdefault(request_id, asyncio.Queue())
        payload = orjson.dumps(body)
        why = "the gateway did not say so"
        try:
            async with asyncio.timeout(timeout_s):
                for pause in _and_so_on(_REPEAT_S):
                    why = await self._queue(payload, pause) or why
                    try:
                        async with asyncio.timeout(pause):
                            while True:
                                result = self._read(await queue.get())
                                if result is not None:
                                    return result
                    except TimeoutError:
                        with suppress(CountersignError):  # not accepted yet, or nobody there to ask
                            return await self._ask("get", {"request_id": request_id}, pause)
        except TimeoutError:
            pass
        finally:
            self._heard.pop(request_id, None)
        raise Unavailable(
            f"the action {request_id} was not accepted within {timeout_s} s: {why}; submit it again with its id"
        )

    async def _queue(self, payload: bytes, timeout_s: float) -> str | None:
        """Publish to the stream; returns why it did not take it, or None."""
        headers = {"Nats-Msg-Id": hashlib.sha256(payload).hexdigest()}
        try:
            ack = await self._client.request(
                subjects.agent(self.agent_id, "actions"), payload, headers=headers, timeout=timeout_s
            )
        except nats.errors.NoRespondersError:
            return "nats-server does not take actions now"
        except (TimeoutError, nats.errors.Error, OSError) as error:
            return f"nats-server did not say that it took it ({str(error) or type(error).__name__})"
        refusal = orjson.loads(ack.data).get("error")
        return f"nats-server did not take it ({refusal.get('description')})" if refusal else None

    async def call(self, body: dict[str, Any], wait_s: float) -> ActionResult:
        """Request and wait, turn by turn; what was turned away for want of room is asked for again when it may be."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_s
        for turn_s in _and_so_on(_TURNS_S):
            result = await self._request(body, min(turn_s, deadline - clock()), deadline - clock() + 3)
            if result.state in FINAL_STATES or clock() >= deadline:
                break
        return result

    async def _request(self, body: dict[str, Any], wait_s: float, timeout_s: float) -> ActionResult:
        """Request, and again if nobody answers; a request is repeated with the same id, which is harmless."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout_s
        while True:
            this_s = max(0.0, min(wait_s, deadline - clock() - _ANSWER_S))
            try:
                return await self._ask("call", body | {"wait_s": this_s}, this_s + _ANSWER_S)
            except CountersignError as error:
                again = jittered(max(0.25, retry_after_s(error)))
                if error.status not in (429, 503) or clock() + again + 0.25 > deadline:
                    raise
                await asyncio.sleep(again)

    async def get(self, request_id: str, wait_s: float, hears: Hears | None = None) -> ActionResult:
        """Ask for the state; while it has not ended, listen for its result."""
        hears = hears or _deaf
        queue = self._heard.setdefault(request_id, asyncio.Queue())
        try:
            result = await self._ask("get", {"request_id": request_id}, 5)
            hears(result)
            if result.state in FINAL_STATES or wait_s <= 0:
                return result
            try:
                # a result that was published before this connection listened shows at the next look
                async with asyncio.timeout(min(wait_s, 5)):
                    while True:
                        heard = self._read(await queue.get())
                        if heard is not None:
                            hears(heard)
                            if heard.state in FINAL_STATES:
                                return heard
            except TimeoutError:
                result = await self._ask("get", {"request_id": request_id}, 5)
                hears(result)
                return result
        finally:
            self._heard.pop(request_id, None)

    async def page(self, wanted: dict[str, Any]) -> ActionPage:
        """List them."""
        msg = await self._request_once("list", wanted, 5)
        if not self._is_gateway_s(msg, RESULTS_TYPE, RESULT_TYPE):  # a problem is a result
            raise CountersignError("the answer is not signed by the gateway: it was ignored")
        if problem := orjson.loads(msg.data).get("problem"):
            raise CountersignError.from_problem(problem)
        return ActionPage.from_bytes(msg.data)

    async def cancel(self, request_id: str, reason: str | None) -> ActionResult:
        """Withdraw it."""
        body = {"request_id": request_id} | ({"reason": reason} if reason else {})
        return await self._ask("cancel", body, 10)

    async def heartbeat(self, body: dict[str, Any]) -> None:
        """Plain NATS: nobody answers."""
        try:
            await self._client.publish(subjects.agent(self.agent_id, "heartbeat"), orjson.dumps(body))
        except nats.errors.Error as error:
            raise Unavailable(f"the heartbeat was not sent: {error}") from None

    async def tell(self, verb: str, body: bytes) -> None:
        """Publish to the stream, which says that it has it."""
        if not self._client.is_connected:
            raise Unavailable("nats-server is away")
        try:
            ack = await self._client.request(subjects.agent(self.agent_id, verb), body, timeout=_KEPT_S)
        except (TimeoutError, nats.errors.Error, OSError) as error:
            raise Unavailable(f"nats-server did not take its {verb}: {str(error) or type(error).__name__}") from None
        if refusal := orjson.loads(ack.data).get("error"):
            why = f"nats-server did not take its {verb}: {refusal.get('description')}"
            raise Unavailable(why) if refusal.get("code", 500) >= 500 else CountersignError(why, code="invalid")

    async def configuration(self) -> Configuration:
        """Request it. Raises :class:`Unavailable` if nobody answers."""
        msg = await self._request_once("config", {}, 10, of="registry")
        body = orjson.loads(msg.data)
        if problem := body.get("problem"):
            raise CountersignError.from_problem(problem)
        return Configuration.from_bytes(msg.data)

    async def configured(self, said: Configured) -> None:
        """Plain NATS: nobody answers."""
        try:
            await self._client.publish(subjects.agent(self.agent_id, "configured"), said.to_bytes())
        except nats.errors.Error as error:
            raise Unavailable(f"what came of the configuration was not sent: {error}") from None

    # --- answers --------------------------------------------------------------------------------------

    async def _ask(self, verb: str, body: dict[str, Any], timeout_s: float) -> ActionResult:
        result = self._read(await self._request_once(verb, body, timeout_s))
        if result is None:
            raise CountersignError("the answer is not signed by the gateway: it was ignored")
        return result

    async def _request_once(self, verb: str, body: dict[str, Any], timeout_s: float, of: str = "gateway") -> Msg:
        try:
            return await self._client.request(
                subjects.agent(self.agent_id, verb), orjson.dumps(body), timeout=timeout_s
            )
        except nats.errors.NoRespondersError:
            raise Unavailable(f"the {of} is not running") from None
        except (TimeoutError, nats.errors.Error, OSError) as error:
            raise Unavailable(f"the {of} did not answer: {error}") from None

    def _read(self, msg: Msg) -> ActionResult | None:
        """The result; None if it is not the gateway's. Raises the problem that was answered."""
        if not self._is_gateway_s(msg, RESULT_TYPE):
            return None
        body = orjson.loads(msg.data)
        if problem := body.get("problem"):
            raise CountersignError.from_problem(problem)
        return ActionResult.from_bytes(msg.data)

    def _is_gateway_s(self, msg: Msg, *types: str) -> bool:
        """Whether the gateway signed it for this agent, as one of ``types``; without a trust bundle nobody can say."""
        if self._trust is None:
            return True
        try:
            envelope = Envelope.read(msg.headers, msg.data)
            envelope.verify(self._trust)
        except CountersignError:
            return False
        return envelope.type in types and envelope.subject == self.agent_id


def _deaf(_: ActionResult) -> None:
    """Nobody wants to be told."""


def _and_so_on(seconds: tuple[float, ...]) -> Iterator[float]:
    """One after the other, then the last for ever."""
    return chain(seconds, repeat(seconds[-1]))


def agent_in(creds_file: Path) -> str:
    """The agent's id: the name in the JWT of its credentials file. Raises :class:`CountersignError` if it has none."""
    return str(claims_in(creds_jwt(creds_file), creds_file)["name"])


def creds_jwt(creds_file: Path) -> str:
    """The JWT in a NATS credentials file. Raises :class:`CountersignError` if it is none."""
    try:
        return creds_file.read_text().split("-----BEGIN NATS USER JWT-----")[1].split("------END")[0].strip()
    except OSError as error:
        raise CountersignError(f"cannot read {creds_file}: {error.strerror}") from None
    except (IndexError, ValueError):
        raise CountersignError(f"{creds_file} is not a NATS credentials file") from None


def claims_in(jwt: str, creds_file: Path) -> dict[str, Any]:
    """What a NATS user's JWT says, at least its `name`. Raises :class:`CountersignError` naming the file it is of."""
    try:
        payload = jwt.split(".")[1]
        claims: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        claims["name"]
    except (IndexError, ValueError, KeyError, TypeError):
        raise CountersignError(f"{creds_file} is not a NATS credentials file") from None
    return claims
