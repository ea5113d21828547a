"""One-time codes and wrong tries: pure rules, with the vectors of RFC 6238."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_contracts.errors import CountersignError
from countersign_registry import totp
from countersign_registry.enrolment import as_given, new_code
from countersign_registry.tries import Bounds, Tries, failed, require_unlocked

#: RFC 6238, appendix B (the ASCII secret of SHA-1), with the last six of its eight digits.
SECRET = b"12345678901234567890"
VECTORS = [
    (59, "94287082"),
    (1111111109, "07081804"),
    (1111111111, "14050471"),
    (1234567890, "89005924"),
    (2000000000, "69279037"),
    (20000000000, "65353130"),
]
AT = datetime(2026, 1, 31, 12, 0, 7, tzinfo=UTC)
BOUNDS = Bounds(free=3, lock=timedelta(minutes=1), longest=timedelta(minutes=5), forget=timedelta(hours=1))


@pytest.mark.parametrize(("seconds", "code"), VECTORS)
def test_codes_are_those_of_rfc_6238(seconds: int, code: str) -> None:
    at = datetime.fromtimestamp(seconds, UTC)
    assert totp.code_of(SECRET, totp.step_at(at)) == code[2:]
    assert totp.steps_of(SECRET, code[2:], at) == (totp.step_at(at),)


@given(secret=st.binary(min_size=20, max_size=20), step=st.integers(0, 2**40))
def test_a_second_implementation_makes_the_same_codes(secret: bytes, step: int) -> None:
    mac = hmac.new(secret, step.to_bytes(8), "sha1").hexdigest()
    start = int(mac[-1], 16) * 2
    assert totp.code_of(secret, step) == str(int(mac[start : start + 8], 16) % 2**31)[-6:].rjust(6, "0")


@pytest.mark.parametrize(("away", "taken"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_the_step_before_and_the_one_after_are_taken(away: int, taken: bool) -> None:
    step = totp.step_at(AT) + away
    assert totp.steps_of(SECRET, totp.code_of(SECRET, step), AT) == ((step,) if taken else ())


@pytest.mark.parametrize("code", ["", "00000", "0000000", "١٢٣٤٥٦", "abcdef"])
def test_what_is_no_code_is_of_no_step(code: str) -> None:
    assert totp.steps_of(SECRET, code, AT) == ()


def test_the_uri_is_what_authenticator_apps_read() -> None:
    uri = urlsplit(totp.uri_of(SECRET, "carol+x@example.com"))
    assert (uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", "/Countersign:carol%2Bx@example.com")
    assert parse_qs(uri.query) == {
        "secret": ["GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"],
        "issuer": ["Countersign"],
        "algorithm": ["SHA1"],
        "digits": ["6"],
        "period": ["30"],
    }


def test_wrong_ones_lock_each_time_for_twice_as_long() -> None:
    tries: Tries | None = None
    at, locks = AT, []
    for _ in range(15):
        tries = failed(tries, at, BOUNDS)
        if tries.locked_until is not None:
            locks.append((tries.wrong, (tries.locked_until - at).total_seconds()))
            with pytest.raises(CountersignError, match="too many wrong words: none is looked at until 20") as error:
                require_unlocked(tries, tries.locked_until - timedelta(microseconds=1), "words")
            assert error.value.code == "locked_out" and error.value.extra["until"].endswith("Z")
            at = tries.locked_until
        require_unlocked(tries, at, "words")
    assert locks == [(3, 60), (6, 120), (9, 240), (12, 300), (15, 300)]


def test_old_wrong_ones_are_forgotten_and_millions_do_no_harm() -> None:
    known = Tries(2, AT)
    assert failed(known, AT + BOUNDS.forget, BOUNDS).wrong == 1
    assert failed(known, AT + BOUNDS.forget - timedelta(seconds=1), BOUNDS).locked_until is not None
    assert failed(Tries(3 * 10**9 - 1, AT), AT, BOUNDS).locked_until == AT + BOUNDS.longest


def test_a_code_is_typed_as_people_type() -> None:
    codes = {new_code() for _ in range(50)}
    assert len(codes) == 50
    for code in codes:
        assert len(code) == 9 and code[4] == "-"
        assert as_given(code) == as_given(f" {code.lower()} ") == code.replace("-", "")
    assert as_given("o1il-0O") == "011100"
