"""Payloads over Socket Mode: one connection that this service opens, and opens again for as long as it lives."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import aiohttp
from prometheus_client import Gauge
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.errors import SlackApiError

from .calls import Slack

_LONGEST_PAUSE_S = 30.0
#: The client tries for ever with the ticket it was given, and tickets expire: after so many pings it is made anew.
_PATIENCE = 6


class OverSocket:
    """Keeps the connection."""

    def __init__(self, app: AsyncApp, app_token: str, slack: Slack, ping_s: float, log: Any, connected: Gauge) -> None:
        self._app = app
        self._app_token = app_token
        self._slack = slack
        self._ping_s = ping_s
        self._log = log
        self._connected = connected
        self._client: Any = None
        self._logger = logging.getLogger("countersign.slack.socket")
        self._logger.setLevel(logging.CRITICAL + 1)  # it logs the connection's ticket and payloads

    async def run(self) -> None:
        """Connect, watch, and connect anew, for ever."""
        pause = 0.2
        while True:
            try:
                await self._open()
                pause = 0.2
                await self._watch()
                self._log.warning("the connection to Slack does not come back; opening another one")
            except (SlackApiError, aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                said = error.response.get("error") if isinstance(error, SlackApiError) else str(error)
                self._slack.trouble = f"no Socket Mode connection: {said or type(error).__name__}"
                self._log.warning("cannot connect to Slack; trying again", error=self._slack.trouble)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)
            finally:
                await self.close()

    async def _open(self) -> None:
        handler = AsyncSocketModeHandler(
            self._app, self._app_token, logger=self._logger, web_client=self._slack.client, ping_interval=self._ping_s
        )
        self._client = handler.client
        async with asyncio.timeout(_PATIENCE * self._ping_s):
            await self._client.connect_to_new_endpoint()
        self._slack.trouble = None
        self._log.info("connected to Slack")

    async def _watch(self) -> None:
        """Return once the connection has been gone for too long; the client itself reconnects sooner."""
        missing = 0
        while missing < 2 * _PATIENCE:
            connected = await self._client.is_connected()
            self._connected.set(connected)
            missing = 0 if connected else missing + 1
            await asyncio.sleep(self._ping_s / 2)

    async def close(self) -> None:
        """End the connection."""
        self._connected.set(0)
        client, self._client = self._client, None
        if client is not None:
            await client.close()
