"""From rows to Slack: one queue for each channel, as fast as Slack lets, for as long as it takes.

A channel is worked by one replica at a time. What Slack does not take now stays a row; nothing else waits for it.
"""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from typing import Any

import orjson
from prometheus_client import Counter, Gauge

from countersign_chassis import Failpoints
from countersign_contracts.ids import new_id
from countersign_contracts.model import now

from .calls import Slack, SlackAway, SlackLimits, SlackRefused
from .settings import Settings
from .store import Card, Note, Store

#: Above the longest call, so that two never work one channel.
_LEASE_FACTOR = 4
_MAX_TRIES = 5
_BACKOFF_S = 0.5


class Poster:
    """Sends what :mod:`.intake` has written."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        slack: Slack,
        failpoints: Failpoints,
        log: Any,
        given_up: Counter,
        waiting: Gauge,
        oldest: Gauge,
    ) -> None:
        self._settings = settings
        self._store = store
        self._slack = slack
        self._failpoints = failpoints
        self._log = log
        self._given_up = given_up
        self._waiting = waiting
        self._oldest = oldest
        self._wake = asyncio.Event()
        self._working: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """There may be something to send."""
        self._wake.set()

    async def run(self) -> None:
        """Send for ever."""
        while True:
            self._wake.clear()
            lease = new_id()
            channel = await self._store.take_lane(now(), lease, _LEASE_FACTOR * self._settings.slack_timeout_s)
            if channel is not None:
                work = asyncio.create_task(self._work(channel, lease))
                self._working.add(work)
                work.add_done_callback(self._working.discard)
                await asyncio.shield(work)
                continue
            try:
                async with asyncio.timeout(self._settings.slack_poll_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def drain(self) -> None:
        """Let what is on its way to Slack arrive: cut off, it might be sent again by another replica."""
        if self._working:
            await asyncio.wait(self._working, timeout=self._settings.shutdown_grace_s)

    async def count(self) -> None:
        """Tell how much waits, and forget what is long past, for ever."""
        while True:
            waiting, oldest = await self._store.waiting()
            self._waiting.set(waiting)
            self._oldest.set((now() - oldest).total_seconds() if oldest else 0)
            await self._store.forget(now() - timedelta(days=self._settings.slack_keep_days))
            await asyncio.sleep(5)

    async def _work(self, channel: str, lease: str) -> None:
        """Send one thing, then give the channel back until the next may be sent."""
        pause, well = _BACKOFF_S, False
        try:
            item = await self._store.next_in(channel)
            sent = item is not None and await self._send(item)
            pause, well = self._settings.slack_pace_s if sent else 0.0, True
        except SlackLimits as limit:
            pause, well = max(limit.after_s, self._settings.slack_pace_s), True
            self._log.info("Slack's rate limit", channel=channel, after_s=limit.after_s)
        except SlackAway as error:
            failures = await self._store.failures(channel)
            pause = min(_BACKOFF_S * 2 ** min(failures, 16), self._settings.slack_backoff_max_s)
            self._log.warning(
                "Slack does not take it now; trying again", channel=channel, error=str(error), after_s=pause
            )
        finally:
            await self._store.release(channel, lease, now() + timedelta(seconds=pause), well=well)

    async def _send(self, item: Card | Note) -> bool:
        """Send it; false if nothing had to be."""
        try:
            if isinstance(item, Note):
                await self._slack.call(
                    "chat.postMessage",
                    channel=item.channel,
                    thread_ts=item.thread_ts,
                    text=item.text,
                    unfurl_links=False,
                    unfurl_media=False,
                )
                await self._store.said(item)
                return True
            return await self._card(item)
        except SlackRefused as refused:
            await self._refused(item, refused)
            return True

    async def _card(self, card: Card) -> bool:
        if card.ts is None and not card.pending:
            await self._store.drop(card)  # it ended before anybody was asked here
            return False
        content = orjson.loads(card.content)
        sha256 = hashlib.sha256(card.content.encode()).hexdigest()
        if card.ts is not None:
            await self._slack.call("chat.update", channel=card.channel, ts=card.ts, **content)
            await self._store.sent(card, card.ts, sha256)
            return True
        answer = await self._slack.call(
            "chat.postMessage", channel=card.channel, unfurl_links=False, unfurl_media=False, **content
        )
        await self._failpoints.hit("slack.after_post_before_commit")
        ts = str(answer["ts"])
        if not await self._store.sent(card, ts, sha256):
            # this replica stood still for so long that another one has posted it
            await self._slack.call("chat.delete", channel=card.channel, ts=ts)
        return True

    async def _refused(self, item: Card | Note, refused: SlackRefused) -> None:
        if isinstance(item, Card) and item.ts is not None and refused.code == "message_not_found":
            await self._store.lost(item)
            return
        if await self._store.failed(item) < _MAX_TRIES:
            self._log.warning("Slack refuses a message", channel=item.channel, code=refused.code)
            return
        self._given_up.inc()
        self._log.error("given up on a message", approval=item.approval_id, channel=item.channel, code=refused.code)
        await (self._store.drop(item) if isinstance(item, Card) else self._store.said(item))
