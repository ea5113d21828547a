"""Builds the virtual environment in .venv from requirements.lock: what `make setup` runs.

Needs a Python with `venv`, and nothing else. The environment's own pip, as the machine has it configured,
fetches uv, which is pinned by hash in requirements-bootstrap.lock; uv, told the same configuration, installs
the rest. Which versions are installed is the business of the lock (tools/lock.py), not of this module.
"""

import ast
import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from workspace import ROOT, members

LOCK = "requirements.lock"
BOOTSTRAP_LOCK = "requirements-bootstrap.lock"
# What installs the packages, and what builds those that publish no wheel.
BOOTSTRAP = ("uv", "setuptools")
PUBLISHED_AS_SOURCE_ONLY = ("nkeys",)
WHEELS = ("--only-binary", ":all:", *(f"--no-binary={name}" for name in PUBLISHED_AS_SOURCE_ONLY))
SUPPORTED = "Linux (glibc) and Apple-silicon Macs have, with Python 3.11 to 3.14"

# Without isolation a build uses the pinned setuptools, instead of the newest an index serves that day.
_PINNED = ("--require-hashes", "--no-build-isolation", *WHEELS)

# How pip and uv say: the network failed; a file is not the pinned one; no build fits this platform.
_UNREACHABLE = (
    "connection",
    "dns error",
    "error sending request",
    "failed to fetch",
    "name resolution",
    "max retries",
    "timed out",
    "certificate",
    "proxy",
)
_ANOTHER_FILE = ("hash mismatch", "do not match the hashes")
_NO_WHEEL = ("no matching distribution", "no usable wheels", "no compatible wheel", "no wheels", "no binary")


class SetupError(Exception):
    """The environment cannot be built; the message is the one line that says what to do."""


class CommandError(Exception):
    """An installer failed; the message is everything it printed."""


class Environment:
    """A virtual environment on its way from nothing to ready."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.log = folder / "setup.log"
        # Written last. Holds the path the environment was built for; make compares that, and its age.
        self.stamp = folder / "ready"

    def is_usable(self) -> bool:
        """Tell whether this very Python's environment, whole and made for this folder, is already there."""
        probe = f"import pip, sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
        try:
            whole = self.stamp.read_text(encoding="utf-8").strip() == str(ROOT)
            return whole and subprocess.run([self.python, "-c", probe], check=False).returncode == 0
        except OSError:
            return False

    def create(self) -> None:
        """Make the environment anew, with nothing in it but pip. Raises SetupError."""
        command = [sys.executable, "-m", "venv", "--clear", str(self.folder)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise SetupError(f"python -m venv {self.folder} failed: {last_line(made.stdout + made.stderr)}")

    def install_packages(self) -> None:
        """Install what the lock names, and with uv nothing beside it. Raises CommandError."""
        self._pip("install", "--require-hashes", "--only-binary", ":all:", "--requirement", BOOTSTRAP_LOCK)
        try:
            settings = uv_settings(parse_pip_config(self._pip("config", "list")), os.environ)
            self._uv("sync", "--compile-bytecode", *_PINNED, LOCK, settings=settings)
        except CommandError:
            # A keyring, a client certificate, a proxy with a login: pip reaches indexes that uv cannot.
            self._pip("install", *_PINNED, "--requirement", LOCK)

    def install_members(self) -> None:
        """Install the workspace's own packages, so that an edit takes effect at once. Raises CommandError."""
        arguments = ["--no-deps", "--no-build-isolation"]
        arguments += [argument for member in members() for argument in ("--editable", str(member.folder))]
        try:
            self._uv("install", "--offline", "--no-sources", *arguments, settings={})
        except CommandError as uv_s:
            try:
                # uv wants a cache folder it may write to; pip does without.
                self._pip("install", "--no-index", *arguments)
            except CommandError:
                raise uv_s from None

    def _pip(self, *arguments: str) -> str:
        return self._run([self.python, "-m", "pip", "--disable-pip-version-check", *arguments], {})

    def _uv(self, verb: str, *arguments: str, settings: Mapping[str, str]) -> None:
        self._run([self.folder / "bin" / "uv", "pip", verb, "--python", self.python, *arguments], settings)

    def _run(self, command: list[str | Path], settings: Mapping[str, str]) -> str:
        # Without isolation pip looks for a build backend's program on the path alone.
        path = os.pathsep.join((str(self.folder / "bin"), os.environ.get("PATH", os.defpath)))
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **settings, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(map(str, command))}\n{done.stdout}\n")
        if done.returncode != 0:
            raise CommandError(done.stdout)
        return done.stdout


def build(environment: Environment) -> None:
    """Bring the environment to what the lock and the members' pyproject files say now. Raises SetupError."""
    started = time.monotonic()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            fix = f"apt install python{python}-venv"
            raise SetupError(f"Python {python} came without `{module}`; on Debian and Ubuntu: {fix}.")
    print(f"Setting up Countersign in {environment.folder.name} with Python {python}")
    if not environment.is_usable():
        with _step("a new virtual environment"):
            environment.create()
    environment.stamp.unlink(missing_ok=True)
    environment.log.unlink(missing_ok=True)
    try:
        with _step(f"the packages pinned in {LOCK}"):
            environment.install_packages()
        with _step("this repository's own packages"):
            environment.install_members()
    except CommandError as error:
        raise SetupError(f"Set-up stopped: {explain(str(error))}. All that was said: {environment.log}") from error
    environment.stamp.write_text(f"{ROOT}\n", encoding="utf-8")
    print(f"Ready after {time.monotonic() - started:.1f} s.")


def explain(output: str) -> str:
    """Say in one line why an installer failed, from what it printed."""
    said = output.lower()
    if any(sign in said for sign in _ANOTHER_FILE):
        return "the package index served a file that is not the one pinned by its hash, so it was refused"
    # Before _NO_WHEEL: where pip reaches no index, it also reports that it found no build.
    if any(sign in said for sign in _UNREACHABLE):
        return "the package index cannot be reached; look at the network and at `pip config list`"
    if any(sign in said for sign in _NO_WHEEL):
        return f"a pinned package has no build for this platform and Python; {SUPPORTED}"
    return last_line(output)


def last_line(output: str) -> str:
    """Give the last line that names a cause, as uv does, or else the last one that says something."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    causes = [line.removeprefix("cause: ") for line in lines if line.startswith("cause: ")]
    return (causes or lines or ["no message"])[-1]


def parse_pip_config(listing: str) -> dict[str, str]:
    """Read `pip config list` into option values: `install` overrides `global`, the environment both."""
    options: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for line in listing.splitlines():
            name, _, quoted = line.partition("=")
            if name.startswith(f"{section}."):
                options[name.removeprefix(f"{section}.")] = str(ast.literal_eval(quoted))
    return options


def uv_settings(pip: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Give the variables that make uv, which reads no pip configuration, follow it all the same.

    What `environ` already tells uv is kept.
    """
    wanted = {
        # The machine's own certificates and what SSL_CERT_FILE names: a company's authority just works.
        "UV_SYSTEM_CERTS": "true",
        # pip takes every index alike; the hashes keep that safe from a stranger's package of the same name.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_DEFAULT_INDEX": pip.get("index-url", ""),
        "UV_INDEX": " ".join(pip.get("extra-index-url", "").split()),
        "UV_FIND_LINKS": ",".join(pip.get("find-links", "").split()),
        "UV_INSECURE_HOST": " ".join(pip.get("trusted-host", "").split()),
        "UV_NO_INDEX": pip.get("no-index", ""),
        "SSL_CERT_FILE": pip.get("cert", ""),
        "ALL_PROXY": pip.get("proxy", ""),
    }
    return {name: value for name, value in wanted.items() if value and name not in environ}


@contextlib.contextmanager
def _step(what: str) -> Iterator[None]:
    started = time.monotonic()
    print(f"  {what} ".ljust(48, "."), end=" ", flush=True)
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{time.monotonic() - started:.1f} s", flush=True)


def main() -> int:
    """Build .venv; give the exit code."""
    try:
        build(Environment(ROOT / ".venv"))
    except (SetupError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
