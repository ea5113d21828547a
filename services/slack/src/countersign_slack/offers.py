"""What a rule allows beside a plain vote (narrower arguments, alike actions ahead), and what a form says of it. Pure.

The approvals service judges what is sent; here is what need not be asked for: whether it can be read at all, and bounds
that the form has told already.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from countersign_contracts.approval_commands import ApprovalView
from countersign_contracts.approval_rules import Narrowing, StandingLimits
from countersign_contracts.approvals import StandingOffer
from countersign_contracts.canonical import canonical
from countersign_contracts.errors import Malformed
from countersign_contracts.model import loads
from countersign_contracts.sealed import has_sealed

from .words import exact_json, typable_json

#: Arguments of so many characters, as they are shown, are shown whole.
EXACT = 5000
#: What one text field of Slack's holds.
FIELD = 3000
#: Fields for arguments in one form.
_FIELDS = 10
#: As deep as the gateway lets arguments nest.
_DEPTH = 24

#: What stands in a form's fields, by their names: what Slack calls `view.state.values`.
Values = Mapping[str, Any]


class Mistaken(Exception):
    """What was filled in cannot be meant; ``fields``: what is wrong and what is allowed, by the field's name."""

    def __init__(self, **fields: str) -> None:
        super().__init__("; ".join(fields.values()))
        self.fields = fields


def shown_args(view: ApprovalView) -> dict[str, Any]:
    """The arguments as people may see them."""
    return view.shown_args if view.shown_args is not None else view.action.args


def is_whole(view: ApprovalView, exact: int = EXACT) -> bool:
    """Whether the arguments are shown as they are, none of them cut."""
    return sum(map(len, exact_json(shown_args(view)))) <= exact


def narrowable(view: ApprovalView) -> dict[str, Narrowing]:
    """The arguments that an approver may narrow in Slack, and how: none, where not all of them can be shown."""
    if not is_whole(view):
        return {}
    args = view.action.args
    found = {
        name: how for name, how in sorted(view.asked_by.changes.items()) if name in args and _fits(how, args[name])
    }
    return dict(list(found.items())[:_FIELDS])


def _fits(how: Narrowing, value: Any) -> bool:
    """Whether there is anything narrower, and a field for it."""
    if has_sealed(value):
        return False
    match how:
        case "lower":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "subset":
            return isinstance(value, list) and len(value) > 1 and len(typable_json(value)) <= FIELD
        case "remove":
            return True


def limits_ahead(view: ApprovalView) -> StandingLimits | None:
    """How far alike actions may be allowed ahead; None, where nothing may, or nothing would come of it any more."""
    spoilt = any(vote.vote == "approve" and vote.standing is None for vote in view.votes)
    return None if spoilt or view.resource is None else view.asked_by.standing


def read_changes(values: Values, view: ApprovalView) -> dict[str, Any]:
    """What is to be changed (None: left out); raises :class:`Mistaken`."""
    changes: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    allowed = narrowable(view)
    for name, how in allowed.items():
        if how == "remove":
            if chosen(values, changed(name)):
                changes[name] = None
            continue
        try:
            value = _value(given_text(values, changed(name)), how)
        except Malformed as error:
            wrong[changed(name)] = error.detail
            continue
        if canonical(value) != canonical(view.action.args[name]):
            changes[name] = value
    if wrong:
        raise Mistaken(**wrong)
    if not changes and allowed:
        raise Mistaken(**{changed(next(iter(allowed))): "Nothing is changed. To approve it as it is: Back, Approve…"})
    return changes


def changed(name: str) -> str:
    """The name of the field for an argument."""
    return f"change.{name}"


def argument_of(detail: str, allowed: Mapping[str, Narrowing]) -> str | None:
    """The argument that a refusal begins with."""
    return next((name for name in allowed if detail.startswith(f"`{name}` ")), None)


def _value(text: str, how: Narrowing) -> Any:
    wanted = "a number, such as 12.5" if how == "lower" else 'a list, such as ["a", "b"]'
    try:
        if not text.strip():
            raise Malformed("it is empty")
        value = loads(text)
        if _depth(value) > _DEPTH:
            raise Malformed(f"it is nested deeper than {_DEPTH} levels")
        canonical(value)
    except Malformed as error:
        raise Malformed(f"It takes {wanted}, as JSON: {error.detail}"[:400]) from None
    return value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= _DEPTH:
        depth += 1
        level = [
            each
            for parent in level
            if isinstance(parent, dict | list)
            for each in (parent.values() if isinstance(parent, dict) else parent)
        ]
    return depth


def read_offer(values: Values, limits: StandingLimits, at: datetime) -> StandingOffer:
    """What is to be allowed ahead; raises :class:`Mistaken`."""
    wrong: dict[str, str] = {}
    resource = given_text(values, "resource")
    if not 0 < len(resource) <= 512:
        wrong["resource"] = "It takes the resource, or a pattern of it where * is any text; at most 512 characters."
    until = _time(_given(values, "until").get("selected_date_time"))
    # a minute of grace, as the approvals service gives: it cuts, and does not refuse
    if until is None or not at < until <= at + timedelta(seconds=limits.max_s + 60):
        wrong["until"] = f"A time to come, at most {span(limits.max_s)} from now: the rule allows no more."
    uses = given_text(values, "uses")
    if not (uses.isascii() and uses.isdigit() and len(uses) <= 5 and 1 <= int(uses) <= limits.max_uses):
        wrong["uses"] = f"A whole number from 1 to {limits.max_uses}: the rule allows no more."
    if wrong or until is None:
        raise Mistaken(**wrong)
    return StandingOffer(resource=resource, until=until, max_uses=int(uses))


def span(seconds: int) -> str:
    """A length of time in words: `8 h`, `1 d 12 h`, `90 s`."""
    found = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, seconds = divmod(seconds, size)
        if count:
            found.append(f"{count} {unit}")
    return " ".join(found)


def _time(given: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(given, UTC) if isinstance(given, int) else None
    except (OverflowError, OSError, ValueError):
        return None


def _given(values: Values, name: str) -> Mapping[str, Any]:
    """What stands in a field; nothing, where there is no such field."""
    found = values.get(name) or {}
    given = found.get(name) if isinstance(found, Mapping) else None
    return given if isinstance(given, Mapping) else {}


def given_text(values: Values, name: str) -> str:
    """What was typed into a field."""
    return str(_given(values, name).get("value") or "").strip()


def words_in(values: Values) -> str | None:
    """The comment, if there is one."""
    return given_text(values, "comment")[:2000] or None


def chosen(values: Values, name: str) -> list[str]:
    """The values that were chosen among options, whether one or several could be."""
    given = _given(values, name)
    one = given.get("selected_option")
    return [str(each.get("value")) for each in given.get("selected_options") or ([one] if one else [])]
