"""The registry's SQL for people who log in with the OpenID provider: whose account there is whose."""

from __future__ import annotations

from countersign_chassis import Connection

_WHOSE = "SELECT person FROM provider_identity WHERE issuer = $1 AND subject = $2"
_ACCOUNT = "SELECT issuer, subject FROM provider_identity WHERE person = $1"
_BIND = "INSERT INTO provider_identity (person, issuer, subject, bound_at) VALUES ($1, $2, $3, now())"
_UNBIND = "DELETE FROM provider_identity WHERE person = $1"
_PROVISIONED = "SELECT provisioned FROM person WHERE name = $1"
_SET = "UPDATE person SET provisioned = $2 WHERE name = $1"


class ProviderStore:
    """Everything works in the caller's transaction, in which the person is locked."""

    async def bind(self, connection: Connection, person: str, issuer: str, subject: str) -> bool:
        """Whether that account is this person's: the first one that came with their name is."""
        account = await connection.fetchrow(_ACCOUNT, person)
        if account is not None:
            return (account["issuer"], account["subject"]) == (issuer, subject)
        if await connection.fetchval(_WHOSE, issuer, subject) is not None:
            return False
        await connection.execute(_BIND, person, issuer, subject)
        return True

    async def provisioned(self, connection: Connection, person: str) -> bool:
        """Whether the provider's groups say what roles they have, not an admin."""
        return bool(await connection.fetchval(_PROVISIONED, person))

    async def set_provisioned(self, connection: Connection, person: str, provisioned: bool) -> None:
        """Who says what roles they have from now on."""
        await connection.execute(_SET, person, provisioned)

    async def taken_over(self, connection: Connection, person: str) -> None:
        """An admin added or removed them: no account of the provider is known to be theirs any more."""
        await connection.execute(_UNBIND, person)
        await connection.execute(_SET, person, False)
