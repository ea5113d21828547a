"""Posts deliveries to webhooks: each webhook has its own places, so one that is slow or dead holds up no other."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta
from typing import Any

import aiohttp
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from countersign_chassis import Failpoints
from countersign_chassis.outbound import EgressRefused, JudgedConnector
from countersign_contracts.approval_rules import Webhook
from countersign_contracts.model import now

from .declaration_store import DeclarationStore
from .webhooks_measures import WebhookMeasures
from .webhooks_schedule import Answer, after
from .webhooks_secrets import WebhookSecrets
from .webhooks_signing import NoSigningKey, message_id, signed_headers
from .webhooks_store import Claimed, WebhookStore

#: Beyond a try's timeout, until another replica takes it for dead.
_GRACE_S = 20.0
_TIDY_S = 5.0


class WebhookSender:
    """The loops."""

    def __init__(
        self,
        store: WebhookStore,
        declarations: DeclarationStore,
        secrets: WebhookSecrets,
        measures: WebhookMeasures,
        failpoints: Failpoints,
        log: Any,
        *,
        timeout_s: float,
        poll_s: float,
        at_once: int,
    ) -> None:
        self._store = store
        self._declarations = declarations
        self._secrets = secrets
        self._measures = measures
        self._failpoints = failpoints
        self._log = log
        self._timeout_s = timeout_s
        self._poll_s = poll_s
        self._at_once = at_once
        self._woken = asyncio.Event()
        self._busy: Counter[str] = Counter()
        self._tries: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """There is something to post."""
        self._woken.set()

    async def run(self) -> None:
        """Post what is due, for ever."""
        sessions = {wide: self._session(wide) for wide in ("public", "any", "private")}
        try:
            while True:
                self._woken.clear()
                await self._begin(sessions)
                try:
                    async with asyncio.timeout(self._poll_s):
                        await self._woken.wait()
                except TimeoutError:
                    continue
        finally:
            for task in self._tries:
                task.cancel()
            await asyncio.gather(*self._tries, return_exceptions=True)
            await asyncio.gather(*(session.close() for session in sessions.values()))

    async def watch(self) -> None:
        """Give up what is too old, forget what ended long ago, and keep the gauges true, for ever."""
        while True:
            at = now()
            for name in await self._store.give_up(at):
                self._measures.tried(name, "given_up")
            await self._store.forget(at)
            self._measures.waiting(await self._store.waiting(), at)
            await asyncio.sleep(_TIDY_S)

    async def _begin(self, sessions: dict[str, aiohttp.ClientSession]) -> None:
        """Begin as many tries as there are places for."""
        webhooks = {each.name: each for each in (await self._declarations.read()).webhooks if each.enabled}
        free = {name: self._at_once - self._busy[name] for name in webhooks if self._busy[name] < self._at_once}
        if not free:
            return
        at = now()
        until = at + timedelta(seconds=self._timeout_s + _GRACE_S)
        for claimed in await self._store.claim(free, at, until):
            webhook = webhooks[claimed.webhook]
            self._busy[webhook.name] += 1
            task = asyncio.create_task(self._try(sessions[_reach(webhook)], webhook, claimed))
            self._tries.add(task)
            task.add_done_callback(self._tries.discard)

    async def _try(self, session: aiohttp.ClientSession, webhook: Webhook, claimed: Claimed) -> None:
        try:
            with self._measures.posting():
                answer = await self._post(session, webhook, claimed)
            await self._failpoints.hit("approvals.after_webhook_before_mark")
            verdict = after(answer, claimed.tries, now(), claimed.give_up_at, random.random())  # noqa: S311
            await self._store.settle(claimed, answer, verdict, now())
            self._measures.tried(webhook.name, "failed" if verdict.state == "pending" else verdict.state)
            if not answer.good:
                self._log.warning(
                    "a webhook was not delivered",
                    webhook=webhook.name,
                    event_id=claimed.event_id,
                    reason=answer.error,
                    again_at=str(verdict.next_at or "never"),
                )
        except Exception as error:
            # its row comes due again by itself
            self._log.warning("a webhook's try broke off", webhook=webhook.name, error=str(error) or repr(error))
        finally:
            self._busy[webhook.name] -= 1
            self.wake()

    async def _post(self, session: aiohttp.ClientSession, webhook: Webhook, claimed: Claimed) -> Answer:
        try:
            keys = self._secrets.keys(webhook.secret)
        except NoSigningKey as error:
            return Answer(error=str(error))
        signed = signed_headers(keys, message_id(claimed.event_id), int(now().timestamp()), claimed.body)
        try:
            async with session.post(
                URL(webhook.url, encoded=True),
                data=claimed.body,
                headers={"content-type": "application/json", "user-agent": "countersign", **signed},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            ) as response:
                wait = response.headers.get("Retry-After", "")
                return Answer(
                    status=response.status,
                    error=None if 200 <= response.status < 300 else f"it answered {response.status}",
                    retry_after_s=float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 8 else None,
                )
        except EgressRefused as error:
            return Answer(error=str(error))
        except aiohttp.ClientConnectorError as error:
            refused = isinstance(error.os_error, EgressRefused)
            return Answer(error=str(error.os_error) if refused else f"cannot connect: {_told(error.os_error)}")
        except TimeoutError:
            return Answer(error=f"no answer within {self._timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(error=f"the connection was lost: {_told(error)}")

    def _session(self, reach: str) -> aiohttp.ClientSession:
        connector = JudgedConnector(
            ThreadedResolver(),
            allow_private=reach != "public",
            allow_public=reach != "private",
            limit=0,  # bounded by the places of each webhook
        )
        return aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, raise_for_status=False
        )


def _reach(webhook: Webhook) -> str:
    """Where its post may go: without https to private addresses alone."""
    if not webhook.url.lower().startswith("https:"):
        return "private"
    return "any" if webhook.allow_private else "public"


def _told(error: BaseException) -> str:
    return str(error) or type(error).__name__
