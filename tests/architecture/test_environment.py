"""The set-up follows the machine's pip configuration, and says in one line why it stopped."""

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

import environment
from environment import Environment, SetupError, build, explain, parse_pip_config, uv_settings
from workspace import ROOT

FIND_PYTHON = ROOT / "tools" / "find-python"

LISTING = """\
:env:.cert='/etc/own.pem'
global.cert='/etc/other.pem'
global.extra-index-url='\\nhttps://one.example/simple\\nhttps://two.example/simple'
global.index-url='https://mirror.example/simple'
install.find-links='/srv/wheels /srv/more'
install.index-url='https://nearer.example/simple'
freeze.timeout='10'
"""


def test_pip_s_sections_override_each_other_as_in_pip() -> None:
    options = parse_pip_config(LISTING)
    assert options["cert"] == "/etc/own.pem"
    assert options["index-url"] == "https://nearer.example/simple"
    assert "timeout" not in options


def test_uv_is_told_what_pip_is_configured_with() -> None:
    settings = uv_settings(parse_pip_config(LISTING), {})
    assert settings["UV_DEFAULT_INDEX"] == "https://nearer.example/simple"
    assert settings["UV_INDEX"] == "https://one.example/simple https://two.example/simple"
    assert settings["UV_FIND_LINKS"] == "/srv/wheels,/srv/more"
    assert settings["SSL_CERT_FILE"] == "/etc/own.pem"
    assert "ALL_PROXY" not in settings


def test_what_uv_is_told_already_is_kept() -> None:
    assert "UV_DEFAULT_INDEX" not in uv_settings(parse_pip_config(LISTING), {"UV_DEFAULT_INDEX": "https://a.example"})


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (
            "WARNING: Retrying: NewConnectionError: Failed to establish a new connection\n"
            "ERROR: No matching distribution found for uv==0.13.8",
            "cannot be reached",
        ),
        ("error: Request failed after 3 retries\n  cause: dns error", "cannot be reached"),
        ("cause: invalid peer certificate: UnknownIssuer", "cannot be reached"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "refused"),
        ("error: Hash mismatch for `rfc8785==0.1.4`", "refused"),
        ("ERROR: No matching distribution found for uvloop==0.23.0", "no build for this platform"),
        ("error: something else\n\n", "error: something else"),
        ("error: Failed to build\n  cause: no README.md\n\nhint: none\n", "no README.md"),
        ("", "no message"),
    ],
)
def test_a_failure_is_explained_in_one_line(output: str, reason: str) -> None:
    assert reason in explain(output)
    assert "\n" not in explain(output)


def test_a_python_without_venv_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else True)
    with pytest.raises(SetupError, match=r"apt install python3\.\d+-venv"):
        build(Environment(tmp_path / ".venv"))


def test_an_environment_made_for_another_folder_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Environment(tmp_path)
    made.python.parent.mkdir()
    made.python.symlink_to("/bin/true")
    made.stamp.write_text(f"{ROOT}\n")
    assert made.is_usable()
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    assert not made.is_usable()


def pythons(folder: Path, **versions: str) -> dict[str, str]:
    """An environment whose path holds these Pythons and nothing else; `broken` is a shim to nowhere."""
    for name, version in versions.items():
        too_old = int(version != "broken" and tuple(map(int, version.split("."))) < (3, 11))
        code = 127 if version == "broken" else too_old
        program = folder / name.replace("_", ".")
        program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "Python {version}" && exit\nexit {code}\n')
        program.chmod(0o755)
    return {"PATH": str(folder)}


def find_python(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/bin/sh", FIND_PYTHON], env=environ, capture_output=True, text=True, check=False)


def test_the_usual_python_is_taken_if_it_is_new_enough(tmp_path: Path) -> None:
    environ = pythons(tmp_path, python3="3.11", python3_13="3.13")
    assert find_python(environ).stdout.strip() == str(tmp_path / "python3")


def test_a_newer_python_beside_an_old_one_is_found_and_a_broken_shim_passed_over(tmp_path: Path) -> None:
    environ = pythons(tmp_path, python3="3.9", python3_13="broken", python3_12="3.12")
    assert find_python(environ).stdout.strip() == str(tmp_path / "python3.12")


def test_a_named_python_is_taken_or_refused_but_never_replaced(tmp_path: Path) -> None:
    environ = pythons(tmp_path, python3="3.12", old="3.10")
    done = find_python({**environ, "PYTHON": str(tmp_path / "old")})
    assert (done.returncode, done.stdout) == (1, "")
    assert "needs Python 3.11 or newer, and found Python 3.10" in done.stderr


def test_no_python_at_all_is_one_clear_line(tmp_path: Path) -> None:
    done = find_python({"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr.count(os.linesep) == 1
    assert "no working python3" in done.stderr
