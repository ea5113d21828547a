"""The page of the command `countersign`, read off its commands; rendered help would depend on a terminal."""

from collections.abc import Iterator
from typing import Any

import typer.main

from countersign_cli.main import app
from countersign_cli.output import REFUSED, UNREACHABLE, USAGE
from generate_markdown import code, codes, page, prose, table

PROGRAM = "countersign"
_TYPES = {"Path": "path", "str": "text", "int": "integer", "float": "number"}


def cli() -> str:
    """The page."""
    root = typer.main.get_command(app)
    return page(
        "The command `countersign`",
        prose(root.help),
        "Every command takes `-h` or `--help`. What programs read goes to stdout, errors go to stderr, on one line.",
        table(
            ("exit code", "meaning"),
            (
                ("0", "done"),
                (str(REFUSED), "refused, failed, or a check that did not hold"),
                (str(USAGE), "wrong usage"),
                (str(UNREACHABLE), "the system cannot be reached, or is not ready"),
            ),
        ),
        *_sections(root, PROGRAM, 2),
    )


# the classes are typer's own copies of click's, which it keeps to itself; their attributes are click's documented ones
def _sections(command: Any, path: str, level: int) -> Iterator[str]:
    for name, found in getattr(command, "commands", {}).items():
        if found.hidden:
            continue
        full = f"{path} {name}"
        yield f"{'#' * level} {code(full)}"
        yield prose(found.help)
        if hasattr(found, "commands"):
            yield from _sections(found, full, level + 1)
        else:
            yield f"```\n{_usage(full, found.params)}\n```"
            if rows := [_row(parameter) for parameter in found.params if not parameter.hidden]:
                yield table(("argument or option", "value", "default", "meaning"), rows)


def _usage(full: str, parameters: list[Any]) -> str:
    words = [full]
    if any(not p.required and p.param_type_name == "option" for p in parameters):
        words.append("[OPTIONS]")
    words += [
        f"{p.opts[-1]} {_value(p).partition(',')[0].upper()}"
        for p in parameters
        if p.required and p.param_type_name == "option"
    ]
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    words += [p.name.upper() if p.required else f"[{p.name.upper()}]" for p in arguments]
    return " ".join(words)


def _row(parameter: Any) -> tuple[str, str, str, str]:
    is_argument = parameter.param_type_name == "argument"
    names = [parameter.name.upper()] if is_argument else [*reversed(parameter.opts), *parameter.secondary_opts]
    default = "" if _is_flag(parameter) or parameter.default is None else code(str(parameter.default))
    return (
        codes(names),
        _value(parameter) + _bounds(parameter),
        "required" if parameter.required else default,
        prose(parameter.help),
    )


def _is_flag(parameter: Any) -> bool:
    return bool(getattr(parameter, "is_flag", False))


def _value(parameter: Any) -> str:
    if _is_flag(parameter):
        return ""
    annotation = parameter.type_descriptor.annotation
    inner = annotation.__args__[0] if parameter.multiple else annotation
    name = _TYPES.get(inner.__name__, str(inner.__name__))
    return f"{name}, repeatable" if parameter.multiple else name


def _bounds(parameter: Any) -> str:
    low, high = parameter.min, parameter.max
    if low is None and high is None:
        return ""
    return f", {low} to {high}" if high is not None else f", from {low}"
