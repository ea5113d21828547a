"""Every subject that anybody may publish on, tried by everybody else: the server refuses each, and nothing besides.

The table is made from the topology alone, so a subject that is added there is tried by all others the same day.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from countersign_contracts.event import SERVICES
from countersign_contracts.topology import Access, agents_access, core_access
from countersign_harness.forging import matches

if TYPE_CHECKING:
    from .conftest import Deployment

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROLES: dict[str, Access] = {f"{service}-core": core_access(service) for service in SERVICES} | {
    f"{service}-agents": access for service in SERVICES if (access := agents_access(service)) is not None
}


def concrete(pattern: str) -> str:
    """A subject that the pattern covers. The names are nobody's, so that what is allowed does nothing either."""
    return pattern.replace("*", "nobody").replace(">", "nobody.1")


def table(side: str) -> dict[str, set[str]]:
    """Subject -> the users who may, by the topology."""
    subjects = {concrete(pattern) for access in ROLES.values() for pattern in getattr(access, side)}
    return {
        subject: {user for user, access in ROLES.items() if any(matches(p, subject) for p in getattr(access, side))}
        for subject in sorted(subjects)
    }


@pytest.mark.parametrize("user", ROLES)
async def test_what_belongs_to_other_roles_is_refused(deployment: Deployment, user: str) -> None:
    line = await deployment.line(user)
    said, heard = table("publish"), table("subscribe")
    assert len(said) > 80
    assert await line.refused_to_say(said, headers={"Nats-Expected-Stream": "none"}) == {
        subject for subject, users in said.items() if user not in users
    }
    assert await line.refused_to_hear(heard) == {subject for subject, users in heard.items() if user not in users}
