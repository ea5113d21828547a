"""`countersign apply`: declared, not clicked."""

from __future__ import annotations

import difflib
import json as json_
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from countersign_contracts.errors import CountersignError
from countersign_contracts.plain_text import printable

from ..client import Client
from ..output import REFUSED, command, console, errors, print_json

_SUFFIXES = (".yaml", ".yml", ".cedar")
_MAX_BYTES = 512_000
#: The executor's words; it alone knows which secrets there are, and not where a person finds the folder.
_NO_SECRET = re.compile(r"the executor has no secret `([A-Za-z0-9_]+)`")
_STYLE = {"create": "green", "update": "yellow"}


@command
def apply(
    folder: Annotated[Path, typer.Option("--file", "-f", help="A folder (or one file) of .yaml and .cedar files.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; change nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Load tools, profiles, policies, agents, approval rules: all are validated first, then all applied, or nothing."""
    from ..settings import ClientSettings

    documents = read_documents(folder)
    settings = ClientSettings()
    result = Client.find(settings).post("/api/v1/apply", {"documents": documents, "dry_run": dry_run}, timeout_s=90)
    if json:
        print_json(result)
    else:
        show(result, dry_run)
        if settings.url is None:
            say_where_secrets_go(result, settings.data_dir / "secrets")
    if result["errors"]:
        raise typer.Exit(REFUSED)


def read_documents(folder: Path) -> list[dict[str, str]]:
    """Every declared file below ``folder``, by path; raises :class:`CountersignError` where there is none."""
    if not folder.exists():
        raise CountersignError(f"no such file or folder: {folder}; nothing was applied")
    if folder.is_file():
        files = [folder]
    else:
        files = sorted(p for p in folder.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
    if not files:
        raise CountersignError(f"{folder} holds no {', '.join(_SUFFIXES)} file; nothing was applied")
    documents = []
    for file in files:
        if file.stat().st_size > _MAX_BYTES:
            raise CountersignError(f"{file} has {file.stat().st_size} bytes; at most {_MAX_BYTES} are taken")
        try:
            documents.append({"path": str(file), "text": file.read_text(encoding="utf-8")})
        except UnicodeDecodeError as error:
            raise CountersignError(f"{file} is not UTF-8 text (byte {error.start})") from None
    return documents


def show(result: dict[str, Any], dry_run: bool) -> None:
    """The difference, or every error with its place."""
    for error in result["errors"]:
        place = ":".join(str(part) for part in (error["path"], error.get("line")) if part is not None)
        field = f" {error['field']}:" if error.get("field") else ""
        allowed = f" (allowed: {error['allowed']})" if error.get("allowed") else ""
        message = f"{field} {error['message']}{allowed}"
        errors.print(f"[red]{escape(place)}:[/]{escape(printable(message))}")
    if result["errors"]:
        errors.print(f"[red]{len(result['errors'])} error(s): nothing was applied[/]")
        return
    changed = [c for c in result["changes"] if c["action"] != "unchanged"]
    for change in changed:
        style = _STYLE[change["action"]]
        console.print(f"[{style}]{change['action']}[/] {change['kind']} {escape(change['name'])}")
        if change["action"] == "update":
            for line in difference(change.get("before"), change.get("after")):
                console.print(f"    {escape(printable(line))}", style=_line_style(line))
    same = len(result["changes"]) - len(changed)
    if not changed:
        console.print(f"nothing to change ({same} unchanged)")
    elif dry_run:
        console.print(f"{len(changed)} would change, {same} unchanged; nothing was applied (--dry-run)")
    else:
        console.print(f"applied: {len(changed)} changed, {same} unchanged ({result['change_id']})")


def say_where_secrets_go(result: dict[str, Any], folder: Path) -> None:
    """Name the file that each missing secret of a local system belongs into."""
    missing = [name for error in result["errors"] for name in _NO_SECRET.findall(error["message"])]
    for name in dict.fromkeys(missing):
        errors.print(f"write the secret to a file of yours alone (chmod 600): {escape(str(folder / name))}")


def difference(before: Any, after: Any) -> list[str]:
    """The changed lines of two JSON values."""
    lines = difflib.unified_diff(_lines(before), _lines(after), lineterm="", n=1)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def _lines(value: Any) -> list[str]:
    return json_.dumps(value, indent=2, ensure_ascii=False).splitlines()


def _line_style(line: str) -> str:
    return {"+": "green", "-": "red"}.get(line[:1], "dim")
