"""The trust bundle: which public key may sign which types of event, for one deployment.

It answers one question, as often as thousands of times a second: may this key have said this? It is public
and goes to whoever verifies. Not here: private keys (`signing`), and where a bundle is stored or fetched
from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .errors import BadSignature, InvalidTrustBundle, NotEntitled, UnknownKey
from .fields import FieldError, Fields, json_name, parse_object, to_base64url
from .text import Instant, forbidden_character, parse_instant, shown

WARRANT_TYPE: Final = "countersign.warrant.v1"
"""What a key's `emits` names when it may sign warrants."""

CHECKPOINT_TYPE: Final = "countersign.checkpoint.v1"
"""What a key's `emits` names when it may sign checkpoints."""

UNVERIFIED_TYPE: Final = "countersign.audit.unverified.v1"
"""The type under which audit records, signed by itself, an event it could not verify on arrival."""

_VERSION: Final = 1
_BUNDLE_FIELDS: Final = frozenset({"version", "deployment", "keys"})
_KEY_FIELDS: Final = frozenset({"kid", "service", "public_key", "emits"})
_KEY_OPTIONAL: Final = frozenset({"not_before", "not_after"})

_P: Final = 2**255 - 19
_Y8: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER: Final = frozenset({0, 1, _P - 1, _P, _P + 1, _Y8, _P - _Y8})
"""y coordinates of the points of order 1, 2, 4 and 8 of edwards25519: under such a public key anyone
can sign. The all-zero key, the likeliest mistake in a hand-made bundle, is one of them."""


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """One public key and what it may sign.

    `public_key` is the raw Ed25519 key, 32 bytes (RFC 8032). `emits` holds CloudEvents types, and
    `WARRANT_TYPE` or `CHECKPOINT_TYPE` where the key signs those. `not_before` and `not_after` (RFC 3339,
    UTC) are both inclusive.
    """

    kid: str
    service: str
    public_key: bytes
    emits: frozenset[str]
    not_before: str | None = None
    not_after: str | None = None


Verify = Callable[[bytes, bytes], None]
"""Checks (signature, message) under one public key; raises `InvalidSignature` or `ValueError` if they do not fit."""


def _by_cryptography(public_key: bytes) -> Verify:
    return Ed25519PublicKey.from_public_bytes(public_key).verify


class _Verifier(NamedTuple):
    """A key made ready for use, once: verifying is the hot path."""

    key: TrustedKey
    verify: Verify
    not_before: Instant | None
    not_after: Instant | None


@dataclass(frozen=True)
class TrustBundle:
    """The keys of one deployment, by key id. Immutable, and safe to share between threads.

    `prepare` makes a raw public key ready to verify with; the default is `cryptography`, and whoever verifies
    thousands of times a second may hand in another implementation of RFC 8032.

    Raises InvalidTrustBundle, naming the field, when a key could not be used as it stands.
    """

    deployment: str
    keys: Mapping[str, TrustedKey]
    prepare: Callable[[bytes], Verify] = field(default=_by_cryptography, repr=False, compare=False)
    _verifiers: dict[str, _Verifier] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _require_text("deployment", self.deployment)
        verifiers: dict[str, _Verifier] = {}
        owners: dict[bytes, str] = {}
        for kid, key in self.keys.items():
            path = f"keys[{kid!r}]"
            if kid != key.kid:
                raise InvalidTrustBundle(f"{path}.kid: is {shown(key.kid)}, listed under another id")
            verifiers[kid] = _make_verifier(path, key, self.prepare)
            if (other := owners.setdefault(key.public_key, kid)) != kid:
                raise InvalidTrustBundle(f"{path}.public_key: is also the key of {shown(other)}")
        object.__setattr__(self, "keys", MappingProxyType(dict(self.keys)))
        object.__setattr__(self, "_verifiers", verifiers)

    @classmethod
    def of(
        cls, deployment: str, keys: Iterable[TrustedKey], prepare: Callable[[bytes], Verify] = _by_cryptography
    ) -> TrustBundle:
        """Make a bundle of these keys. Raises InvalidTrustBundle, as for two keys of one id."""
        listed = list(keys)
        by_kid = {key.kid: key for key in listed}
        if len(by_kid) != len(listed):
            twice = next(key.kid for i, key in enumerate(listed) if by_kid[key.kid] is not key)
            raise InvalidTrustBundle(f"keys: two keys have the id {shown(twice)}")
        return cls(deployment, by_kid, prepare)

    @classmethod
    def from_json(cls, text: str | bytes, prepare: Callable[[bytes], Verify] = _by_cryptography) -> TrustBundle:
        """Read the form `to_json` writes. Raises InvalidTrustBundle, which names the field."""
        try:
            fields = Fields(parse_object(text), _BUNDLE_FIELDS)
            if (version := fields.number("version")) != _VERSION:
                raise fields.wrong("version", f"is {version}; only {_VERSION} is known")
            keys = [_key_from(raw, f"keys[{i}].") for i, raw in enumerate(fields.array("keys"))]
            deployment = fields.text("deployment")
        except FieldError as error:
            raise InvalidTrustBundle(f"trust bundle: {error}") from None
        return cls.of(deployment, keys, prepare)

    def to_json(self) -> str:
        """The bundle as JSON, sorted and indented: equal bundles give equal text."""
        keys = []
        for kid in sorted(self.keys):
            key = self.keys[kid]
            form: dict[str, object] = {
                "kid": key.kid,
                "service": key.service,
                "public_key": to_base64url(key.public_key),
                "emits": sorted(key.emits),
            }
            if key.not_before is not None:
                form["not_before"] = key.not_before
            if key.not_after is not None:
                form["not_after"] = key.not_after
            keys.append(form)
        document = {"version": _VERSION, "deployment": self.deployment, "keys": keys}
        return json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True) + "\n"

    def verify(self, kid: str, type: str, message: bytes, signature: bytes, at: str | None = None) -> TrustedKey:
        """Return the key that signed `message`, if it may sign this `type`.

        `at` (RFC 3339, UTC) is when it was signed; without it a key's validity period is not looked at.
        Raises UnknownKey, NotEntitled (not this type, or outside its validity at `at`) or BadSignature.
        """
        verifier = self._verifiers.get(kid)
        if verifier is None:
            raise UnknownKey(f"the trust bundle of {self.deployment} holds no key {shown(kid)}")
        key = verifier.key
        if type not in key.emits:
            raise NotEntitled(f"key {kid} of {key.service} may not sign {shown(type)}")
        if at is not None and (verifier.not_before or verifier.not_after):
            _require_valid(verifier, at)
        try:
            verifier.verify(signature, message)
        except (InvalidSignature, ValueError):
            raise BadSignature(f"the signature is not one of key {kid} over this message") from None
        return key


def _require_valid(verifier: _Verifier, at: str) -> None:
    key = verifier.key
    try:
        moment = parse_instant(at)
    except ValueError as error:
        raise NotEntitled(f"key {key.kid} is valid for a period only, and {error}") from None
    if verifier.not_before is not None and moment < verifier.not_before:
        raise NotEntitled(f"key {key.kid} of {key.service} is valid from {key.not_before}, not at {at}")
    if verifier.not_after is not None and moment > verifier.not_after:
        raise NotEntitled(f"key {key.kid} of {key.service} was valid until {key.not_after}, not at {at}")


def _make_verifier(path: str, key: TrustedKey, prepare: Callable[[bytes], Verify]) -> _Verifier:
    for name, value in (("kid", key.kid), ("service", key.service), *(("emits", type) for type in key.emits)):
        _require_text(f"{path}.{name}", value)
    if len(key.public_key) != 32:
        raise InvalidTrustBundle(f"{path}.public_key: must be 32 bytes, not {len(key.public_key)}")
    if int.from_bytes(key.public_key, "little") & (2**255 - 1) in _SMALL_ORDER:
        raise InvalidTrustBundle(f"{path}.public_key: is a point of small order, under which anyone can sign")
    not_before = _instant(f"{path}.not_before", key.not_before)
    not_after = _instant(f"{path}.not_after", key.not_after)
    if not_before is not None and not_after is not None and not_after < not_before:
        raise InvalidTrustBundle(f"{path}.not_after: is before not_before, so the key is never valid")
    return _Verifier(key, prepare(key.public_key), not_before, not_after)


def _instant(path: str, text: str | None) -> Instant | None:
    try:
        return None if text is None else parse_instant(text)
    except ValueError as error:
        raise InvalidTrustBundle(f"{path}: {error}") from None


def _require_text(path: str, text: str) -> None:
    if not text:
        raise InvalidTrustBundle(f"{path}: is empty")
    if (forbidden := forbidden_character(text)) is not None:
        raise InvalidTrustBundle(f"{path}: contains the forbidden character {forbidden}")


def _key_from(raw: object, path: str) -> TrustedKey:
    fields = Fields(raw, _KEY_FIELDS, path=path, optional=_KEY_OPTIONAL)
    emits: set[str] = set()
    for i, value in enumerate(fields.array("emits")):
        if not isinstance(value, str):
            raise FieldError(f"{path}emits[{i}]: must be a string, not {json_name(value)}")
        if value in emits:
            raise FieldError(f"{path}emits[{i}]: {shown(value)} is listed twice")
        emits.add(value)
    return TrustedKey(
        kid=fields.text("kid"),
        service=fields.text("service"),
        public_key=fields.base64url("public_key", 32),
        emits=frozenset(emits),
        not_before=fields.text("not_before") if "not_before" in fields else None,
        not_after=fields.text("not_after") if "not_after" in fields else None,
    )
