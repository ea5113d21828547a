"""Who is calling, before and after the gateway has read the registry's projections."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from countersign_contracts.errors import CountersignError
from countersign_contracts.fleet import PersonRecord
from countersign_contracts.model import now
from countersign_gateway.access_tokens import AccessTokens
from countersign_gateway.credentials import Credentials, PersonIdentity
from countersign_ledger import TrustBundle

ADMIN = PersonRecord(name="admin", roles=("admin",), token_sha256=hashlib.sha256(b"known").hexdigest(), revision=1)


@dataclass
class Bucket:
    """What of a mirror counts here."""

    loaded: bool
    records: list[PersonRecord] = field(default_factory=list)

    def values(self) -> list[PersonRecord]:
        return self.records

    def get(self, key: str) -> Any:
        return next((record for record in self.records if record.key == key), None)

    def subscribe(self, callback: Callable[[str, Any], None]) -> None:
        for record in self.records:
            callback(record.key, record)


NO_ACCESS = AccessTokens(TrustBundle.of("tests", []), Bucket(True), Bucket(True))


@pytest.mark.parametrize(
    ("agents", "people", "code"),
    [
        (Bucket(False), Bucket(False), "unavailable"),
        (Bucket(False), Bucket(True, [ADMIN]), "unavailable"),
        (Bucket(True), Bucket(False), "unavailable"),
        (Bucket(True), Bucket(True), "unavailable"),  # wiped, and not filled again yet
        (Bucket(True), Bucket(True, [ADMIN]), "unauthenticated"),
    ],
)
def test_a_token_is_called_unknown_only_once_all_were_read(agents: Bucket, people: Bucket, code: str) -> None:
    """Found by faults: who called a gateway that was starting was told that its credential is not known."""
    credentials = Credentials(agents, people, NO_ACCESS)
    with pytest.raises(CountersignError) as refusal:
        credentials.identify("Bearer other", now())
    assert refusal.value.code == code


def test_a_token_that_was_read_counts_at_once() -> None:
    found = Credentials(Bucket(False), Bucket(False, [ADMIN]), NO_ACCESS).identify("Bearer known", now())
    assert found == PersonIdentity.of(ADMIN)
