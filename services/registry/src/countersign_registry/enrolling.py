"""Agents that register with a token, and renew what they were given by their key.

Those that register at once go through one transaction together, so that a thousand cost little more than one, and take
no more than one connection to the database.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
from prometheus_client import Counter

from countersign_chassis import Coalescer, Connection
from countersign_chassis.natsauth import KeyPair, creds_file
from countersign_contracts.enrolment import (
    Challenge,
    ChallengeAgent,
    DiscoveryToken,
    Registered,
    RegisterWithToken,
    RenewCredentials,
    Renewed,
    renewal_text,
)
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.fleet import AgentChanged, Credential, CredentialsIssued
from countersign_contracts.ids import new_id, prefixed
from countersign_contracts.model import now

from . import lifecycle
from .admission import Holder, admit, agent_id_of, check_said, newcomer
from .aftermath import Aftermath
from .enrolment_store import EnrolmentStore, Key
from .lifecycle import Agent, Change
from .nats_users import AgentsAccount
from .outbox import Outbox
from .proofs import Nonces, check_signature
from .store import Store

_BATCH = 32


@dataclass(frozen=True, slots=True)
class _Admitted:
    """One that registers: what changes, what it is answered, and for a new one its token and key."""

    change: Change
    answer: Registered
    token: DiscoveryToken
    nkey: str


#: Why one is not taken, or that another of the same key is being taken: it is looked at again after that.
_Outcome = Registered | CountersignError | None


class Enrolment:
    """Answers agents that register and renew."""

    def __init__(
        self,
        store: Store,
        enrolments: EnrolmentStore,
        outbox: Outbox,
        aftermath: Aftermath,
        account: AgentsAccount,
        *,
        lifetime_s: int,
        come_back_within_s: int,
        registered: Counter,
        issued: Counter,
    ) -> None:
        self._store = store
        self._enrolments = enrolments
        self._outbox = outbox
        self._aftermath = aftermath
        self._account = account
        self._lifetime_s = lifetime_s
        self._come_back_within = timedelta(seconds=come_back_within_s)
        self._registered = registered
        self._issued = issued
        self._nonces = Nonces(lambda: account.nonce_seeds)
        self._registrations: Coalescer[RegisterWithToken, _Outcome] = Coalescer(self._flush, max_batch=_BATCH)

    async def register(self, command: RegisterWithToken) -> Registered:
        """Take an agent in; again with the same token and key it is the same agent, with new credentials.

        Raises what :func:`~.admission.admit` does.
        """
        try:
            check_said(command)
            outcome = None
            while outcome is None:
                outcome = await self._registrations.submit(command)
            if isinstance(outcome, CountersignError):
                raise outcome
        except CountersignError as error:
            self._registered.labels(error.code).inc()
            raise
        self._registered.labels("again" if outcome.again else "new").inc()
        for kind in ("http", "nats"):
            self._issued.labels(kind).inc()
        await self._aftermath.of(within_s=command.rpc.timeout_s - 1, agents=[outcome.agent_id])
        return outcome

    async def challenge(self, command: ChallengeAgent) -> Challenge:
        """What the agent's key is to sign to renew."""
        return self._nonces.new(command.agent_id, now())

    async def renew(self, command: RenewCredentials) -> Renewed:
        """Credentials that last longer, for whoever proves to hold the key that the agent registered with.

        Raises `unauthenticated` saying what the proof lacks, `conflict` for a revoked agent.
        """
        at, agent_id, renewal = now(), command.agent_id, command.renewal
        ends = self._nonces.check(agent_id, renewal.nonce, at)
        check_signature(renewal.nkey, renewal.signature, renewal_text(agent_id, renewal.nonce))
        until = self._until(at)
        http_token, issued = _new_token(until) if "http" in renewal.kinds else (None, ())
        async with self._store.transaction() as connection:
            agent = (await self._store.lock(connection, [agent_id], at)).get(agent_id)
            key = (await self._enrolments.keys(connection, [renewal.nkey])).get(renewal.nkey)
            if agent is not None and agent.record.status == "revoked":
                lifecycle.renew(agent, (), (), (), at, "")  # raises, saying when and by whom
            if agent is None or key is None or key.agent_id != agent_id:
                raise CountersignError(
                    f"this NATS key is not, or no more, one that agent `{agent_id}` registered with; register again,"
                    " with another token",
                    code="unauthenticated",
                )
            self._check_absence(key, at)
            if not await self._enrolments.spend(connection, renewal.nonce, ends, at):
                raise CountersignError("the nonce was used before; ask for another", code="unauthenticated")
            older = (await self._enrolments.older_tokens(connection, [agent_id])).get(agent_id, []) if issued else []
            renewed = (key.credential.model_copy(update={"expires_at": until}),) if "nats" in renewal.kinds else ()
            change = lifecycle.renew(agent, renewed, issued, tuple(older), at, prefixed("evt"))
            await self._store.save(connection, change, f"agent:{agent_id}", at)
            await self._outbox.add(connection, change.events)
        for credential in (*renewed, *issued):
            self._issued.labels(credential.kind).inc()
        await self._aftermath.of(within_s=command.rpc.timeout_s - 1, agents=[agent_id])
        return Renewed(
            agent_id=agent_id,
            heartbeat_s=change.record.heartbeat_s,
            nats_jwt=self._account.jwt(agent_id, renewal.nkey, at, until) if renewed else None,
            http_token=http_token,
            expires_at=until,
            revision=change.record.revision,
        )

    # --- registering together -------------------------------------------------------------------------

    async def _flush(self, asked: Sequence[RegisterWithToken]) -> list[_Outcome]:
        try:
            return await self._take(asked)
        except asyncpg.UniqueViolationError:
            # another registry takes an agent of the same key: alone, the others are not held up by it
            if len(asked) == 1:
                return [Unavailable("an agent of the same key is being registered elsewhere; try again")]
            return [outcome for command in asked for outcome in await self._flush([command])]

    async def _take(self, asked: Sequence[RegisterWithToken]) -> list[_Outcome]:
        at = now()
        nkeys = {command.nkey for command in asked if command.nkey is not None}
        async with self._store.transaction() as connection:
            tokens = await self._enrolments.lock_by_secret(connection, {command.token_sha256 for command in asked})
            taken_keys = await self._enrolments.taken(connection, nkeys) if nkeys else {}
            holders = {nkey: holder for nkey, holder in taken_keys.items() if holder is not None}
            known = sorted({holder.agent_id for holder in holders.values()})
            agents = await self._store.lock(connection, known, at) if known else {}
            keys = await self._enrolments.keys(connection, nkeys) if known else {}
            older = await self._enrolments.older_tokens(connection, known) if known else {}
            outcomes: list[_Outcome] = []
            admitted: dict[str, _Admitted] = {}
            for command in asked:
                if command.nkey is not None and command.nkey in admitted:
                    outcomes.append(None)
                    continue
                try:
                    if command.nkey in taken_keys and command.nkey not in holders:
                        raise CountersignError(
                            "this NATS key was issued to an agent before: register with a new one", code="conflict"
                        )
                    token = tokens.get(command.token_sha256)
                    holder = None if command.nkey is None else holders.get(command.nkey)
                    taken = self._admit(token, command, holder, agents, keys, older, at)
                except CountersignError as error:
                    outcomes.append(error)
                    continue
                admitted[taken.nkey] = taken
                if not taken.answer.again:
                    tokens[command.token_sha256] = taken.token.model_copy(update={"used": taken.token.used + 1})
                outcomes.append(taken.answer)
            await self._write(connection, list(admitted.values()), at)
        return outcomes

    def _admit(
        self,
        token: DiscoveryToken | None,
        command: RegisterWithToken,
        holder: Holder | None,
        agents: dict[str, Agent],
        keys: dict[str, Key],
        older: dict[str, list[Credential]],
        at: datetime,
    ) -> _Admitted:
        token, known = admit(token, command, holder, at)
        until = self._until(at)
        http_token, http = _new_token(until)
        if known is not None:
            agent = agents[known.agent_id]
            key = keys.get(known.nkey)
            if key is None:
                lifecycle.renew(agent, (), (), (), at, "")  # raises for a revoked agent
                raise CountersignError(
                    f"the credentials of agent `{known.agent_id}` were voided; register with another token and key",
                    code="conflict",
                )
            renewed = key.credential.model_copy(update={"expires_at": until})
            change = lifecycle.renew(agent, (renewed,), http, tuple(older.get(known.agent_id, ())), at, prefixed("evt"))
            change = _as_said_now(agent, change, command, at)
            nkey, creds = known.nkey, None
        else:
            agent_id = agent_id_of(command.agent_type, new_id())
            nkey, creds = (command.nkey, None) if command.nkey is not None else self._made(agent_id, at, until)
            nats = Credential(credential_id=prefixed("crd"), kind="nats", nkey=nkey, expires_at=until)
            record = newcomer(token, command, agent_id, (*http, nats))
            by, event = f"token:{token.token_id}", prefixed("evt")
            told = lifecycle.registered(record, by, at, event).events
            issued = CredentialsIssued(agent_id=agent_id, event=event, by=by, at=at, credentials=record.credentials)
            change = Change(record, (*told, issued), issued=record.credentials)
        record = change.record
        answer = Registered(
            agent_id=record.agent_id,
            heartbeat_s=record.heartbeat_s,
            nats_jwt=None if creds else self._account.jwt(record.agent_id, nkey, at, until),
            nats_creds=creds,
            http_token=http_token,
            expires_at=until,
            again=known is not None,
            revision=record.revision,
        )
        return _Admitted(change, answer, token, nkey)

    def _made(self, agent_id: str, at: datetime, until: datetime) -> tuple[str, str]:
        user = KeyPair.generate("user")
        return user.public, creds_file(self._account.jwt(agent_id, user.public, at, until), user.seed)

    async def _write(self, connection: Connection, admitted: Sequence[_Admitted], at: datetime) -> None:
        new = [each for each in admitted if not each.answer.again]
        if new:
            rows = [(Holder(each.nkey, each.token.token_id, each.answer.agent_id), each.change.record) for each in new]
            await self._enrolments.registered(connection, rows, at)
        for each in admitted:
            if each.answer.again:
                await self._store.save(connection, each.change, f"agent:{each.answer.agent_id}", at)
        if events := [event for each in admitted for event in each.change.events]:
            await self._outbox.add(connection, events)

    def _until(self, at: datetime) -> datetime:
        return at.replace(microsecond=0) + timedelta(seconds=self._lifetime_s)

    def _check_absence(self, key: Key, at: datetime) -> None:
        ended = key.credential.expires_at
        if ended is not None and at - ended > self._come_back_within:
            raise CountersignError(
                f"the credentials of agent `{key.agent_id}` ended at {ended:%Y-%m-%d %H:%M} UTC, too long ago to renew"
                " them; register with another token",
                code="unauthenticated",
            )


def _new_token(until: datetime) -> tuple[str, tuple[Credential, ...]]:
    """An HTTP credential: its secret, and what is kept of it."""
    token = f"csa_{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(token.encode()).hexdigest()
    return token, (Credential(credential_id=prefixed("crd"), kind="http", sha256=digest, expires_at=until),)


def _as_said_now(agent: Agent, change: Change, command: RegisterWithToken, at: datetime) -> Change:
    """The change with the name and version that the agent comes with this time."""
    said = {"name": command.agent_name, "version": command.agent_version}
    record = change.record.model_copy(update=said)
    if record == change.record:
        return change
    told = AgentChanged(
        agent_id=record.agent_id,
        event=change.events[0].event,
        by=f"agent:{record.agent_id}",
        at=at,
        before=agent.record,
        agent=record,
    )
    return Change(record, (told, *change.events), change.issued, change.voided, change.renewed)
