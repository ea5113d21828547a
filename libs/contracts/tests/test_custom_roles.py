"""What a declared role may say, and what it and the built-in ones allow."""

from __future__ import annotations

from typing import Any

import pytest

from countersign_contracts.catalogue import Document
from countersign_contracts.documents import read_documents
from countersign_contracts.fleet import PersonRecord
from countersign_contracts.roles import EVERYTHING, MEANT_FOR, PERMISSIONS

ROLE = "kind: role\nname: helpdesk\ndescription: gives people their tokens\npermissions: [people, read]\n"


def person(*roles: str, granted: tuple[str, ...] = ()) -> PersonRecord:
    return PersonRecord(name="ann", roles=roles, granted=granted, token_sha256="0" * 64, revision=1)


def test_a_role_is_read_with_its_permissions_in_one_order() -> None:
    [parsed], errors = read_documents([Document(path="roles.yaml", text=ROLE)])
    role: Any = parsed.model
    assert (errors, parsed.kind, role.name, role.permissions) == ([], "role", "helpdesk", ("people", "read"))


@pytest.mark.parametrize(
    ("now", "then", "field", "says"),
    [
        ("[people, read]", "[people]", "permissions", "`read` must be among them"),
        ("[people, read]", "[read, fly]", "permissions", "`fly` is no permission; allowed: cancel, "),
        ("[people, read]", "[read, read]", "permissions", "named once"),
        ("[people, read]", "[]", "permissions", "at least 1"),
        ("helpdesk", "admin", "name", "built in"),
        ("helpdesk", "Help Desk", "name", "allowed form"),
        ("description", "text", "text", "not a field"),
    ],
)
def test_what_is_wrong_in_a_role_is_said_with_what_is_allowed(now: str, then: str, field: str, says: str) -> None:
    _, errors = read_documents([Document(path="roles.yaml", text=ROLE.replace(now, then))])
    assert any(error.field == field and says in error.message and error.line for error in errors), errors


@pytest.mark.parametrize(
    ("record", "permissions"),
    [
        (person("reader"), {"read"}),
        (person("admin"), EVERYTHING),
        (person("approver", "helpdesk", granted=("people", "read")), {"read", "vote", "revoke", "people"}),
        (person("helpdesk"), set()),  # a role that is no more allows nothing
        (person("reader", granted=("fly",)), {"read"}),
        (person(), set()),
    ],
)
def test_a_person_may_what_a_role_allows_and_nothing_else(record: PersonRecord, permissions: set[str]) -> None:
    assert record.permissions == permissions
    assert not record.may("fly") and not record.may("")


def test_every_built_in_role_reads_is_described_and_is_within_the_admin_s() -> None:
    assert set(MEANT_FOR) == set(PERMISSIONS)
    for allowed in PERMISSIONS.values():
        assert {"read"} <= allowed <= EVERYTHING
