"""What Slack sends over HTTP, passed on: only the gateway speaks HTTP, and only the Slack service has the key."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from .command import Command, Rpc
from .model import Frozen

#: What of a request's headers is passed on, in lower case: all that the signature and the reading of the body need.
SLACK_HEADERS = ("content-type", "x-slack-signature", "x-slack-request-timestamp", "x-slack-retry-num")
#: A pressed button brings the whole message along, percent-encoded.
SLACK_BODY_BYTES = 512 * 1024


class SlackAnswer(Frozen):
    """What Slack is answered, whoever it was: a refusal of a forged request is an answer as well."""

    status: int = Field(ge=100, le=599)
    content_type: str = "text/plain;charset=utf-8"
    body: str = ""


class HandleSlackRequest(Command):
    """A request as it arrived, unverified: the Slack service checks its signature over exactly these bytes."""

    rpc: ClassVar[Rpc] = Rpc("slack", "handle_request")
    reply: ClassVar[type[Frozen]] = SlackAnswer
    headers: dict[str, str]
    body: str = Field(max_length=SLACK_BODY_BYTES)
