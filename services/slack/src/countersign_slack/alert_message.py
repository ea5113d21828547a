"""The message about one alert, as Slack's blocks, and what its thread says. Pure.

What stands under the lock of the contracts' patterns stands as it is; every other text goes through :mod:`.words`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from countersign_contracts.alerts import Alert, AlertAcknowledged, AlertEvent, AlertResolved

from .channels import DEFAULT
from .words import code, when

_TITLES = {"open": "Alert", "acknowledged": "Alert, acknowledged", "resolved": "Resolved"}
_SIGNS = {"open": ":rotating_light:", "acknowledged": ":eyes:", "resolved": ":white_check_mark:"}
_SEVERITIES = {"info": ":white_circle:", "warning": ":large_yellow_circle:", "critical": ":red_circle:"}


def channel_of(alert: Alert, channels: Mapping[str, str]) -> str:
    """The channel of the agent's team, or the default one."""
    return channels[DEFAULT] if alert.owner_team == DEFAULT else channels.get(alert.owner_team, channels[DEFAULT])


def alert_message(alert: Alert) -> dict[str, Any]:
    """`text` and `blocks` of the message as it is to look now."""
    head = f"{_TITLES[alert.state]}: {alert.rule} of {alert.agent_id}"
    fields = [
        f"*Agent*\n`{alert.agent_id}`",
        f"*Team*\n{code(alert.owner_team, 200)}",
        f"*Severity*\n{_SEVERITIES[alert.severity]} {alert.severity}",
        f"*Since*\n{when(alert.since)}",
    ]
    lines = [f"*Found*  {code(alert.summary, 400)}"]
    if alert.description:
        lines.append(f"*What to do*  {code(alert.description, 1200)}")
    if alert.acknowledged is not None:
        comment = f": {code(alert.acknowledged.comment, 600)}" if alert.acknowledged.comment else ""
        lines.append(f":eyes: {code(alert.acknowledged.by, 140)} {when(alert.acknowledged.at)}{comment}")
    if alert.resolved_at is not None:
        lines.append(f":white_check_mark: Resolved {when(alert.resolved_at)}: {code(alert.resolution or '', 200)}")
    hint = f"`countersign alerts {'ack' if alert.state == 'open' else 'show'} {alert.alert_id}`"
    return {
        "text": f"{_SIGNS[alert.state]} {head}",
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": head[:150], "emoji": False}},
            {"type": "section", "fields": [_mrkdwn(field) for field in fields]},
            {"type": "section", "text": _mrkdwn("\n".join(lines))},
            {"type": "context", "elements": [_mrkdwn(hint)]},
        ],
    }


def alert_note(event: AlertEvent) -> str | None:
    """The line in the thread; None: the message says it."""
    alert = event.alert
    match event:
        case AlertAcknowledged():
            comment = alert.acknowledged.comment if alert.acknowledged is not None else ""
            return f":eyes: Acknowledged by {code(event.by, 140)}" + (f": {code(comment, 600)}" if comment else "")
        case AlertResolved():
            return f":white_check_mark: Resolved: {code(alert.resolution or '', 200)}"
        case _:
            return None


def _mrkdwn(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}
