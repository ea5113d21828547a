"""Whether an agent may register with a token, and as whom. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from packaging.version import InvalidVersion, Version

from countersign_contracts.enrolment import DiscoveryToken, RegisterWithToken, registration_text
from countersign_contracts.errors import CountersignError, Refused
from countersign_contracts.fleet import AgentRecord, Credential
from countersign_contracts.model import rfc3339

from .lifecycle import faults
from .proofs import check_signature

#: A UUID in its text form, and the dash before it; an agent's id has at most 63 characters.
_UUID_CHARACTERS = 37
_ID_CHARACTERS = 63


@dataclass(frozen=True, slots=True)
class Holder:
    """The agent that registered with a key, and with which token."""

    nkey: str
    token_id: str
    agent_id: str


def agent_id_of(agent_type: str, uuid: str) -> str:
    """``{type}-{uuid}``; of a long type its beginning."""
    return f"{agent_type[: _ID_CHARACTERS - _UUID_CHARACTERS]}-{uuid}"


def check_said(command: RegisterWithToken) -> None:
    """Raises `invalid` for a name, a version or a proof that is none, and `unauthenticated` for a wrong proof."""
    if (command.nkey is None) != (command.signature is None):
        raise CountersignError(
            "`nkey` and `signature` go together: the agent's own NATS key, and the proof that it holds it; leave both"
            " out to be given a key",
            code="invalid",
        )
    for what, text in (("agent_name", command.agent_name), ("agent_version", command.agent_version)):
        if not text.strip() or not text.isprintable():
            raise CountersignError(
                f"{what}: blank, or with characters that cannot be printed (allowed: printable text)", code="invalid"
            )
    check_version(command.agent_version)
    if command.nkey is not None and command.signature is not None:
        said = registration_text(
            command.agent_type, command.agent_name, command.agent_version, command.nkey, command.token_sha256
        )
        check_signature(command.nkey, command.signature, said)


def check_version(text: str) -> None:
    """Raises `invalid` for what is no version (PEP 440, which most semantic versions are too)."""
    try:
        Version(text)
    except InvalidVersion:
        raise CountersignError(
            f"agent_version: {text!r} is no version (allowed: numbers with dots, e.g. 1.4.0, 2.0.0rc1)", code="invalid"
        ) from None


def admit(
    token: DiscoveryToken | None, command: RegisterWithToken, holder: Holder | None, at: datetime
) -> tuple[DiscoveryToken, Holder | None]:
    """The token, and who comes again with it and its key; None for a new agent.

    Raises `unauthenticated` for a token that is unknown, has ended or was revoked; `forbidden` for one of another type;
    `conflict` for one that was used up by others, and for a key that registered with another token.
    """
    if token is None:
        raise CountersignError(
            "the discovery token is not known; `countersign agents token create` makes one", code="unauthenticated"
        )
    if token.revoked_at is not None:
        raise _over(f"was revoked by {token.revoked_by} at {rfc3339(token.revoked_at)[:16]}Z")
    if token.expires_at <= at:
        raise _over(f"ended at {rfc3339(token.expires_at)[:19]}Z")
    if command.agent_type != token.grant.agent_type:
        raise Refused(
            f"the discovery token is for agents of type `{token.grant.agent_type}`, not of type"
            f" `{command.agent_type}`; ask for one of that type"
        )
    if holder is not None:
        if holder.token_id == token.token_id:
            return token, holder
        raise CountersignError(
            "this NATS key registered before, with another token: renew its credentials, or register with a new key",
            code="conflict",
        )
    if token.used >= token.uses:
        times = "once" if token.uses == 1 else f"{token.uses} times"
        raise CountersignError(
            f"the discovery token was used {times}, which is what it is good for, by others: with another key it takes"
            " another token. An agent that registered with it comes again with the key it had then",
            code="conflict",
        )
    return token, None


def newcomer(
    token: DiscoveryToken, command: RegisterWithToken, agent_id: str, credentials: tuple[Credential, ...]
) -> AgentRecord:
    """The agent that registers. Raises `invalid` naming what its token should not have granted."""
    grant = token.grant
    if wrong := faults(command.agent_name, grant.owner, grant.environments):
        raise CountersignError("; ".join(what for _, what, _ in wrong), code="invalid")
    return AgentRecord(
        agent_id=agent_id,
        name=command.agent_name,
        owner=grant.owner,
        profile=grant.profile,
        environments=grant.environments,
        status="active",
        heartbeat_s=grant.heartbeat_s,
        credentials=credentials,
        agent_type=command.agent_type,
        version=command.agent_version,
        revision=1,
    )


def _over(what: str) -> CountersignError:
    return CountersignError(
        f"the discovery token {what}: it takes another one. An agent that is registered renews its credentials with"
        " its key instead",
        code="unauthenticated",
    )
