"""Slack's Web API as this service calls it, and what each kind of failure means for what is to be sent."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import aiohttp
from prometheus_client import Counter
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

_LEARN_S = 5.0


class SlackRefused(Exception):
    """Slack does not take this message, and will not the next time. ``code`` is Slack's own."""

    def __init__(self, code: str) -> None:
        super().__init__(f"Slack refuses it: {code}")
        self.code = code


class SlackAway(Exception):
    """Slack does not answer, or not well; the same will do later."""


class SlackLimits(Exception):
    """Too many calls: not before ``after_s``."""

    def __init__(self, after_s: float) -> None:
        super().__init__(f"Slack takes no more calls for {after_s:g} s")
        self.after_s = after_s


#: What is wrong with the deployment, not with the message: it passes once somebody mends it.
TROUBLE = frozenset(
    {
        "account_inactive",
        "channel_is_limited_access",
        "channel_not_found",
        "ekm_access_denied",
        "fatal_error",
        "internal_error",
        "invalid_auth",
        "is_archived",
        "missing_scope",
        "no_permission",
        "not_allowed_token_type",
        "not_authed",
        "not_in_channel",
        "org_login_required",
        "request_timeout",
        "restricted_action",
        "service_unavailable",
        "team_access_not_granted",
        "team_added_to_org",
        "token_expired",
        "token_revoked",
    }
)


class Slack:
    """The Web API, with the bot's token. ``session`` is set while the service runs."""

    def __init__(self, url: str, token: str, timeout_s: float, calls: Counter) -> None:
        self.client = AsyncWebClient(
            token=token,
            base_url=url if url.endswith("/") else f"{url}/",
            timeout=max(1, round(timeout_s)),
            retry_handlers=[],
        )
        self._timeout_s = timeout_s
        self._calls = calls
        #: Why Slack takes nothing now, for people.
        self.trouble: str | None = None
        self.team: str | None = None

    async def open(self) -> None:
        """One session for all calls."""
        self.client.session = aiohttp.ClientSession(trust_env=True)

    async def close(self) -> None:
        """End the session."""
        if self.client.session is not None:
            await self.client.session.close()

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method; raises :class:`SlackLimits`, :class:`SlackAway` or :class:`SlackRefused`."""
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self.client.api_call(method, json=parameters)
        except SlackApiError as error:
            raise self._meaning(method, error) from None
        except (OSError, TimeoutError, aiohttp.ClientError, ValueError) as error:
            self._calls.labels(method, "away").inc()
            self.trouble = f"Slack does not answer: {str(error) or type(error).__name__}"
            raise SlackAway(self.trouble) from None
        self._calls.labels(method, "ok").inc()
        self.trouble = None
        data: dict[str, Any] = answer.data if isinstance(answer.data, dict) else {}
        return data

    async def respond(self, url: str, text: str) -> None:
        """Answer at the address that came with a payload, seen by who sent it alone; it works for half an hour.

        Raises as :meth:`call` does.
        """
        webhook = AsyncWebhookClient(
            url, timeout=max(1, round(self._timeout_s)), session=self.client.session, retry_handlers=[]
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await webhook.send(text=text, response_type="ephemeral", replace_original=False)
        except (OSError, TimeoutError, aiohttp.ClientError, ValueError) as error:
            self._calls.labels("response_url", "away").inc()
            raise SlackAway(f"Slack does not answer: {str(error) or type(error).__name__}") from None
        if answer.status_code >= 400:
            self._calls.labels("response_url", "refused").inc()
            raise SlackRefused(f"status {answer.status_code}")
        self._calls.labels("response_url", "ok").inc()

    def _meaning(self, method: str, error: SlackApiError) -> Exception:
        response = error.response
        code = str(response.get("error") or f"status {response.status_code}")
        if response.status_code == 429 or code in ("ratelimited", "rate_limited"):
            self._calls.labels(method, "limited").inc()
            headers = {name.lower(): value for name, value in response.headers.items()}
            try:
                return SlackLimits(max(0.0, float(headers.get("retry-after", 1))))
            except ValueError:
                return SlackLimits(1.0)
        if response.status_code >= 500 or code in TROUBLE:
            self._calls.labels(method, "away").inc()
            self.trouble = f"Slack answers {code} to {method}"
            return SlackAway(self.trouble)
        self._calls.labels(method, "refused").inc()
        return SlackRefused(code)

    async def workspace(self) -> str:
        """The id of the workspace that the token is for; asked once."""
        if self.team is None:
            self.team = str((await self.call("auth.test"))["team_id"])
        return self.team

    async def learn_workspace(self) -> None:
        """Ask until it is known: people are mentioned by it."""
        while self.team is None:
            with suppress(SlackAway, SlackLimits, SlackRefused):
                await self.workspace()
                return
            await asyncio.sleep(_LEARN_S)
