"""The keys of account AGENTS as the registry holds them, and agents' NATS users made with them.

An agent's user is signed by a scoped key: what it may do stands in the account's template, whatever its JWT says. A
user's key pair is made here, handed out once as the text of a credentials file, and not kept.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path

from countersign_chassis.natsauth import KeyKind, KeyPair, NatsAuthError, creds_file, read_claims, user_jwt
from countersign_contracts.errors import CountersignError

from .settings import Settings


@dataclass(slots=True, eq=False)
class AgentsAccount:
    """Account AGENTS: its JWT as bootstrap made it, and the keys that sign it and its agents' users.

    Of each kind the file may hold several keys while one takes the other's place: the first signs.
    """

    base: str
    public: str
    operator_signing: KeyPair
    agents_signing: KeyPair
    bootstrap_signing: KeyPair
    observer_signing: KeyPair
    nonce_seeds: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings) -> AgentsAccount:
        """Read from the files; raises :class:`CountersignError` naming the one that is missing or is something else."""
        path = settings.agents_account_file
        base = read_secret(path, "JWT of account AGENTS")
        try:
            claims = read_claims(base)
        except NatsAuthError as error:
            raise CountersignError(f"{path} holds no JWT of account AGENTS: {error}") from None
        agents_signing = _keys(settings.agents_signing_seed_file, "account")
        return cls(
            base=base,
            public=str(claims.get("sub")),
            operator_signing=_keys(settings.operator_signing_seed_file, "operator")[0],
            agents_signing=agents_signing[0],
            bootstrap_signing=_keys(settings.bootstrap_signing_seed_file, "account")[0],
            observer_signing=_keys(settings.observer_signing_seed_file, "account")[0],
            nonce_seeds=tuple(pair.seed for pair in agents_signing),
        )

    def reread(self, settings: Settings) -> bool:
        """Take up what bootstrap wrote since; whether anything changed. Raises as :meth:`of`, and changes nothing."""
        fresh = AgentsAccount.of(settings)
        if fresh._form() == self._form():
            return False
        for field in fields(self):
            setattr(self, field.name, getattr(fresh, field.name))
        return True

    def _form(self) -> tuple[object, ...]:
        keys = (self.operator_signing, self.agents_signing, self.bootstrap_signing, self.observer_signing)
        return (self.base, self.nonce_seeds, *(pair.public for pair in keys))

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

    def new_observer(self, observer_id: str, at: datetime, expires_at: datetime) -> tuple[str, str]:
        """A new user that can ask which agents run and nothing else: its public key, and its credentials file."""
        user = KeyPair.generate("user")
        jwt = self._jwt(observer_id, user.public, self.observer_signing, at, expires_at)
        return user.public, creds_file(jwt, user.seed)

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


def _keys(path: Path, kind: KeyKind) -> list[KeyPair]:
    try:
        found = [KeyPair.from_seed(line) for line in read_secret(path, "NATS seed").split()]
    except NatsAuthError as error:
        raise CountersignError(f"{path} holds no NATS seed: {error}") from None
    if not found:
        raise CountersignError(f"{path} is empty, and should hold a NATS seed")
    if wrong := next((pair for pair in found if pair.kind != kind), None):
        raise CountersignError(f"{path} holds the seed of an {wrong.kind}, not of an {kind}")
    return found
