"""Declared files are read wholly, or every error is named with file, line and what is allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_contracts.catalogue import Document, FileError, Profile, Tool
from countersign_contracts.documents import FileErrors, Parsed, PolicyFile, read_document, read_documents
from countersign_contracts.yaml_text import MAX_DEPTH, MAX_NODES, YamlProblem, read_yaml

PROFILE = """\
kind: profile
name: support
environments: [dev, prod]
tools:
  - list_tickets
  - update_ticket
fields:
  update_ticket: [status]
guardrails:
  - kind: time_window
    name: office hours
    start: 09:00
    end: 17:30
    timezone: Europe/Berlin
  - {kind: session_calls, name: updates, tools: [update_ticket], limit: 5}
"""


def read(text: str, path: str = "policies/support.yaml") -> list[Parsed]:
    parsed = read_document(Document(path=path, text=text))
    assert not isinstance(parsed, FileErrors), parsed
    return parsed


def errors(text: str, path: str = "policies/support.yaml") -> tuple[FileError, ...]:
    read = read_document(Document(path=path, text=text))
    assert isinstance(read, FileErrors), read
    return read.errors


def only_error(text: str) -> FileError:
    (error,) = errors(text)
    return error


def test_a_profile_is_read_with_the_line_of_everything() -> None:
    (parsed,) = read(PROFILE)
    assert isinstance(parsed.model, Profile)
    assert (parsed.kind, parsed.name, parsed.line) == ("profile", "support", 1)
    assert parsed.model.guardrails[0].start == "09:00"
    assert parsed.line_of(("guardrails", 0, "timezone")) == 14
    assert parsed.line_of(("tools", 1)) == 6
    assert parsed.line_of(("fields", "update_ticket", 0)) == 8
    assert parsed.line_of(("overrides", "absent")) == 1


def test_an_owner_reports_an_error_where_the_author_wrote_it() -> None:
    (parsed,) = read(PROFILE)
    error = parsed.error(("guardrails", 0, "timezone"), "no such time zone", allowed="an IANA name")
    assert error == FileError(
        path="policies/support.yaml",
        line=14,
        field="guardrails.0.timezone",
        message="no such time zone",
        allowed="an IANA name",
    )


def test_several_documents_may_stand_in_one_file_and_empty_ones_declare_nothing() -> None:
    other = PROFILE.replace("name: support", "name: other", 1)
    parsed = read(f"# nothing\n---\n{PROFILE}---\n---\n{other}")
    assert [(p.name, p.line) for p in parsed] == [("support", 3), ("other", 20)]
    assert read("# only a comment\n") == []


def test_a_cedar_file_is_a_policy_named_for_its_file() -> None:
    (parsed,) = read("permit(principal, action, resource);", "policies/payments.cedar")
    assert parsed.model == PolicyFile(name="payments", text="permit(principal, action, resource);")
    (error,) = errors("", "policies/what ever.cedar")
    assert "what ever" in error.message


def test_other_files_are_refused() -> None:
    (error,) = errors("{}", "tools/a.json")
    assert error.allowed == ".yaml, .yml, .cedar"


@pytest.mark.parametrize(
    ("text", "line", "field", "message", "allowed"),
    [
        (PROFILE.replace("fields:", "field:"), 7, "field", "did you mean `fields`", "environments, tools"),
        (PROFILE.replace("timezone:", "zone:"), 14, "guardrails.0.zone", "`zone` is not a field", "timezone"),
        (PROFILE.replace("time_window", "curfew"), 10, "guardrails.0.kind", "not one of", "'time_window'"),
        (PROFILE.replace("    end: 17:30\n", ""), 10, "guardrails.0", "also needs end", None),
        (PROFILE.replace("limit: 5", "limit: '5'"), 15, "guardrails.1.limit", "number", None),
        (PROFILE.replace("name: support", "name: Support"), 2, "name", "allowed form", "text matching"),
        (
            PROFILE.replace("update_ticket: [status]", "Update: [status]"),
            8,
            "fields.Update",
            "form",
            "matching",
        ),
        (PROFILE.replace("environments: [dev, prod]\n", ""), 1, "environments", "is missing", None),
        (
            PROFILE.replace("kind: profile", "kind: badge"),
            1,
            "kind",
            "`badge` is unknown",
            "agent, alert_rule, approval_rule, profile, role, tool, webhook",
        ),
        (
            PROFILE.replace("kind: profile\n", ""),
            1,
            "kind",
            "missing",
            "agent, alert_rule, approval_rule, profile, role, tool, webhook",
        ),
        ("- a\n- b\n", 1, None, "mapping", "kind: agent, alert_rule, approval_rule, profile, role, tool, webhook"),
    ],
)
def test_each_error_says_where_and_what_is_allowed(
    text: str, line: int, field: str | None, message: str, allowed: str | None
) -> None:
    error = only_error(text)
    assert (error.line, error.field) == (line, field)
    assert message in error.message
    assert (allowed is None and error.allowed is None) or (allowed or "") in (error.allowed or "")


def test_every_error_of_a_file_is_reported_at_once() -> None:
    text = (
        PROFILE.replace("limit: 5", "limit: -1").replace("zone: Europe", "zon: Europe").replace("tools:\n", "x:\n", 1)
    )
    assert [e.line for e in sorted(errors(text), key=lambda e: e.line or 0)] == [1, 4, 14, 15]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "`a` is given twice; first in line 1"),
        ("a: [1,\n", 2, "not YAML"),
        ("a: 1\n  b: 2\n", 2, "not YAML"),
        ("a: 1\n? [x]\n: 2\n", 2, "cannot be a key"),
        ("a: &x 1\n*x : 2\n", 2, "cannot be a key"),
        ("1: a\n", 1, "not text"),
        ("a: !!python/object:os.system x\n", 1, "tag"),
        ("a: .nan\n", 1, "no number"),
        ("a: 9223372036854775808\n", 1, "too large"),
        ("a: " + "9" * 5000, 1, "too large"),
        ("a: 1e999\n", 1, "too large"),
        ("a: *b\n", 1, "anchor"),
        ("a: &b [*b]\n", 1, "anchor"),
        ("ok: 1\na: \x07\n", 2, "not YAML"),
        ('a: "\\ud800"\n', 1, ""),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(YamlProblem) as caught:
        read_yaml(text)
    assert caught.value.line == line
    assert message in caught.value.message


def test_depth_is_bounded() -> None:
    with pytest.raises(YamlProblem, match="nested too deeply"):
        read_yaml("[" * (MAX_DEPTH + 1))
    with pytest.raises(YamlProblem):
        read_yaml("[" * 400_000)
    assert read_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH)


def test_aliases_count_as_often_as_they_are_used() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
    )
    with pytest.raises(YamlProblem, match="too many values"):
        read_yaml(bomb)
    (value,) = read_yaml("a: &x {b: [1, 2]}\nc: *x\n")
    assert value.data == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}}


def test_size_is_bounded_over_all_documents_of_a_text() -> None:
    half = "[" + "1," * (MAX_NODES // 2) + "]\n"
    with pytest.raises(YamlProblem, match="too many values"):
        read_yaml(f"{half}---\n{half}")


@pytest.mark.parametrize(
    ("plain", "value"),
    [
        ("09:30", "09:30"),
        ("no", "no"),
        ("on", "on"),
        ("2026-01-31", "2026-01-31"),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 17),
        ("1_000", "1_000"),
        ("-3", -3),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("True", True),
        ("false", False),
        ("~", None),
        ("<<", "<<"),
        ("'1'", "1"),
    ],
)
def test_plain_scalars_follow_the_core_schema(plain: str, value: Any) -> None:
    (read,) = read_yaml(f"- {plain}\n")
    assert read.data == [value]
    assert type(read.data[0]) is type(value)


def test_nothing_is_declared_twice_in_a_change() -> None:
    documents = [Document(path="a.yaml", text=PROFILE), Document(path="b.yaml", text=f"---\n{PROFILE}")]
    parsed, found = read_documents(documents)
    assert len(parsed) == 2
    (error,) = found
    assert (error.path, error.line) == ("b.yaml", 3)
    assert "declared twice; first in a.yaml:1" in error.message


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc_", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_json_reads_as_itself(value: Any) -> None:
    (read,) = read_yaml(json.dumps({"value": value}, ensure_ascii=False))
    assert read.data == {"value": value}


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_a_problem(text: str) -> None:
    read_document(Document(path="x.yaml", text=text.encode("utf-8", "replace").decode()))


def test_a_tool_keeps_the_lines_of_its_schema() -> None:
    (parsed,) = read(
        "kind: tool\nname: pay\neffect: write\n"
        "arguments:\n  type: object\n  properties:\n    amount: {type: integer}\n"
        "http:\n  method: POST\n  url: https://pay.example/payments\n  body: [amount]\n",
        "tools/pay.yml",
    )
    assert isinstance(parsed.model, Tool)
    assert parsed.line_of(("arguments", "properties", "amount", "type")) == 7


@pytest.mark.parametrize("window", ["session_window_s", "fallback_window_s"])
def test_a_window_that_policy_could_not_count_in_is_an_error_of_its_file(window: str) -> None:
    """It was applied, and then no action under the profile was decided any more."""
    guardrail = f"{{kind: session_calls, name: a, limit: 5, {window}: 1000000000000}}"
    text = f"kind: profile\nname: worker\nenvironments: [dev]\ntools: [t]\nguardrails:\n  - {guardrail}\n"
    found = read_document(Document(path="p.yaml", text=text))
    assert isinstance(found, FileErrors)
    (error,) = found.errors
    assert (error.line, error.field) == (6, f"guardrails.0.{window}") and "less than or equal to" in error.message
