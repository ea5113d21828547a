"""Every member of the workspace is a whole package: explained, typed, tested, and in each list of members."""

import tomllib

from workspace import ROOT, Member, members

ROOT_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_it_says_what_it_is(member: Member) -> None:
    assert len((member.folder / "README.md").read_text(encoding="utf-8").split()) > 20


def test_it_tells_type_checkers_that_it_is_typed(member: Member) -> None:
    assert (member.source / "py.typed").is_file()


def test_it_is_tested(member: Member) -> None:
    assert list((member.folder / "tests").rglob("test_*.py"))


def test_it_pins_nothing_because_the_lock_does(member: Member) -> None:
    assert [wish for wish in member.dependencies if any(sign in wish for sign in "=<>~@")] == []


def test_every_folder_of_packages_is_a_member_of_the_workspace() -> None:
    found = {file.parent for file in ROOT.glob("*/**/pyproject.toml") if ".venv" not in file.parts}
    assert found == {member.folder for member in members()}


def test_the_workspace_and_the_import_rules_know_every_member() -> None:
    assert set(ROOT_PROJECT["tool"]["uv"]["sources"]) == {member.name for member in members()}
    linted = ROOT_PROJECT["tool"]["importlinter"]["root_packages"]
    assert set(linted) == {member.import_name for member in members()}
