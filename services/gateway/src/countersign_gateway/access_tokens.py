"""Who holds an access token: its signature says who logged in, the registry's projections whether that still counts."""

from __future__ import annotations

from datetime import datetime

from countersign_chassis import Mirror
from countersign_contracts import access_token
from countersign_contracts.access_token import InvalidAccessToken
from countersign_contracts.errors import Unavailable
from countersign_contracts.fleet import PersonRecord, person_key
from countersign_contracts.logins import LoginsRecord
from countersign_ledger import TrustBundle


class AccessTokens:
    """Checks access tokens. A login that bucket ``logins`` does not name has ended, whatever its tokens say."""

    def __init__(self, trust: TrustBundle, logins: Mirror[LoginsRecord], people: Mirror[PersonRecord]) -> None:
        self._trust = trust
        self._logins = logins
        self._people = people

    def holder(self, token: str, at: datetime) -> tuple[PersonRecord, str]:
        """The person as they are now, roles and all, and the id of their login.

        Raises :class:`InvalidAccessToken`, and :class:`Unavailable` where a token is newer than what was read here.
        """
        claims = access_token.verify(token, at=at, trust=self._trust)
        key = person_key(claims.sub)
        logins, person = self._logins.get(key), self._people.get(key)
        if logins is None or person is None or logins.revision < claims.rev:
            raise Unavailable("the gateway has not read this login yet; try again")
        if claims.sid not in logins.logins:
            raise InvalidAccessToken("this login has ended; `countersign login` starts another")
        if person.status != "active":
            raise InvalidAccessToken(f"{person.name} was removed")
        return person, claims.sid
