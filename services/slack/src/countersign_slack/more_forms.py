"""The forms for what a rule allows beside a plain vote: narrower arguments, and alike actions ahead. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from countersign_contracts.approval_commands import ApprovalView
from countersign_contracts.approval_rules import Narrowing, StandingLimits
from countersign_contracts.plain_text import printable

from .blocks import comment, field, form, option, section
from .offers import FIELD, changed, limits_ahead, narrowable, span
from .rendering import arguments, subject
from .words import code, typable_json, when

CHANGE_FORM, ALLOW_FORM = "countersign_change_form", "countersign_allow_form"
#: How long alike actions are allowed unless somebody says longer.
_USUAL_S = 3600


def change_form(view: ApprovalView, private: str) -> dict[str, Any] | None:
    """The form to approve narrower arguments; None where none may be narrowed here."""
    allowed = narrowable(view)
    if not allowed:
        return None
    more = len(view.asked_by.changes) - len(allowed)
    others = f" Of {more} more: `countersign approvals approve {view.approval_id} --change`." if more else ""
    told = f"What you narrow makes *another action*, which policy decides on anew; this one ends.{others}"
    fields = [_narrower(name, how, view.action.args[name]) for name, how in allowed.items()]
    return form(
        CHANGE_FORM,
        "Approve with changes",
        "Approve changed",
        private,
        [subject(view), *arguments(view), section(told), *fields, comment("Comment", optional=True)],
    )


def _narrower(name: str, how: Narrowing, value: Any) -> dict[str, Any]:
    if how == "remove":
        leave_out = {"type": "checkboxes", "options": [option("Leave it out", "remove")]}
        return field(
            changed(name), name, leave_out, "It may be left out, and not be given another value.", optional=True
        )
    text = typable_json(value)
    if how == "lower":
        least = " and at least 0" if value >= 0 else ""
        element = {"type": "plain_text_input", "initial_value": text, "max_length": FIELD}
        return field(changed(name), name, element, f"It may be lowered: to less than {text}{least}.")
    element = {"type": "plain_text_input", "multiline": True, "initial_value": text, "max_length": FIELD}
    return field(
        changed(name), name, element, "It may be cut down: to some of its items, in their order, at least one."
    )


def allow_form(view: ApprovalView, private: str, at: datetime) -> dict[str, Any] | None:
    """The form to approve, and to allow alike actions ahead; None where the rule allows nothing ahead."""
    limits = limits_ahead(view)
    if limits is None or view.resource is None:
        return None
    action = view.action
    latest = at + timedelta(seconds=limits.max_s)
    told = (
        f"Allowed ahead, *{action.tool}* by *{action.agent_id}* in *{action.env}* on what the pattern covers waits for"
        " nobody, whatever its other arguments are, if its risk is no higher. The rule allows that until"
        f" {when(latest)}, {limits.max_uses} times at most. It takes every vote that this approval needs; of what they"
        " allow, the narrowest counts."
    )
    return form(
        ALLOW_FORM,
        "Approve, and ahead",
        "Approve and allow",
        private,
        [
            subject(view),
            *arguments(view),
            section(f"*It touches*\n{code(view.resource, 1000)}"),
            section(told),
            _pattern(view.resource),
            _until(limits, at),
            _uses(limits),
            comment("Comment", optional=True),
        ],
    )


def _pattern(resource: str) -> dict[str, Any]:
    element: dict[str, Any] = {"type": "plain_text_input", "max_length": 512}
    # an agent chose these characters: they must not become a pattern unseen, nor hide in the field
    if "*" not in resource and len(resource) <= 512 and printable(resource) == resource and "\n" not in resource:
        element["initial_value"] = resource
    hint = "* is any text. As it stands, only exactly what this action touches; it must cover that."
    return field("resource", "On which resources", element, hint)


def _until(limits: StandingLimits, at: datetime) -> dict[str, Any]:
    first = at + timedelta(seconds=min(limits.max_s, _USUAL_S))
    element = {"type": "datetimepicker", "initial_date_time": int(first.timestamp())}
    return field("until", "Until", element, f"At most {span(limits.max_s)} from now.")


def _uses(limits: StandingLimits) -> dict[str, Any]:
    element = {"type": "number_input", "is_decimal_allowed": False, "min_value": "1", "max_value": str(limits.max_uses)}
    return field("uses", "How many times", element, f"From 1 to {limits.max_uses}; this action is not one of them.")
