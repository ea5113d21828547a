"""The lock pins by hash everything a set-up installs, and ties nobody to one index."""

import re

import pytest

from workspace import ROOT, required_name, third_party_requirements

LOCKS = ("requirements.lock", "requirements-image.lock", "requirements-bootstrap.lock")
HOST = re.compile(r"://|\bfile:|@ |--(index|extra|find|trusted)|\.(com|org|net|io|dev)\b")
HASHES = re.compile(r"( \\\n    --hash=sha256:[0-9a-f]{64})+$")


def requirements(lock: str) -> list[str]:
    """Each requirement of a lock with its hashes, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", lock, flags=re.MULTILINE)
    return re.sub(r"\n(?! )", "\0", text.strip()).split("\0")


def unpinned(lock: str) -> list[str]:
    """The requirements without one exact version and at least one hash."""
    return [entry for entry in requirements(lock) if "==" not in entry or not HASHES.search(entry)]


@pytest.fixture(params=LOCKS)
def lock(request: pytest.FixtureRequest) -> str:
    """The text of each lock in turn."""
    return (ROOT / str(request.param)).read_text(encoding="utf-8")


def test_it_names_no_host(lock: str) -> None:
    assert [line for line in lock.splitlines() if HOST.search(line)] == []


def test_every_requirement_has_one_version_and_a_hash(lock: str) -> None:
    assert unpinned(lock) == []


def test_all_that_members_and_tests_ask_for_is_locked() -> None:
    locked = {required_name(entry) for entry in requirements((ROOT / LOCKS[0]).read_text(encoding="utf-8"))}
    wanted = {required_name(wish) for wishes in third_party_requirements().values() for wish in wishes}
    assert wanted - locked == set(), "run `make lock`"


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://pypi.org/simple",
        "-e file:///home/somebody/countersign",
        "orjson @ https://example.org/orjson.whl",
        "# from mirror.example.com",
    ],
)
def test_a_host_is_seen(line: str) -> None:
    assert HOST.search(line)


def test_a_requirement_without_version_or_hash_is_seen() -> None:
    whole = f"orjson==3.13.0 ; sys_platform != 'win32' \\\n    --hash=sha256:{'0' * 64}\n    # via -r dev\n"
    assert unpinned(whole + whole) == []
    assert unpinned(whole + "idna==3.20\n    # via anyio\n") == ["idna==3.20"]
    assert len(unpinned(whole.replace("==", ">="))) == 1
    assert len(unpinned(whole.replace("0" * 64, "0" * 63))) == 1
