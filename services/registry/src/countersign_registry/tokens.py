"""Commands about discovery tokens: what agents register with. Of a secret its SHA-256 is kept; it is shown once."""

from __future__ import annotations

import secrets
from datetime import timedelta

from countersign_contracts.enrolment import (
    CreateDiscoveryToken,
    DiscoveryToken,
    DiscoveryTokenIssued,
    DiscoveryTokenRevoked,
    DiscoveryTokens,
    IssuedDiscoveryToken,
    ListDiscoveryTokens,
    RevokeDiscoveryToken,
    token_sha256,
)
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.ids import prefixed
from countersign_contracts.model import now

from .aftermath import Aftermath
from .enrolment_store import EnrolmentStore
from .lifecycle import faults
from .nats_users import AgentsAccount
from .outbox import Outbox
from .store import Store


class TokenCommands:
    """Answers the commands about discovery tokens."""

    def __init__(
        self, store: Store, enrolments: EnrolmentStore, outbox: Outbox, aftermath: Aftermath, account: AgentsAccount
    ) -> None:
        self._store = store
        self._enrolments = enrolments
        self._outbox = outbox
        self._aftermath = aftermath
        self._account = account

    async def create(self, command: CreateDiscoveryToken) -> IssuedDiscoveryToken:
        """A new token, and the NATS credential to register with. Raises `invalid` naming the field."""
        grant = command.grant
        if wrong := faults("an agent", grant.owner, grant.environments):
            raise CountersignError(
                "; ".join(f"{'.'.join(map(str, loc))}: {what} (allowed: {ok})" for loc, what, ok in wrong),
                code="invalid",
            )
        at = now()
        token = DiscoveryToken(
            token_id=prefixed("dtk"),
            grant=grant,
            uses=command.uses,
            created_at=at,
            created_by=command.by,
            expires_at=at.replace(microsecond=0) + timedelta(seconds=command.expires_in_s),
        )
        secret = f"csd_{secrets.token_urlsafe(32)}"
        nkey, creds = self._account.new_bootstrap_user(token.token_id, at, token.expires_at)
        told = DiscoveryTokenIssued(
            token_id=token.token_id,
            agent_type=grant.agent_type,
            by=command.by,
            at=at,
            grant=grant,
            uses=token.uses,
            expires_at=token.expires_at,
        )
        async with self._store.transaction() as connection:
            await self._enrolments.add_token(connection, token, token_sha256(secret), nkey)
            await self._outbox.add(connection, [told])
        self._outbox.wake()
        return IssuedDiscoveryToken(token=token, secret=secret, nats_creds=creds)

    async def list(self, command: ListDiscoveryTokens) -> DiscoveryTokens:
        """Tokens, the latest first, those of no more use too."""
        found = await self._enrolments.tokens(command.after, command.limit + 1)
        items = tuple(found[: command.limit])
        return DiscoveryTokens(items=items, next=items[-1].token_id if len(found) > command.limit else None)

    async def revoke(self, command: RevokeDiscoveryToken) -> DiscoveryToken:
        """Nobody registers with it when this returns; connections made to register are gone. Again is harmless.

        Raises `not_found`, and :class:`Unavailable` if nats-server has not confirmed that yet.
        """
        at = now()
        async with self._store.transaction() as connection:
            token = await self._enrolments.lock_token(connection, command.token_id)
            if token is None:
                raise CountersignError(
                    f"there is no discovery token `{command.token_id}`; `countersign agents token list` shows them",
                    code="not_found",
                )
            if token.revoked_at is None:
                token = token.model_copy(update={"revoked_at": at, "revoked_by": command.by})
                await self._enrolments.revoke(connection, token.token_id, command.by, at)
                told = DiscoveryTokenRevoked(
                    token_id=token.token_id, agent_type=token.grant.agent_type, by=command.by, at=at
                )
                await self._outbox.add(connection, [told])
        behind = await self._aftermath.of(within_s=command.rpc.timeout_s - 1, revoke=True)
        if behind:
            raise Unavailable(
                f"discovery token `{token.token_id}` is revoked, and stays so: nobody registers with it; but its NATS"
                f" credential may still connect: {'; '.join(behind)}. It is retried until it may not"
            )
        return token
