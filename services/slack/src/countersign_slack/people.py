"""Who somebody in Slack is: the person who confirmed to be that, never who has the same name or address."""

from __future__ import annotations

from collections.abc import Iterable

from countersign_chassis import Mirror
from countersign_contracts.fleet import PersonRecord


def identity_of(team: str, user: str) -> str:
    """As it is enrolled: `T012/U345`."""
    return f"{team}/{user}"


class People:
    """The registry's people by their identity in Slack, as far as is known here: the approvals service decides."""

    def __init__(self, mirror: Mirror[PersonRecord]) -> None:
        self._mirror = mirror

    def find(self, identity: str) -> PersonRecord | None:
        """The active person who is enrolled with the identity."""
        for record in self._mirror.values():
            if record.status == "active" and identity in _identities(record):
                return record
        return None

    def mentions(self, names: Iterable[str], team: str | None, limit: int = 10) -> list[str]:
        """Slack's mentions of those of the people who are enrolled in the workspace."""
        wanted = set(names)
        asked = [record for record in self._mirror.values() if record.name in wanted and record.status == "active"]
        users = [identity.split("/", 1) for record in asked for identity in _identities(record)]
        return sorted(f"<@{user}>" for where, user in users if where == team and user.isalnum())[:limit]


def _identities(record: PersonRecord) -> set[str]:
    return {each.identity for each in record.channels}
