from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign_ledger import (
    BadSignature,
    InvalidTrustBundle,
    NotEntitled,
    SigningKey,
    TrustBundle,
    TrustedKey,
    UnknownKey,
    UntrustedError,
)
from countersign_ledger.trust import _P, _SMALL_ORDER

KEY = SigningKey.generate("policy")
OTHER = SigningKey.generate("gateway")
BUNDLE = TrustBundle("test", {KEY.kid: KEY.trusted({"a", "b"}), OTHER.kid: OTHER.trusted({"c"})})
SIGNED = KEY.sign(b"message")


def limited(not_before: str | None = None, not_after: str | None = None) -> TrustBundle:
    return TrustBundle.of("test", [KEY.trusted({"a"}, not_before=not_before, not_after=not_after)])


def test_returns_the_key_that_signed() -> None:
    assert BUNDLE.verify(KEY.kid, "a", b"message", SIGNED) == KEY.trusted({"a", "b"})


def test_a_key_that_is_not_listed_is_unknown() -> None:
    with pytest.raises(UnknownKey, match="holds no key 'nobody'"):
        BUNDLE.verify("nobody", "a", b"message", SIGNED)


def test_a_key_may_sign_only_the_types_it_is_listed_for() -> None:
    with pytest.raises(NotEntitled, match=f"key {KEY.kid} of policy may not sign 'c'"):
        BUNDLE.verify(KEY.kid, "c", b"message", SIGNED)


@pytest.mark.parametrize(
    ("message", "signature"),
    [
        (b"massage", SIGNED),
        (b"message", SIGNED[:-1] + bytes([SIGNED[-1] ^ 1])),
        (b"message", OTHER.sign(b"message")),
        (b"message", SIGNED[:-1]),
        (b"message", SIGNED + b"\0"),
        (b"message", b""),
    ],
    ids=["message", "signature", "another key", "too short", "too long", "empty"],
)
def test_a_signature_that_does_not_match_is_refused(message: bytes, signature: bytes) -> None:
    with pytest.raises(BadSignature) as caught:
        BUNDLE.verify(KEY.kid, "a", message, signature)
    assert isinstance(caught.value, UntrustedError)


def test_a_hostile_key_id_cannot_flood_the_log() -> None:
    with pytest.raises(UnknownKey) as caught:
        BUNDLE.verify("x\n" * 50_000, "a", b"message", SIGNED)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("at", "valid"),
    [
        ("2026-01-01T00:00:00Z", True),
        ("2026-01-01T00:00:00.000Z", True),
        ("2026-01-01T00:00:00+00:00", True),
        ("2025-12-31T23:59:59.999999999Z", False),
        ("2026-06-30T12:00:00.5Z", True),
        ("2026-06-30T12:00:00.500Z", True),
        ("2026-06-30T12:00:00.500000001Z", False),
        ("2026-06-30T12:00:00.49Z", True),
        ("2026-06-30T12:00:01Z", False),
    ],
)
def test_validity_includes_both_ends_and_compares_fractions(at: str, valid: bool) -> None:
    bundle = limited("2026-01-01T00:00:00Z", "2026-06-30T12:00:00.5Z")
    if valid:
        bundle.verify(KEY.kid, "a", b"message", SIGNED, at=at)
    else:
        with pytest.raises(NotEntitled, match="valid"):
            bundle.verify(KEY.kid, "a", b"message", SIGNED, at=at)


@pytest.mark.parametrize(
    "at", ["", "yesterday", "2026-02-30T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00+01:00"]
)
def test_a_time_that_cannot_be_read_is_outside_every_validity(at: str) -> None:
    with pytest.raises(NotEntitled, match=r"RFC 3339|day|range"):
        limited("2026-01-01T00:00:00Z").verify(KEY.kid, "a", b"message", SIGNED, at=at)


def test_validity_is_not_looked_at_without_a_time_and_an_unlimited_key_takes_any_time() -> None:
    limited("2030-01-01T00:00:00Z").verify(KEY.kid, "a", b"message", SIGNED)
    limited().verify(KEY.kid, "a", b"message", SIGNED, at="yesterday")


def test_json_is_stable_sorted_and_read_back() -> None:
    turned = TrustBundle("test", dict(reversed(list(BUNDLE.keys.items()))))
    text = BUNDLE.to_json()
    assert turned.to_json() == text
    assert TrustBundle.from_json(text) == TrustBundle.from_json(text.encode()) == BUNDLE
    document = json.loads(text)
    assert list(document) == ["deployment", "keys", "version"]
    assert [key["kid"] for key in document["keys"]] == sorted(BUNDLE.keys)
    assert document["keys"][1]["emits"] == ["a", "b"]
    assert text.startswith("{\n  ") and text.endswith("}\n")


any_text = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=20)
instants = st.datetimes().map(lambda moment: moment.isoformat() + "Z")


@st.composite
def bundles(draw: st.DrawFn) -> TrustBundle:
    keys = []
    for kid in draw(st.lists(any_text, unique=True, max_size=4)):
        period = sorted(draw(st.lists(instants.filter(lambda t: "." in t), min_size=2, max_size=2)))
        keys.append(
            replace(
                SigningKey.generate(draw(any_text)).trusted(draw(st.sets(any_text, max_size=4))),
                kid=kid,
                not_before=draw(st.none() | st.just(period[0])),
                not_after=draw(st.none() | st.just(period[1])),
            )
        )
    return TrustBundle.of(draw(any_text), keys)


@given(bundles())
def test_any_bundle_survives_json(bundle: TrustBundle) -> None:
    assert TrustBundle.from_json(bundle.to_json()) == bundle


def document(**changes: Any) -> dict[str, Any]:
    return {**json.loads(BUNDLE.to_json()), **changes}


def with_key(**changes: Any) -> dict[str, Any]:
    result = document()
    result["keys"][1] = {k: v for k, v in {**result["keys"][1], **changes}.items() if v is not ...}
    return result


PUBLIC = document()["keys"][0]["public_key"]


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (document(version=2), "version: is 2; only 1 is known"),
        (document(version=True), "version: must be a whole number, not true or false"),
        (document(deployment=""), "deployment: is empty"),
        (document(deployment="a\nb"), r"deployment: contains the forbidden character U\+000A at position 1"),
        (document(deployment=7), "deployment: must be a string, not a number"),
        (document(keys={}), "keys: must be an array, not an object"),
        (document(keys=[[]]), r"keys\[0\]: must be an object, not an array"),
        (document(extra=1), "extra: is not a known field"),
        ({"version": 1, "keys": []}, "deployment: is missing"),
        (with_key(kid=...), r"keys\[1\]\.kid: is missing"),
        (with_key(kid=None), r"keys\[1\]\.kid: must be a string, not null"),
        (with_key(kid=""), r"kid: is empty"),
        (with_key(service="a\x85"), r"service: contains the forbidden character U\+0085"),
        (with_key(extra=1), r"keys\[1\]\.extra: is not a known field"),
        (with_key(emits="a"), r"keys\[1\]\.emits: must be an array, not a string"),
        (with_key(emits=["a", 1]), r"keys\[1\]\.emits\[1\]: must be a string, not a number"),
        (with_key(emits=["a", "a"]), r"keys\[1\]\.emits\[1\]: 'a' is listed twice"),
        (with_key(emits=[""]), r"emits: is empty"),
        (with_key(public_key="AAAA"), r"keys\[1\]\.public_key: must be 32 bytes, not 3"),
        (with_key(public_key="!" * 43), r"keys\[1\]\.public_key: is not canonical base64url"),
        (with_key(public_key=PUBLIC + "="), r"keys\[1\]\.public_key: is not canonical base64url"),
        (with_key(public_key=PUBLIC), r"public_key: is also the key of"),
        (with_key(public_key="A" * 43), r"public_key: is a point of small order"),
        (with_key(not_before="2026-01-01"), r"not_before: '2026-01-01' is not an RFC 3339 time in UTC"),
        (with_key(not_after=None), r"keys\[1\]\.not_after: must be a string, not null"),
        (
            with_key(not_before="2026-01-02T00:00:00Z", not_after="2026-01-01T00:00:00Z"),
            r"not_after: is before not_before",
        ),
        (
            document(keys=[*document()["keys"], document()["keys"][0]]),
            f"keys: two keys have the id '{document()['keys'][0]['kid']}'",
        ),
    ],
    ids=itertools.count(),  # the complaints hold random key ids
)
def test_a_wrong_bundle_is_refused_by_field(changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidTrustBundle, match=complaint):
        TrustBundle.from_json(json.dumps(changed))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("[]", "must be a JSON object, not an array"),
        ("{", "is not JSON"),
        (b"\xff{}", r"is not UTF-8 \(byte 0\)"),
        ("\ufeff{}", "byte order mark"),
        ('{"keys": [], "version": 1, "version": 1}', "has the field 'version' twice"),
        ('{"version": NaN}', "contains NaN, which is not JSON"),
        ('{"version": ' + "9" * 5000 + "}", "number that is too large"),
        ("[" * 100_000, "nested too deeply|is not JSON"),
    ],
)
def test_what_is_no_json_object_is_refused(text: str | bytes, complaint: str) -> None:
    with pytest.raises(InvalidTrustBundle, match=complaint):
        TrustBundle.from_json(text)


def test_a_key_listed_under_another_id_is_refused() -> None:
    with pytest.raises(InvalidTrustBundle, match=r"keys\['x'\]\.kid"):
        TrustBundle("test", {"x": KEY.trusted(set())})


def test_a_bundle_cannot_be_changed_after_it_was_made() -> None:
    keys = {KEY.kid: KEY.trusted({"a"})}
    bundle = TrustBundle("test", keys)
    keys[OTHER.kid] = OTHER.trusted({"a"})
    assert list(bundle.keys) == [KEY.kid]
    with pytest.raises(TypeError):
        bundle.keys[OTHER.kid] = OTHER.trusted({"a"})  # type: ignore[index]


def test_the_points_of_small_order_are_the_known_ones() -> None:
    """As listed by libsodium, ge25519_has_small_order; the sign bit apart."""
    known = [
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    ]
    assert {int.from_bytes(bytes.fromhex(y), "little") for y in known} == _SMALL_ORDER


def _on_curve(y: int, sign: int) -> tuple[int, int] | None:
    d = -121665 * pow(121666, -1, _P) % _P
    square = (y * y - 1) * pow(d * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * pow(2, (_P - 1) // 4, _P) % _P
    if (x * x - square) % _P:
        return None
    return (_P - x if x % 2 != sign else x) % _P, y % _P


def _add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    d = -121665 * pow(121666, -1, _P) % _P
    k = d * a[0] * b[0] * a[1] * b[1] % _P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + k, -1, _P) % _P
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - k, -1, _P) % _P
    return x, y


@pytest.mark.parametrize("y", sorted(_SMALL_ORDER))
@pytest.mark.parametrize("sign", [0, 1])
def test_every_public_key_under_which_anyone_can_sign_is_refused(y: int, sign: int) -> None:
    point = _on_curve(y, sign)
    assert point is not None
    for _ in range(3):
        point = _add(point, point)
    assert point == (0, 1), "eight times a point of small order is the neutral one"
    key = TrustedKey("k", "s", (y | sign << 255).to_bytes(32, "little"), frozenset())
    with pytest.raises(InvalidTrustBundle, match="small order"):
        TrustBundle.of("test", [key])
