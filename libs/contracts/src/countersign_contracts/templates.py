"""Templates with ``{argument}`` in them: which arguments they name, and filling them in.

Filling is plain replacement, never ``str.format``: a template cannot reach into objects, and a value that
looks like a placeholder stays text. Escaping for a URL is the business of :mod:`.request`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,63})\}")


def placeholders(template: str) -> tuple[str, ...]:
    """The arguments a template names, in order, repeats included."""
    return tuple(_PLACEHOLDER.findall(template))


def pieces(template: str) -> list[str]:
    """Literal text and argument names by turns, beginning and ending with (maybe empty) text."""
    return _PLACEHOLDER.split(template)


def stray_brace(template: str) -> bool:
    """Whether a brace stands there that belongs to no placeholder."""
    return any("{" in text or "}" in text for text in pieces(template)[::2])


def fill(template: str, args: Mapping[str, Any]) -> str:
    """The template with every argument it names as text; one that is absent is shown as its name."""
    return _PLACEHOLDER.sub(lambda match: shown(args[match[1]]) if match[1] in args else match[0], template)


def fill_value(template: Any, args: Mapping[str, Any]) -> Any:
    """Like :func:`fill`, but a template that is one placeholder keeps the argument's type.

    Other types pass as they are.
    """
    if not isinstance(template, str):
        return template
    if (whole := _PLACEHOLDER.fullmatch(template)) and whole[1] in args:
        return args[whole[1]]
    return fill(template, args)


def shown(value: Any) -> str:
    """A value as people read it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
