"""Whether a declared approval rule makes sense, beyond its model: each error with its place in the file. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from countersign_contracts.approval_rules import ApprovalRule, Stage
from countersign_contracts.catalogue import FileError, Tool
from countersign_contracts.documents import Parsed
from countersign_contracts.sensitive import read_marks

_PERSON = "person:"


def rule_errors(parsed: Parsed, rule: ApprovalRule, tools: Mapping[str, Tool]) -> Iterator[FileError]:
    """Everything wrong with one rule, given the tools there are."""
    for index, name in enumerate(rule.match.tools):
        if name not in tools:
            known = ", ".join(sorted(tools)) or "none: there is no tool yet"
            yield parsed.error(("match", "tools", index), f"there is no tool `{name}`", known)
    yield from _people_errors(parsed, rule)
    yield from _time_errors(parsed, rule)
    named = [tools[name] for name in rule.match.tools if name in tools]
    yield from _argument_errors(parsed, rule, named)
    yield from _sensitive_errors(parsed, rule, named or list(tools.values()))


def marked_errors(parsed: Parsed, tool: Tool, others: Iterable[ApprovalRule]) -> Iterator[FileError]:
    """Arguments that the tool marks sensitive, and a rule that is not part of the change looks at."""
    hidden = read_marks(tool.arguments)[0].holding
    for rule in others:
        if rule.match.tools and tool.name not in rule.match.tools:
            continue
        for name in sorted(hidden & _looked_at(rule)):
            message = f"approval rule `{rule.name}` looks at `{name}`, which nobody but the executor could read"
            allowed = "no `x-sensitive` here, or that rule changed in the same files"
            yield parsed.error(("arguments", "properties", name), message, allowed)


def _looked_at(rule: ApprovalRule) -> frozenset[str]:
    return frozenset(condition.field for condition in rule.match.arguments) | rule.changes.keys()


def _people_errors(parsed: Parsed, rule: ApprovalRule) -> Iterator[FileError]:
    """Quorums that the people named can never make up: each counts once, over all stages."""
    closed = [stage for stage in rule.stages if _named_only(stage)]
    for index, stage in enumerate(rule.stages):
        named = set(stage.approvers)
        if stage in closed and len(named) < stage.quorum:
            yield parsed.error(
                ("stages", index, "quorum"),
                f"stage `{stage.name}` needs {stage.quorum} people and names {len(named)}",
                f"at most {len(named)}, or further approvers",
            )
            return
    if not _can_all_be_filled(closed):
        yield parsed.error(
            ("stages",),
            "the people named cannot fill every stage: each counts once, over all stages",
            "further people, or a group",
        )
    everyone = {approver for stage in rule.stages for approver in stage.approvers}
    if len(closed) == len(rule.stages) and not rule.escalate and len(everyone) < rule.deny_threshold:
        yield parsed.error(
            ("deny_threshold",),
            f"{rule.deny_threshold} rejections are needed, and {len(everyone)} people are named",
            f"at most {len(everyone)}",
        )


def _named_only(stage: Stage) -> bool:
    return all(approver.startswith(_PERSON) for approver in stage.approvers)


def _can_all_be_filled(stages: list[Stage]) -> bool:
    """Whether there are different people for every seat of these stages (augmenting paths)."""
    seats = [(index, seat) for index, stage in enumerate(stages) for seat in range(stage.quorum)]
    taken: dict[str, tuple[int, int]] = {}

    def seated(seat: tuple[int, int], tried: set[str]) -> bool:
        for person in stages[seat[0]].approvers:
            if person not in tried:
                tried.add(person)
                if person not in taken or seated(taken[person], tried):
                    taken[person] = seat
                    return True
        return False

    return all(seated(seat, set()) for seat in seats)


def _time_errors(parsed: Parsed, rule: ApprovalRule) -> Iterator[FileError]:
    ascending = list(rule.remind_after_s) == sorted(set(rule.remind_after_s))
    if not ascending:
        yield parsed.error(("remind_after_s",), "reminders follow one another", "ascending seconds, each once")
    if rule.deadline_s is None or rule.at_deadline == "pause":
        return  # what comes after the profile's deadline is left out; what pauses is open beyond it
    allowed = f"less than the deadline, {rule.deadline_s} s; or at_deadline: pause"
    for index, seconds in enumerate(rule.remind_after_s):
        if seconds >= rule.deadline_s:
            yield parsed.error(("remind_after_s", index), "the reminder comes when all is over", allowed)
    for index, step in enumerate(rule.escalate):
        if step.after_s >= rule.deadline_s:
            yield parsed.error(("escalate", index, "after_s"), "the escalation comes when all is over", allowed)


def _argument_errors(parsed: Parsed, rule: ApprovalRule, named: list[Tool]) -> Iterator[FileError]:
    """Arguments that none of the named tools has; where no tool is named, any name may be one."""
    if not named:
        return
    known = {name for tool in named for name in _properties(tool)}
    listed = ", ".join(sorted(known)) or "there are none"
    for index, condition in enumerate(rule.match.arguments):
        if condition.field not in known:
            loc = ("match", "arguments", index, "field")
            yield parsed.error(loc, f"`{condition.field}` is not an argument", listed)
    for name, narrowing in rule.changes.items():
        if name not in known:
            yield parsed.error(("changes", name), f"`{name}` is not an argument", listed)
            continue
        for tool in named:
            if wrong := _cannot_narrow(tool, name, narrowing):
                yield parsed.error(("changes", name), f"`{name}` of tool `{tool.name}` {wrong[0]}", wrong[1])
                break


def _cannot_narrow(tool: Tool, name: str, narrowing: str) -> tuple[str, str] | None:
    """Why an argument cannot be narrowed that way, and what can be done instead."""
    schema = _properties(tool).get(name)
    if schema is None:
        return None
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    kinds = set(kind) if isinstance(kind, list) else {kind}
    if narrowing == "lower" and kind is not None and not kinds & {"integer", "number"}:
        return "is no number", "subset for lists, remove for what may be left out"
    if narrowing == "subset" and kind is not None and "array" not in kinds:
        return "is no list", "lower for numbers, remove for what may be left out"
    if narrowing == "remove" and name in tool.arguments.get("required", ()):
        return "is required, so it cannot be left out", "lower for numbers, subset for lists"
    return None


def _sensitive_errors(parsed: Parsed, rule: ApprovalRule, tools: list[Tool]) -> Iterator[FileError]:
    hidden = {name: tool.name for tool in tools for name in read_marks(tool.arguments)[0].holding}
    allowed = "arguments that are not sensitive, or match.tools without that tool"
    for index, condition in enumerate(rule.match.arguments):
        if condition.field in hidden and condition.present is None:
            message = (
                f"tool `{hidden[condition.field]}` marks `{condition.field}` sensitive: only the executor reads it"
            )
            yield parsed.error(("match", "arguments", index, "field"), message, f"{allowed}; or `present`")
    for name in rule.changes:
        if name in hidden:
            message = f"tool `{hidden[name]}` marks `{name}` sensitive: nobody else can change it"
            yield parsed.error(("changes", name), message, allowed)


def _properties(tool: Tool) -> Mapping[str, object]:
    properties = tool.arguments.get("properties", {})
    return properties if isinstance(properties, Mapping) else {}
