"""Secrets are read from private places, filled into headers, and masked wherever they come back."""

import json
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_executor.secrets import (
    MASK,
    Secrets,
    SecretsError,
    UnknownSecret,
    read_secrets,
    references,
    stray_reference,
)

KEY = 'k3y/with+odd"chars='
SECRETS = Secrets({"API_KEY": KEY, "OTHER": "hunter2hunter2"})
TEXTS = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40)


def test_a_header_is_filled() -> None:
    assert SECRETS.fill("Bearer ${secret:API_KEY}") == f"Bearer {KEY}"
    assert references("${secret:A} ${secret:B}") == ("A", "B")
    with pytest.raises(UnknownSecret, match="NOPE"):
        SECRETS.fill("${secret:NOPE}")


@pytest.mark.parametrize("template", ["${env:HOME}", "${secret:}", "${secret:a b}", "${", "${secret:A"])
def test_any_other_reference_is_seen(template: str) -> None:
    assert stray_reference(template)
    assert not stray_reference("${secret:A}-$x-{y}")


@pytest.mark.parametrize(
    "echo",
    [
        KEY,
        f"Authorization: Bearer {KEY}; ok",
        json.dumps({"key": KEY}),
        json.dumps({"key": KEY}).replace("/", "\\/"),
        quote(KEY),
        quote(KEY, safe=""),
        b64encode(KEY.encode()).decode(),
        f"x{KEY}{KEY}y",
    ],
)
def test_an_echo_is_masked_in_every_common_form(echo: str) -> None:
    masked = SECRETS.redact(echo)
    assert MASK in masked and KEY not in masked
    assert "hunter2hunter2" not in SECRETS.redact("a hunter2hunter2 b")


def test_json_values_are_masked_through_and_through() -> None:
    value = {"a": [KEY, {KEY: 1, "n": None}], "b": True, "c": 12345678.5}
    assert SECRETS.redact_value(value) == {"a": [MASK, {MASK: 1, "n": None}], "b": True, "c": 12345678.5}
    assert Secrets({"PIN": "12345678"}).redact_value({"pin": 12345678}) == {"pin": MASK}


@given(secret=TEXTS, before=st.text(), after=st.text())
def test_no_secret_survives(secret: str, before: str, after: str) -> None:
    assert secret not in Secrets({"S": secret}).redact(before + secret + after).replace(MASK, "\0")


@given(one=TEXTS, two=TEXTS)
def test_a_secret_inside_another_leaves_no_rest(one: str, two: str) -> None:
    masked = Secrets({"A": one, "B": one + two}).redact(one + two)
    assert masked == MASK


@given(secret=TEXTS, text=st.text(alphabet="äöü "), cut=st.integers(1, 39))
def test_a_cut_does_not_leave_the_beginning_of_a_secret(secret: str, text: str, cut: int) -> None:
    beginning = secret[: min(cut, len(secret) - 1)]
    assert Secrets({"S": secret}).drop_partial(text + beginning) == text


def test_without_secrets_nothing_changes() -> None:
    assert Secrets().redact("x") == "x" and Secrets().redact_value({"a": 1}) == {"a": 1}
    assert Secrets().drop_partial("abc") == "abc"


def test_no_secret_is_shown_by_its_holder() -> None:
    assert KEY not in repr(SECRETS) and "API_KEY" in repr(SECRETS)


def test_a_private_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    path.write_text("# comment\n\nAPI_KEY=abc=defgh\nTOKEN=12345678\n")
    path.chmod(0o600)
    secrets = read_secrets(path)
    assert secrets.names == ("API_KEY", "TOKEN")
    assert secrets.fill("${secret:API_KEY}") == "abc=defgh"


def test_a_folder_is_read_as_containers_mount_it(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / ".hidden").write_text("not this one")
    (tmp_path / "API_KEY").write_text("abcdefgh\n")
    assert read_secrets(tmp_path).fill("${secret:API_KEY}") == "abcdefgh"


def test_no_path_means_no_secrets() -> None:
    assert read_secrets(None).names == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("API_KEY", "NAME=value"),
        ("API_KEY=abcdefgh\nAPI_KEY=abcdefgh", "twice"),
        ("2KEY=abcdefgh", "cannot name"),
        ("API_KEY=short", "5 characters"),
        ("API_KEY=abcdefgh\x01", "printable"),
        ("API_KEY= abcdefgh", "space around"),
        ("API_KEY=abcdefghü", "ASCII"),
    ],
)
def test_a_bad_file_is_told_without_its_secrets(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "secrets"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(SecretsError, match=message) as error:
        read_secrets(path)
    assert "abcdefgh" not in error.value.detail


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secrets"
    path.write_text("API_KEY=abcdefgh")
    path.chmod(mode)
    with pytest.raises(SecretsError, match="chmod 600"):
        read_secrets(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SecretsError, match="cannot read"):
        read_secrets(tmp_path / "nowhere")
