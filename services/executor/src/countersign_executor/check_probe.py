"""Whether a tool's declared probe can tell what became of a call. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from countersign_contracts.catalogue import AnswerLike, FileError, Probe, Tool
from countersign_contracts.documents import Parsed
from countersign_contracts.templates import placeholders

from .arguments import declared_arguments
from .check_lookups import misfit, readers, unusable
from .probe import REQUEST_ID

_RULE = "a probe looks with a tool that only reads"


def probe_errors(parsed: Parsed, tool: Tool, tools: Mapping[str, Tool]) -> Iterator[FileError]:
    """Everything wrong with the tool's probe; ``tools``: the catalogue as it will be."""
    if (probe := tool.probe) is None:
        return
    if tool.effect == "read":
        yield parsed.error(("probe",), "a tool that only reads has no unknown outcome; it needs no probe")
    lookup = tools.get(probe.tool)
    if (wrong := unusable(probe.tool, lookup, _RULE)) is not None:
        yield parsed.error(("probe", "tool"), wrong, readers(tools))
    elif lookup is not None and (wrong := misfit(probe.args, lookup)) is not None:
        yield parsed.error(("probe", "args"), wrong, ", ".join(declared_arguments(lookup)[0]) or "no arguments")
    yield from _argument_errors(parsed, probe)
    for name, wanted in (("happened_when", probe.happened_when), ("not_happened_when", probe.not_happened_when)):
        yield from _condition_errors(parsed, name, wanted)
    if probe.happened_when == probe.not_happened_when:
        yield parsed.error(
            ("probe", "not_happened_when"), "the same as `happened_when`, so it would never tell one from the other"
        )


def broken_probes(declared: Mapping[str, tuple[Parsed, Tool]], present: Mapping[str, Tool]) -> Iterator[FileError]:
    """Where a changed tool would break the probe of a tool that is not part of the change."""
    for name, tool in present.items():
        if name in declared or tool.probe is None or tool.probe.tool not in declared:
            continue
        parsed, lookup = declared[tool.probe.tool]
        if wrong := unusable(tool.probe.tool, lookup, _RULE) or misfit(tool.probe.args, lookup):
            yield parsed.error((), f"tool `{name}` is probed by this one: {wrong}")


def _argument_errors(parsed: Parsed, probe: Probe) -> Iterator[FileError]:
    named: set[str] = set()
    for argument, template in probe.args.items():
        for name in placeholders(template) if isinstance(template, str) else ():
            named.add(name)
            if name != REQUEST_ID:
                yield parsed.error(
                    ("probe", "args", argument),
                    f"a probe knows the call by its request id alone, not by `{name}`",
                    f"{{{REQUEST_ID}}}",
                )
    if REQUEST_ID not in named:
        yield parsed.error(
            ("probe", "args"), "no argument says which call is meant", f"{{{REQUEST_ID}}}, the call's Idempotency-Key"
        )


def _condition_errors(parsed: Parsed, name: str, wanted: AnswerLike) -> Iterator[FileError]:
    has_value = "equals" in wanted.model_fields_set
    if wanted.path is None and has_value:
        yield parsed.error(("probe", name, "path"), "`path` says where `equals` stands", "a dotted path")
    elif wanted.path is not None and (not has_value or wanted.equals is None):
        yield parsed.error(("probe", name, "equals"), "`path` needs what stands there; null cannot be compared with")
    elif wanted.path is None and wanted.status is None:
        yield parsed.error(("probe", name), "it says nothing of the answer", "status, or path and equals, or both")
