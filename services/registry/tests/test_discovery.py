"""What `.env.discovery` may say: read whole, or every error with its line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_contracts.catalogue import FileError
from countersign_contracts.packages import AgentPackage
from countersign_registry.discovery import Found, conflicts, difference, read_package

GOOD = """\
# after OPMAS, section 3
AGENT_NAME=SecurityAgent
AGENT_VERSION=1.0.0
AGENT_DESCRIPTION="Security monitoring agent"
DEFAULT_SUBSCRIBED_TOPICS=logs.security,logs.auth
DEFAULT_FINDINGS_TOPIC=findings.security
"""


def read(text: str, folder: str = "/agents/security") -> tuple[Found | None, list[FileError]]:
    return read_package(folder, text.encode(), "0.1.0")


def good(text: str = GOOD, folder: str = "/agents/security") -> Found:
    found, errors = read(text, folder)
    assert errors == [] and found is not None
    return found


def test_the_specification_s_example_is_a_package() -> None:
    assert good().package == AgentPackage(
        agent_type="security",
        name="SecurityAgent",
        version="1.0.0",
        description="Security monitoring agent",
        subscribed_topics=("logs.security", "logs.auth"),
        findings_topic="findings.security",
        path="/agents/security",
    )


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD.replace("AGENT_NAME=", "export AGENT_NAME = "),
        GOOD.replace("SecurityAgent", "'SecurityAgent'"),
        GOOD.replace("SecurityAgent", "SecurityAgent # who watches"),
        GOOD.replace("security,logs", "security , logs"),
        GOOD.rstrip("\n"),
    ],
)
def test_the_same_may_be_written_otherwise(text: str) -> None:
    assert good(text).package == good().package


def test_type_and_range_may_be_given() -> None:
    found = good(GOOD + "AGENT_TYPE=watcher\nCOUNTERSIGN_VERSION=>=0.1,<0.2\n")
    assert (found.package.agent_type, found.package.countersign_version) == ("watcher", ">=0.1,<0.2")
    assert found.type_line == 7
    assert good(GOOD.replace("logs.security,logs.auth", "")).package.subscribed_topics == ()


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (GOOD.replace("AGENT_NAME=SecurityAgent\n", ""), None, "`AGENT_NAME` is missing"),
        (GOOD.replace("1.0.0", "one"), 3, "`one` is no version"),
        (GOOD.replace("1.0.0", ""), 3, "`` is no version"),
        (GOOD.replace("logs.auth", "logs.*"), 5, "`logs.*` is no topic"),
        (GOOD.replace("logs.auth", "logs.>"), 5, "`logs.>` is no topic"),
        (GOOD.replace("logs.auth", "logs auth"), 5, "`logs auth` is no topic"),
        (GOOD.replace("logs.auth", "../etc"), 5, "`../etc` is no topic"),
        (GOOD.replace("logs.auth", "logs..auth"), 5, "`logs..auth` is no topic"),
        (GOOD.replace("logs.auth", "$SYS.x"), 5, "`$SYS.x` is no topic"),
        (GOOD.replace("logs.auth", "_INBOX.x"), 5, "`_INBOX.x` is no topic"),
        (GOOD.replace("logs.auth", ""), 5, "`` is no topic"),
        (GOOD.replace("logs.auth", "logs.security"), 5, "given twice"),
        (GOOD.replace("logs.auth", "findings.security"), 6, "is a subscribed topic too"),
        (GOOD.replace("findings.security", "findings.*"), 6, "`findings.*` is no topic"),
        (GOOD.replace("SecurityAgent", "  "), 2, "blank"),
        (GOOD.replace("SecurityAgent", "a\u202eb"), 2, "cannot be printed"),
        (GOOD.replace('agent"', "agent"), 4, "do not close"),
        (GOOD + "AGENT_NAME=Other\n", 7, "stands in line 2 already"),
        (GOOD + "AGENT_NMAE=Other\n", 7, "`AGENT_NMAE` is no key"),
        (GOOD + "what is this\n", 7, "not `KEY=value`: what is this"),
        (GOOD + "AGENT_TYPE=../x\n", 7, "`../x` is no type"),
        (GOOD + "AGENT_TYPE=Security\n", 7, "`Security` is no type"),
        (GOOD + "COUNTERSIGN_VERSION=>=9\n", 7, "is for Countersign >=9, and this is 0.1.0"),
        (GOOD + "COUNTERSIGN_VERSION=about 1\n", 7, "is no range of versions"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, line: int | None, says: str) -> None:
    found, errors = read(text)
    assert found is None
    (error,) = errors
    assert (error.path, error.line) == ("/agents/security/.env.discovery", line)
    assert says in error.message and error.allowed


def test_every_error_is_said_not_the_first_alone() -> None:
    _, errors = read("AGENT_NAME=\nAGENT_VERSION=x\nDEFAULT_FINDINGS_TOPIC=*\nnonsense\n", "/agents/Bad Folder")
    assert [error.line for error in errors] == [4, None, None, None, 1, 2, 3]


def test_neither_bytes_nor_a_large_file_are_read() -> None:
    _, (error,) = read_package("/agents/security", GOOD.encode() + b"\n\xff", "0.1.0")
    assert (error.line, error.message) == (8, "not UTF-8")
    _, (error,) = read_package("/agents/security", b"#" * 20_000, "0.1.0")
    assert "too large" in error.message


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_whatever_stands_in_the_file_it_is_a_package_or_errors(body: bytes) -> None:
    for text in (body, GOOD.encode() + body, body + b"\n" + GOOD.encode()):
        found, errors = read_package("/agents/security", text, "0.1.0")
        assert (found is None) == bool(errors)
        for error in errors:
            assert error.path == "/agents/security/.env.discovery" and error.message.isprintable()
            assert FileError.from_bytes(error.to_bytes()) == error
        if found is not None:
            assert AgentPackage.from_bytes(found.package.to_bytes()) == found.package


def test_packages_of_one_type_or_one_name_are_refused_each_with_the_other() -> None:
    a, b = good(), good(GOOD.replace("SecurityAgent", "Other") + "AGENT_TYPE=security\n", "/agents/b")
    c = good(GOOD.replace("SecurityAgent", "Third"), "/agents/c")
    d = good(GOOD.replace("SecurityAgent", "THIRD"), "/agents/d")
    e = good(GOOD.replace("SecurityAgent", "Fifth"), "/agents/e")
    well, errors = conflicts([a, b, c, d, e])
    assert well == [e]
    assert [(error.path, error.line, error.field) for error in errors] == [
        ("/agents/security/.env.discovery", None, "AGENT_TYPE"),
        ("/agents/b/.env.discovery", 7, "AGENT_TYPE"),
        ("/agents/c/.env.discovery", 2, "AGENT_NAME"),
        ("/agents/d/.env.discovery", 2, "AGENT_NAME"),
    ]
    assert "/agents/b/.env.discovery" in errors[0].message


def test_what_cannot_be_read_now_is_not_gone() -> None:
    one, two = good().package, good(folder="/agents/two").package
    newer = one.model_copy(update={"version": "2.0"})
    known = {"security": one, "two": two}
    assert not difference(known, [one, two], [])
    assert difference(known, [newer], ["/agents/two"]).gone == ()
    found = difference(known, [newer], [])
    assert (found.changed, found.gone, found.new) == (((one, newer),), (two,), ())
    assert difference({}, [one], []).new == (one,)
