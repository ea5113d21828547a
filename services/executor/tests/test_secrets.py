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
    SecretWithheld,
    read_secrets,
    references,
    stray_reference,
)

KEY = 'k3y/with+odd"chars='
SECRETS = Secrets({"API_KEY": KEY, "OTHER": "hunter2hunter2"})
TEXTS = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40)


def test_a_header_is_filled() -> None:
    assert SECRETS.fill("Bearer ${secret:API_KEY}", "any.example") == f"Bearer {KEY}"
    assert references("${secret:A} ${secret:B}") == ("A", "B")
    with pytest.raises(SecretWithheld, match="NOPE") as missing:
        SECRETS.fill("${secret:NOPE}", "any.example")
    assert missing.value.code == "secret_missing"


@pytest.mark.parametrize(
    ("host", "goes"),
    [
        ("api.example.com", True),
        ("API.example.com", True),
        ("eu.crm.example.org", True),
        ("a.b.crm.example.org", True),
        ("127.0.0.1", True),
        ("crm.example.org", False),
        ("evilcrm.example.org", False),
        ("api.example.com.evil.test", False),
        ("xapi.example.com", False),
        ("127.0.0.11", False),
    ],
)
def test_a_secret_goes_only_to_the_hosts_it_is_for(host: str, goes: bool) -> None:
    secrets = Secrets({"API_KEY": KEY, "OTHER": KEY}, {"API_KEY": "api.example.com, *.CRM.example.org\n127.0.0.1"})
    assert secrets.fill("${secret:OTHER}", host) == KEY
    if goes:
        assert secrets.fill("${secret:API_KEY}", host) == KEY
    else:
        with pytest.raises(SecretWithheld, match=r"secret `API_KEY` is for api\.example\.com, ") as withheld:
            secrets.fill("x ${secret:API_KEY}", host)
        assert withheld.value.code == "secret_withheld"


@pytest.mark.parametrize(
    ("hosts", "said"),
    [("", "names no host"), (" ,\n", "names no host"), ("https://a.example", "is no host"), ("*", "is no host")],
)
def test_hosts_that_are_none_are_refused(tmp_path: Path, hosts: str, said: str) -> None:
    (tmp_path / "API_KEY").write_text(KEY)
    (tmp_path / "API_KEY.hosts").write_text(hosts)
    with pytest.raises(SecretsError, match=said):
        read_secrets(tmp_path)


def test_hosts_are_read_from_a_folder_and_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "API_KEY").write_text(KEY)
    (tmp_path / "API_KEY.hosts").write_text("a.example\nb.example\n")
    assert read_secrets(tmp_path).names == ("API_KEY",)
    assert read_secrets(tmp_path).hosts("API_KEY") == ("a.example", "b.example")
    file = tmp_path / "secrets"
    file.touch(mode=0o600)
    file.write_text(f"API_KEY={KEY}\nAPI_KEY.hosts=a.example\n")
    assert read_secrets(file).hosts("API_KEY") == ("a.example",)
    file.write_text("OTHER.hosts=a.example\n")
    with pytest.raises(SecretsError, match="no secret OTHER"):
        read_secrets(file)


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
    assert secrets.fill("${secret:API_KEY}", "any.example") == "abc=defgh"


def test_a_folder_is_read_as_containers_mount_it(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / ".hidden").write_text("not this one")
    (tmp_path / "API_KEY").write_text("abcdefgh\n")
    assert read_secrets(tmp_path).fill("${secret:API_KEY}", "any.example") == "abcdefgh"


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
