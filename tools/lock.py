"""Writes requirements.lock, and from it those of the image and of the set-up itself: what `make lock` runs.

One version of every package for every supported platform and Python, each of its files pinned by hash. No
index and no host is named: the hashes say what may be installed, whoever serves it. Versions stay as they are
unless a member asks for something else, or `--upgrade` is given. Refuses a lock that some supported platform
could install only by compiling. Installs nothing.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from environment import BOOTSTRAP, BOOTSTRAP_LOCK, LOCK, WHEELS
from workspace import ROOT, image_requirements, third_party_requirements

IMAGE_LOCK = "requirements-image.lock"
UV = Path(sys.executable).with_name("uv")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# Macs with Intel processors are left out: `cryptography` no longer publishes builds for them.
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
HEADER = "# Written by `make lock`: every file that a set-up may install, by its hash.\n"


class LockError(Exception):
    """The requirements cannot be locked; the message says which and why."""


def write_lock(
    lock: Path, inputs: Mapping[str, Sequence[str]], *, upgrade: bool = False, within: Path | None = None
) -> None:
    """Resolve `inputs`, the requirements by who asks for them, into `lock`; only to versions of the lock `within`.

    Raises LockError.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for asker, requirements in inputs.items():
            (folder / asker).write_text("\n".join(requirements) + "\n", encoding="utf-8")
        draft = folder / "draft"
        if lock.exists():
            draft.write_bytes(lock.read_bytes())
        options = ["--universal", "--python-version", PYTHONS[0], "--generate-hashes", "--no-header"]
        options += ["--no-emit-index-url", "--no-emit-find-links", "--output-file", draft.name]
        options += ["--upgrade"] if upgrade else []
        if within:
            (folder / within.name).write_bytes(within.read_bytes())
            options += ["--constraint", within.name]
        _compile(folder, *options, *inputs)
        for platform in PLATFORMS:
            for python in PYTHONS:
                _assert_wheels(draft, platform, python)
        lock.write_text(HEADER + draft.read_text(encoding="utf-8"), encoding="utf-8")


def _assert_wheels(lock: Path, platform: str, python: str) -> None:
    target = ["--python-platform", platform, "--python-version", python]
    try:
        _compile(lock.parent, "--no-deps", *WHEELS, *target, "--output-file", os.devnull, lock.name)
    except LockError as error:
        raise LockError(f"only compiling could install this on {platform}, Python {python}:\n{error}") from error


def _compile(folder: Path, *arguments: str) -> None:
    command: list[str | Path] = [UV, "--quiet", "pip", "compile", "--python", sys.executable, *arguments]
    environ = {**os.environ, "UV_SYSTEM_CERTS": "true"}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LockError(done.stderr.strip())


def main() -> int:
    """Write both locks; give the exit code."""
    parser = argparse.ArgumentParser(description="Pin every package in requirements.lock and its bootstrap.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions, not those pinned now")
    upgrade: bool = parser.parse_args().upgrade
    try:
        write_lock(ROOT / LOCK, third_party_requirements(), upgrade=upgrade)
        write_lock(ROOT / IMAGE_LOCK, image_requirements(), within=ROOT / LOCK)
        write_lock(ROOT / BOOTSTRAP_LOCK, {"set-up": BOOTSTRAP}, upgrade=upgrade)
    except LockError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
