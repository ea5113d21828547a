"""Every module is small, explained and named by its duty, and leaves the environment to the settings."""

import ast
from pathlib import Path

import pytest

from workspace import ROOT, Member, members

MOST_LINES = 400
# Names that say nothing of a duty, and so collect every duty.
NAMES_OF_NO_DUTY = {
    "base",
    "common",
    "helper",
    "helpers",
    "manager",
    "managers",
    "misc",
    "shared",
    "util",
    "utils",
}


def modules() -> list[Path]:
    """Every module that is no test: the members', the tools', the benchmarks', the tests' own harness."""
    beside = [file for folder in ("tools", "benchmarks", "tests/harness") for file in (ROOT / folder).rglob("*.py")]
    return [module for member in members() for module in member.modules()] + sorted(beside)


def faults(module: Path) -> list[str]:
    """What is wrong with a module's size, docstring and name."""
    text = module.read_text(encoding="utf-8")
    found = []
    if (lines := text.count("\n")) >= MOST_LINES:
        found.append(f"{lines} lines; under {MOST_LINES} it would have one subject")
    if not (ast.get_docstring(ast.parse(text)) or "").strip():
        found.append("no docstring that says what it is for")
    named = module.parent.name if module.stem == "__init__" else module.stem
    if NAMES_OF_NO_DUTY & set(named.strip("_").split("_")):
        found.append(f"`{named}` names no duty")
    return found


def environment_reads(text: str) -> list[int]:
    """The lines that read the process's environment."""
    reads = {"environ", "environb", "getenv", "getenvb"}
    found = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr=name) if name in reads:
                found.append(node.lineno)
            case ast.ImportFrom(module="os", names=names) if reads & {alias.name for alias in names}:
                found.append(node.lineno)
    return found


def test_every_module_is_small_documented_and_named_by_its_duty() -> None:
    found = [f"{module.relative_to(ROOT)}: {fault}" for module in modules() for fault in faults(module)]
    assert not found, "\n".join(found)


def test_only_settings_read_the_environment(member: Member) -> None:
    others = [module for module in member.modules() if module.name != "settings.py"]
    found = [f"{module}:{line}" for module in others for line in environment_reads(module.read_text("utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("long.py", '"""Long."""\n' + "x = 1\n" * MOST_LINES, "401 lines"),
        ("mute.py", "x = 1\n", "no docstring"),
        ("blank.py", '""" """\n', "no docstring"),
        ("utils.py", '"""Anything."""\n', "names no duty"),
        ("http_helpers.py", '"""Anything."""\n', "names no duty"),
        ("common/__init__.py", '"""Anything."""\n', "names no duty"),
    ],
)
def test_a_bad_module_is_seen(tmp_path: Path, name: str, text: str, fault: str) -> None:
    module = tmp_path / name
    module.parent.mkdir(exist_ok=True)
    module.write_text(text)
    assert fault in "".join(faults(module))


@pytest.mark.parametrize(
    "text", ["import os\nos.environ['A']", "import os\nos.getenv('A')", "from os import path, environ\n"]
)
def test_a_read_of_the_environment_is_seen(text: str) -> None:
    assert environment_reads(text)
