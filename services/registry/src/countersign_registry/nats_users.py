"""The keys of account AGENTS as the registry holds them, and agents' NATS users made with them.

An agent's user is signed by a scoped key: what it may do stands in the account's template, whatever its JWT says. A
user's key pair is made here, handed out once as the text of a credentials file, and not kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from countersign_chassis.natsauth import KeyKind, KeyPair, NatsAuthError, creds_file, read_claims, user_jwt
from countersign_contracts.errors import CountersignError

from .settings import Settings


@dataclass(frozen=True, slots=True)
class AgentsAccount:
    """Account AGENTS: its JWT as bootstrap made it, and the keys that sign it and its agents' users."""

    base: str
    public: str
    operator_signing: KeyPair
    agents_signing: KeyPair
    bootstrap_signing: KeyPair
    observer_signing: KeyPair

    @classmethod
    def of(cls, settings: Settings) -> AgentsAccount:
        """Read from the files; raises :class:`CountersignError` naming the one that is missing or is something else."""
        path = settings.agents_account_file
        base = read_secret(path, "JWT of account AGENTS")
        try:
            claims = read_claims(base)
        except NatsAuthError as error:
            raise CountersignError(f"{path} holds no JWT of account AGENTS: {error}") from None
        return cls(
            base=base,
            public=str(claims.get("sub")),
            operator_signing=_key(settings.operator_signing_seed_file, "operator"),
            agents_signing=_key(settings.agents_signing_seed_file, "account"),
            bootstrap_signing=_key(settings.bootstrap_signing_seed_file, "account"),
            observer_signing=_key(settings.observer_signing_seed_file, "account"),
        )

    def new_user(self, agent_id: str, at: datetime, expires_at: datetime | None) -> tuple[str, str]:
        """A new user of that agent: its public key, and its credentials file, which is the only place of its seed."""
        user = KeyPair.generate("user")
        return user.public, creds_file(self.jwt(agent_id, user.public, at, expires_at), user.seed)

    def jwt(self, agent_id: str, nkey: str, at: datetime, expires_at: datetime | None) -> str:
        """What lets the holder of that key in as the agent."""
        return self._jwt(agent_id, nkey, self.agents_signing, at, expires_at)

    def new_bootstrap_user(self, token_id: str, at: datetime, expires_at: datetime) -> tuple[str, str]:
        """A new user that can register and nothing else: its public key, and its credentials file."""
        user = KeyPair.generate("user")
        jwt = self._jwt(token_id, user.public, self.bootstrap_signing, at, expires_at)
        return user.public, creds_file(jwt, user.seed)

    def new_observer(self, observer_id: str, at: datetime, expires_at: datetime) -> str:
        """The credentials file of a new user that can ask which agents run and nothing else."""
        user = KeyPair.generate("user")
        return creds_file(self._jwt(observer_id, user.public, self.observer_signing, at, expires_at), user.seed)

    def _jwt(self, name: str, nkey: str, signer: KeyPair, at: datetime, expires_at: datetime | None) -> str:
        return user_jwt(
            name,
            nkey,
            signer,
            self.public,
            None,
            issued_at=int(at.timestamp()),
            expires_at=None if expires_at is None else int(expires_at.timestamp()),
        )


def read_secret(path: Path, what: str) -> str:
    """A file's text without the space around it; raises :class:`CountersignError` naming the file."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise CountersignError(
            f"cannot read the {what} at {path}: {reason}; `countersign up` has bootstrap write it"
        ) from None


def _key(path: Path, kind: KeyKind) -> KeyPair:
    try:
        pair = KeyPair.from_seed(read_secret(path, "NATS seed"))
    except NatsAuthError as error:
        raise CountersignError(f"{path} holds no NATS seed: {error}") from None
    if pair.kind != kind:
        raise CountersignError(f"{path} holds the seed of an {pair.kind}, not of an {kind}")
    return pair
