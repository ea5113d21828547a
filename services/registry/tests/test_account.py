"""The claims of account AGENTS that follow from void users, without any server."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from countersign_chassis.natsauth import KeyPair, account_jwt, read_claims
from countersign_registry.revocations import account_with

SIGNER, OTHER_SIGNER = KeyPair.generate("operator"), KeyPair.generate("operator")
ACCOUNT = KeyPair.generate("account").public
USERS = [KeyPair.generate("user").public for _ in range(3)]
BASE_AT = 1_700_000_000
BASE = account_jwt("AGENTS", ACCOUNT, SIGNER, issued_at=BASE_AT)
REVOCATIONS = st.dictionaries(st.sampled_from(USERS), st.integers(BASE_AT, BASE_AT + 100))
CLOCK = st.integers(BASE_AT - 1000, BASE_AT + 1000)


@given(st.lists(st.tuples(REVOCATIONS, CLOCK), min_size=1, max_size=6))
def test_whatever_the_clock_does_each_jwt_says_the_present_revocations_and_is_later(
    steps: list[tuple[dict[str, int], int]],
) -> None:
    previous: str | None = None
    for revocations, at in steps:
        jwt = account_with(BASE, previous, SIGNER, revocations, at)
        claims = read_claims(jwt)
        assert claims["nats"].get("revocations", {}) == revocations
        assert claims["iat"] > read_claims(BASE)["iat"]
        if previous is not None and jwt != previous:
            assert claims["iat"] > read_claims(previous)["iat"]
        assert account_with(BASE, jwt, SIGNER, revocations, at + 5) == jwt
        previous = jwt


def test_a_new_base_or_signing_key_makes_a_new_jwt() -> None:
    previous = account_with(BASE, None, SIGNER, {USERS[0]: BASE_AT}, BASE_AT + 10)
    newer = account_jwt("AGENTS", ACCOUNT, SIGNER, issued_at=BASE_AT, signing_keys=[KeyPair.generate("account").public])
    jwt = account_with(newer, previous, SIGNER, {USERS[0]: BASE_AT}, BASE_AT + 10)
    assert read_claims(jwt)["nats"]["signing_keys"] == read_claims(newer)["nats"]["signing_keys"]
    assert read_claims(jwt)["iat"] == BASE_AT + 11
    resigned = account_with(BASE, previous, OTHER_SIGNER, {USERS[0]: BASE_AT}, BASE_AT + 20)
    assert (read_claims(resigned)["iss"], read_claims(resigned)["iat"]) == (OTHER_SIGNER.public, BASE_AT + 20)
