"""In which channels an approval is asked for. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from countersign_contracts.approval_commands import ApprovalView

DEFAULT = "default"


def channels_of(view: ApprovalView, channels: Mapping[str, str]) -> tuple[str, ...]:
    """The channels of the owner's team and of the groups that are asked; the default one where none has its own."""
    asked = {approver for stage in view.asked_by.stages for approver in stage.approvers} | set(view.escalated_to)
    names = [approver.removeprefix("group:") for approver in sorted(asked) if approver.startswith("group:")]
    names.append(view.owner_team)
    found = dict.fromkeys(channels[name] for name in names if name in channels and name != DEFAULT)
    return tuple(found) or (channels[DEFAULT],)
