"""Slack's side of the service: one bolt application, whichever way payloads come, and the check of the workspace."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

from slack_bolt.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.response import BoltResponse

from .calls import Slack, SlackAway, SlackLimits, SlackRefused
from .commands import SlashCommands, typed
from .more_forms import ALLOW_FORM, CHANGE_FORM
from .more_votes import MoreVotes
from .people import identity_of
from .refusals import Refusals
from .rendering import ALLOW, APPROVE, CHANGE, REJECT
from .revoking import Revoking
from .settings import Settings
from .several import SeveralVotes
from .several_form import DECIDE, SEVERAL_FORM
from .standing_list import REVOKE, REVOKE_FORM
from .voting import Voting
from .whispers import Filled, Whispers

COMMAND = "/countersign"
_ID = re.compile(r"^[A-Z0-9]{1,32}$")


def make_app(
    settings: Settings,
    signing_secret: str | None,
    slack: Slack,
    voting: Voting,
    more_votes: MoreVotes,
    several_votes: SeveralVotes,
    revoking: Revoking,
    whispers: Whispers,
    commands: SlashCommands,
    refusals: Refusals,
    log: Any,
) -> AsyncApp:
    """The application; it verifies signatures by itself where payloads come over HTTP."""

    async def of_our_workspace(body: dict[str, Any], next: Callable[[], Awaitable[Any]]) -> Any:
        if body.get("type") == "url_verification":
            return await next()  # signed, of no workspace, and answered with what it brings
        try:
            ours = settings.slack_team or await slack.workspace()
        except (SlackAway, SlackLimits, SlackRefused) as error:
            log.warning("cannot tell which workspace is ours yet", error=str(error))
            return BoltResponse(status=503, body="")
        if stranger := foreign_team(body, ours):
            await refusals.tell("workspace", f"a payload of workspace {stranger}", identity_in(body))
            return BoltResponse(status=200, body="Countersign serves another workspace. Nothing was done.")
        return await next()

    async def authorize(**_: Any) -> AuthorizeResult:
        return AuthorizeResult(enterprise_id=None, team_id=slack.team, bot_token=slack.client.token)

    quiet = logging.getLogger("countersign.slack.bolt")
    quiet.setLevel(logging.CRITICAL)  # it logs bodies, tokens in them included; what matters is logged here
    app = AsyncApp(
        name=quiet.name,  # the library quiets the logger of this name, and all below it
        logger=quiet,
        client=_unauthorised(slack),
        signing_secret=signing_secret or "",
        before_authorize=of_our_workspace,
        authorize=authorize,
    )

    @app.action(APPROVE)
    @app.action(REJECT)
    @app.action(CHANGE)
    @app.action(ALLOW)
    async def pressed(ack: Any, body: dict[str, Any]) -> None:
        await ack()
        await voting.pressed(body, identity_in(body))
        await voting.tidy(body)

    @app.view("countersign_vote")
    async def submitted(ack: Any, body: dict[str, Any]) -> None:
        await ack()
        await voting.submitted(body, identity_in(body))

    @app.view(CHANGE_FORM)
    @app.view(ALLOW_FORM)
    async def submitted_with_more(ack: Any, body: dict[str, Any]) -> None:
        await settle(ack, await more_votes.submitted(body, identity_in(body)))

    @app.action(DECIDE)
    async def pressed_for_several(ack: Any, body: dict[str, Any]) -> None:
        await ack()
        await several_votes.pressed(body, identity_in(body))

    @app.view(SEVERAL_FORM)
    async def submitted_for_several(ack: Any, body: dict[str, Any]) -> None:
        several = await several_votes.read(body, identity_in(body))
        await settle(ack, Filled(several.errors))
        if not several.errors:
            await several_votes.cast(several, identity_in(body))

    @app.action(REVOKE)
    async def pressed_to_revoke(ack: Any, body: dict[str, Any]) -> None:
        await ack()
        await revoking.pressed(body, identity_in(body))

    @app.view(REVOKE_FORM)
    async def submitted_to_revoke(ack: Any, body: dict[str, Any]) -> None:
        await settle(ack, await revoking.submitted(body, identity_in(body)))

    async def settle(ack: Any, filled: Filled) -> None:
        """Close the form, or keep it open with what is wrong; tell the rest."""
        if filled.errors:
            await ack(response_action="errors", errors=filled.errors)
        else:
            await ack()
        if filled.told:
            await whispers.answer(filled.where, filled.told)

    @app.command(COMMAND)
    async def ordered(ack: Any, respond: Any, body: dict[str, Any]) -> None:
        await ack()
        answer = await commands.answer(typed(body), identity_in(body))
        await respond(text=answer.text, blocks=answer.blocks, response_type="ephemeral")

    @app.error
    async def failed(error: Exception) -> None:
        log.error("a payload could not be handled", error=repr(error))

    return app


def identity_in(body: dict[str, Any]) -> str:
    """Who sent a payload: `T012/U345`, whatever kind of payload it is."""
    team, user = body.get("team") or {}, body.get("user") or {}
    team_id = str(team.get("id", "")) or str(body.get("team_id") or "")
    user_id = str(user.get("id", "")) or str(body.get("user_id") or "")
    return identity_of(team_id[:32], user_id[:32])


def foreign_team(body: dict[str, Any], ours: str) -> str | None:
    """The workspace that a payload, or who sent it, is of, if it is not ours.

    In a channel shared with another workspace its people press buttons too: they are of theirs.
    """
    team, user = body.get("team") or {}, body.get("user") or {}
    named = [team.get("id") or body.get("team_id") or "none"]
    named += [where for where in (user.get("team_id"), body.get("user_team_id")) if where]
    return next((str(where)[:40] for where in named if where != ours or not _ID.fullmatch(str(where))), None)


def _unauthorised(slack: Slack) -> Any:
    """A client for bolt's own use: it takes the token from `authorize`."""
    from slack_sdk.web.async_client import AsyncWebClient

    return AsyncWebClient(base_url=slack.client.base_url, timeout=slack.client.timeout)
