"""Claims: what a minted JWT says, read by a second, independent parser, and what is never minted."""

import base64
import binascii
import hashlib
import json
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from countersign_chassis.natsauth import (
    EVERY_USER,
    AccountLimits,
    ConnectionLimits,
    InvalidClaimError,
    InvalidKeyError,
    JetStreamLimits,
    KeyPair,
    Permissions,
    ScopedKey,
    account_jwt,
    creds_file,
    operator_jwt,
    read_claims,
    user_jwt,
    with_revocations,
)

ISSUED = 1_700_000_000
NOTHING = {"deny": [">"]}
GOLDEN_USER_JWT = (
    "eyJhbGciOiJlZDI1NTE5LW5rZXkiLCJ0eXAiOiJKV1QifQ.eyJleHAiOjE3MDAwMDM2MDAsImlhdCI6MTcwMDAwMDAwMCwiaXNzI"
    "joiQUNGSU9YNzdEMlpZSVVLWFBMR1ZWN1hFQVZDV0syRzVQU0U2QkVFR0hJQ1ZQUEQyNlNQUlBaU0UiLCJqdGkiOiI2Q05INjM3M"
    "kpYUlFFTTJLSUNVMjVJRkhBTVQzWUNXS0dFTVJWVlJJVFJJSzVUUUdOVkpBIiwibmFtZSI6ImFscGhhIiwibmF0cyI6eyJpc3N1Z"
    "XJfYWNjb3VudCI6IkFERkpITEFYQVVNSEE0T1dQT0I0UDdZTzcyQVFSMkhNSVVZRk9YTFhFMkRaR002MzNLN0haVlhLIiwidHlwZ"
    "SI6InVzZXIiLCJ2ZXJzaW9uIjoyfSwic3ViIjoiVURWRVUzREQ0S09GRUNWNjZWSUhXRVpPWVg0WktSM1dWMjdMNDY0U0lJUE9VM"
    "klVSTNKQ1lTSkYifQ.sFvn6WgqJbgAEourYPPDHmR1jGc2AYR_MYQgrcZS3B_GsrUogDRTQLC8EktNP8CeiTD7yjfgj5Sr3gFQzQ"
    "MGDg"
)


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def key_of(public: str) -> Ed25519PublicKey:
    raw = base64.b32decode(public)
    assert binascii.crc_hqx(raw[:-2], 0) == int.from_bytes(raw[-2:], "little")
    return Ed25519PublicKey.from_public_bytes(raw[1:-2])


def verified(jwt: str) -> dict[str, Any]:
    """A second reader of these JWTs: header, signature by the issuer inside, and id."""
    header, payload, signature = jwt.split(".")
    assert json.loads(unpadded(header)) == {"typ": "JWT", "alg": "ed25519-nkey"}
    claims: dict[str, Any] = json.loads(unpadded(payload))
    key_of(claims["iss"]).verify(unpadded(signature), f"{header}.{payload}".encode())
    unnamed = {name: value for name, value in claims.items() if name != "jti"}
    digest = hashlib.new("sha512_256", json.dumps(unnamed, separators=(",", ":"), sort_keys=True).encode()).digest()
    assert claims["jti"] == base64.b32encode(digest).decode().rstrip("=")
    return claims


@pytest.fixture(scope="module")
def keys() -> dict[str, KeyPair]:
    kinds = {
        "operator": "operator",
        "operator_signing": "operator",
        "system": "account",
        "account": "account",
    }
    kinds |= {"signing": "account", "scoped": "account", "user": "user"}
    return {name: fixed(kind, number) for number, (name, kind) in enumerate(kinds.items(), start=1)}


def fixed(kind: str, number: int) -> KeyPair:
    """The key whose 32 secret bytes all are `number`."""
    prefix = {"operator": 14, "account": 0, "user": 20}[kind] << 3
    raw = bytes([18 << 3 | prefix >> 5, (prefix & 31) << 3]) + bytes([number]) * 32
    crc = binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return KeyPair.from_seed(base64.b32encode(raw + crc).decode().rstrip("="))


def test_an_operator_names_its_signing_keys_and_its_system_account(keys: dict[str, KeyPair]) -> None:
    claims = verified(
        operator_jwt(
            keys["operator"],
            signing_keys=[keys["operator_signing"].public],
            system_account=keys["system"].public,
            issued_at=ISSUED,
        )
    )
    assert claims["iss"] == claims["sub"] == keys["operator"].public
    assert claims["iat"] == ISSUED
    assert claims["nats"] == {
        "type": "operator",
        "version": 2,
        "signing_keys": [keys["operator_signing"].public],
        "system_account": keys["system"].public,
        "strict_signing_key_usage": True,
    }


def test_an_account_lists_its_keys_limits_and_revocations(keys: dict[str, KeyPair]) -> None:
    template = Permissions(publish=("a.{{name()}}",), subscribe=("_INBOX.{{name()}}.>",))
    jwt = account_jwt(
        "AGENTS",
        keys["account"].public,
        keys["operator_signing"],
        issued_at=ISSUED,
        signing_keys=[keys["signing"].public],
        scoped_keys=[ScopedKey(keys["scoped"].public, "agent", template, ConnectionLimits(8, 1024), "agents only")],
        jetstream=JetStreamLimits(disk_bytes=1000, memory_bytes=10, streams=3, consumers=4),
        limits=AccountLimits(connections=5, subscriptions=6, payload_bytes=7),
        revocations={keys["user"].public: ISSUED - 1, EVERY_USER: ISSUED - 9},
    )
    claims = verified(jwt)
    assert (claims["iss"], claims["sub"]) == (keys["operator_signing"].public, keys["account"].public)
    assert claims["nats"] == {
        "type": "account",
        "version": 2,
        "limits": {
            "conn": 5,
            "subs": 6,
            "data": -1,
            "payload": 7,
            "disallow_bearer": True,
            "disk_storage": 1000,
            "mem_storage": 10,
            "streams": 3,
            "consumer": 4,
        },
        "signing_keys": [
            keys["signing"].public,
            {
                "kind": "user_scope",
                "key": keys["scoped"].public,
                "role": "agent",
                "template": {
                    "pub": {"allow": ["a.{{name()}}"]},
                    "sub": {"allow": ["_INBOX.{{name()}}.>"]},
                    "subs": 8,
                    "data": -1,
                    "payload": 1024,
                },
                "description": "agents only",
            },
        ],
        "revocations": {keys["user"].public: ISSUED - 1, "*": ISSUED - 9},
    }


def test_other_revocations_leave_the_rest_of_an_account_as_it_was(keys: dict[str, KeyPair]) -> None:
    def account(issued_at: int, revocations: dict[str, int]) -> str:
        return account_jwt(
            "AGENTS",
            keys["account"].public,
            keys["operator_signing"],
            issued_at=issued_at,
            signing_keys=[keys["signing"].public],
            scoped_keys=[ScopedKey(keys["scoped"].public, "agent", Permissions(("a.{{name()}}",), ("b",)))],
            jetstream=JetStreamLimits(disk_bytes=1000),
            limits=AccountLimits(connections=5),
            revocations=revocations,
        )

    before = account(ISSUED, {EVERY_USER: 1})
    for later in ({keys["user"].public: ISSUED}, {}):
        after = with_revocations(before, keys["operator_signing"], later, issued_at=ISSUED + 1)
        assert after == account(ISSUED + 1, later)


def test_revocations_that_would_not_replace_the_account_are_refused(keys: dict[str, KeyPair]) -> None:
    signer = keys["operator_signing"]
    account = account_jwt("A", keys["account"].public, signer, issued_at=ISSUED)
    user = user_jwt("u", keys["user"].public, keys["scoped"], keys["account"].public, None, issued_at=ISSUED)
    for issued_at in (ISSUED - 1, ISSUED):
        with pytest.raises(InvalidClaimError, match="not later"):
            with_revocations(account, signer, {}, issued_at=issued_at)
    with pytest.raises(InvalidClaimError, match="not an account JWT"):
        with_revocations(user, signer, {}, issued_at=ISSUED + 1)
    with pytest.raises(InvalidKeyError):
        with_revocations(account, keys["scoped"], {}, issued_at=ISSUED + 1)
    with pytest.raises(InvalidKeyError):
        with_revocations(account, signer, {keys["account"].public: 1}, issued_at=ISSUED + 1)


def test_an_account_without_jetstream_limits_has_no_jetstream(keys: dict[str, KeyPair]) -> None:
    jwt = account_jwt("SYS", keys["system"].public, keys["operator_signing"], issued_at=ISSUED)
    assert not {"disk_storage", "mem_storage"} & verified(jwt)["nats"]["limits"].keys()


def test_a_user_of_a_plain_key_carries_its_permissions(keys: dict[str, KeyPair]) -> None:
    permissions = Permissions(
        publish=("actions.requested.*", "$JS.ACK.>"),
        subscribe=("_INBOX.gateway.>",),
        publish_deny=("actions.requested.root",),
        subscribe_deny=("_INBOX.gateway.secret",),
        responses=2,
        response_ttl_seconds=1.5,
    )
    jwt = user_jwt(
        "gateway",
        keys["user"].public,
        keys["signing"],
        keys["account"].public,
        permissions,
        issued_at=ISSUED,
        expires_at=ISSUED + 60,
        limits=ConnectionLimits(subscriptions=4),
    )
    claims = verified(jwt)
    assert (claims["name"], claims["iss"], claims["exp"]) == ("gateway", keys["signing"].public, ISSUED + 60)
    assert claims["nats"] == {
        "type": "user",
        "version": 2,
        "issuer_account": keys["account"].public,
        "pub": {"allow": ["actions.requested.*", "$JS.ACK.>"], "deny": ["actions.requested.root"]},
        "sub": {"allow": ["_INBOX.gateway.>"], "deny": ["_INBOX.gateway.secret"]},
        "resp": {"max": 2, "ttl": 1_500_000_000},
        "subs": 4,
        "data": -1,
        "payload": -1,
    }


def test_a_user_of_a_scoped_key_carries_nothing_the_server_would_refuse(keys: dict[str, KeyPair]) -> None:
    jwt = user_jwt("alpha", keys["user"].public, keys["scoped"], keys["account"].public, None, issued_at=ISSUED)
    claims = verified(jwt)
    assert claims["nats"] == {"type": "user", "version": 2, "issuer_account": keys["account"].public}
    assert "exp" not in claims


def test_golden_user_jwt(keys: dict[str, KeyPair]) -> None:
    """Ed25519 is deterministic: the same keys and claims give the same text for ever."""
    jwt = user_jwt(
        "alpha",
        keys["user"].public,
        keys["scoped"],
        keys["account"].public,
        None,
        issued_at=ISSUED,
        expires_at=ISSUED + 3600,
    )
    assert jwt == GOLDEN_USER_JWT


def test_no_subjects_means_nothing_rather_than_everything(keys: dict[str, KeyPair]) -> None:
    permissions = Permissions(publish=(), subscribe=(), publish_deny=("a",))
    jwt = user_jwt("n", keys["user"].public, keys["signing"], keys["account"].public, permissions, issued_at=ISSUED)
    claims = verified(jwt)["nats"]
    assert claims["pub"] == claims["sub"] == NOTHING
    assert "resp" not in claims


def test_two_jwts_of_one_second_that_differ_have_different_ids(keys: dict[str, KeyPair]) -> None:
    ids = {
        verified(
            account_jwt(
                "AGENTS",
                keys["account"].public,
                keys["operator_signing"],
                issued_at=ISSUED,
                revocations={keys["user"].public: second},
            )
        )["jti"]
        for second in (1, 2)
    }
    assert len(ids) == 2


@given(st.data())
def test_a_change_of_any_byte_of_a_jwt_breaks_its_signature(data: st.DataObject) -> None:
    jwt = user_jwt(
        "alpha",
        fixed("user", 7).public,
        fixed("account", 6),
        fixed("account", 4).public,
        None,
        issued_at=ISSUED,
    )
    header, payload, signature = (bytearray(unpadded(part)) for part in jwt.split("."))
    part = data.draw(st.sampled_from([header, payload, signature]))
    part[data.draw(st.integers(0, len(part) - 1))] ^= data.draw(st.integers(1, 255))
    signed = b".".join(base64.urlsafe_b64encode(bytes(piece)).rstrip(b"=") for piece in (header, payload))
    with pytest.raises(InvalidSignature):
        key_of(fixed("account", 6).public).verify(bytes(signature), signed)


@pytest.mark.parametrize("name", ["", "*", ">", "a.b", "a b", "{{name()}}", "-a", "a\n", "ä", "a" * 129])
def test_a_name_that_would_not_stay_one_subject_token_is_refused(keys: dict[str, KeyPair], name: str) -> None:
    with pytest.raises(InvalidClaimError, match="a name is"):
        user_jwt(name, keys["user"].public, keys["scoped"], keys["account"].public, None, issued_at=ISSUED)


def test_keys_in_the_wrong_place_are_refused(keys: dict[str, KeyPair]) -> None:
    user, account, operator = keys["user"], keys["account"], keys["operator"]
    with pytest.raises(InvalidKeyError):
        operator_jwt(account, signing_keys=[operator.public], system_account=account.public, issued_at=ISSUED)
    with pytest.raises(InvalidKeyError):
        operator_jwt(operator, signing_keys=[account.public], system_account=account.public, issued_at=ISSUED)
    with pytest.raises(InvalidKeyError):
        account_jwt("A", account.public, account, issued_at=ISSUED)
    with pytest.raises(InvalidKeyError):
        account_jwt("A", user.public, operator, issued_at=ISSUED)
    with pytest.raises(InvalidKeyError):
        account_jwt("A", account.public, operator, issued_at=ISSUED, signing_keys=[account.seed])
    with pytest.raises(InvalidKeyError):
        account_jwt("A", account.public, operator, issued_at=ISSUED, revocations={account.public: 1})
    with pytest.raises(InvalidKeyError):
        user_jwt("u", user.public, operator, account.public, None, issued_at=ISSUED)
    with pytest.raises(InvalidKeyError):
        user_jwt("u", account.public, account, account.public, None, issued_at=ISSUED)


def test_an_operator_without_signing_keys_and_a_key_listed_twice_are_refused(
    keys: dict[str, KeyPair],
) -> None:
    with pytest.raises(InvalidClaimError):
        operator_jwt(keys["operator"], signing_keys=[], system_account=keys["system"].public, issued_at=ISSUED)
    both = keys["scoped"].public
    with pytest.raises(InvalidClaimError, match="twice"):
        account_jwt(
            "A",
            keys["account"].public,
            keys["operator"],
            issued_at=ISSUED,
            signing_keys=[both],
            scoped_keys=[ScopedKey(both, "agent", Permissions((), ()))],
        )


def test_limits_beside_a_scoped_key_are_refused(keys: dict[str, KeyPair]) -> None:
    with pytest.raises(InvalidClaimError, match="template"):
        user_jwt(
            "alpha",
            keys["user"].public,
            keys["scoped"],
            keys["account"].public,
            None,
            issued_at=ISSUED,
            limits=ConnectionLimits(subscriptions=1),
        )


@pytest.mark.parametrize("second", [0, -1, ISSUED * 1000])
def test_a_time_that_is_not_in_unix_seconds_is_refused(keys: dict[str, KeyPair], second: int) -> None:
    user, signing, account = keys["user"].public, keys["signing"], keys["account"].public
    with pytest.raises(InvalidClaimError, match="unix seconds"):
        user_jwt("u", user, signing, account, None, issued_at=second)
    with pytest.raises(InvalidClaimError):
        user_jwt("u", user, signing, account, None, issued_at=ISSUED, expires_at=second)
    with pytest.raises(InvalidClaimError, match="unix seconds"):
        account_jwt("A", account, keys["operator"], issued_at=ISSUED, revocations={user: second})


def test_a_jwt_that_expires_before_it_is_issued_is_refused(keys: dict[str, KeyPair]) -> None:
    with pytest.raises(InvalidClaimError, match="expire"):
        user_jwt(
            "u",
            keys["user"].public,
            keys["signing"],
            keys["account"].public,
            None,
            issued_at=ISSUED,
            expires_at=ISSUED,
        )


def test_a_credentials_file_joins_only_a_jwt_and_its_own_seed(keys: dict[str, KeyPair]) -> None:
    user = keys["user"]
    jwt = user_jwt("alpha", user.public, keys["scoped"], keys["account"].public, None, issued_at=ISSUED)
    lines = creds_file(jwt, user.seed).splitlines()
    assert lines[lines.index("-----BEGIN NATS USER JWT-----") + 1] == jwt
    assert lines[lines.index("-----BEGIN USER NKEY SEED-----") + 1] == user.seed
    for seed in (KeyPair.generate("user").seed, keys["account"].seed, "no seed"):
        with pytest.raises(InvalidKeyError):
            creds_file(jwt, seed)


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c.d", "a.!!.c", "a.W10.c", "a.e30é.c", "a.bm8.c"])
def test_what_is_no_jwt_is_not_read(text: str) -> None:
    with pytest.raises(InvalidClaimError, match="not a JWT"):
        read_claims(text)


def test_claims_are_read_back(keys: dict[str, KeyPair]) -> None:
    jwt = user_jwt("alpha", keys["user"].public, keys["scoped"], keys["account"].public, None, issued_at=ISSUED)
    assert read_claims(jwt) == verified(jwt)
