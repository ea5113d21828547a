"""Changing an account on a running server: how a revocation, a new signing key or a limit takes effect.

The server drops the connections that the new claims no longer allow at once, and keeps the JWT in its
resolver directory, so that it holds after a restart. What the claims say is decided in `claims`.
"""

import json
from typing import Any, Final

from nats.aio.client import Client
from nats.errors import MaxPayloadError, NoRespondersError
from nats.errors import TimeoutError as NatsTimeoutError

from .claims import read_claims
from .keys import NatsAuthError, require_public_key
from .permissions import InvalidClaimError, Permissions

# How the server describes an account that no connection has needed yet: the first will load the stored JWT.
_NOT_LOADED: Final = "does not exist"


class AccountPushRefusedError(NatsAuthError):
    """The server refused the account JWT, or stored it without taking it into use."""


class AccountPushUnansweredError(NatsAuthError):
    """No answer in time: unknown whether the account changed. Pushing the same JWT again is harmless.

    A user without the permissions of `account_push_permissions` sees this too.
    """


def account_push_permissions(account_public: str, inbox: str) -> Permissions:
    """What a user of the system account needs to push this one account, and no more.

    Narrower than the general subject `$SYS.REQ.CLAIMS.UPDATE`: even together with an operator signing key it
    changes no other account, since no other account's JWT is taken from this subject.
    `inbox` is the inbox prefix of its connection.
    """
    require_public_key(account_public, "account")
    return Permissions(
        publish=(_update_subject(account_public), _info_subject(account_public)), subscribe=(f"{inbox}.>",)
    )


async def push_account(system: Client, account_jwt: str, *, timeout_seconds: float = 5.0) -> None:
    """Replace an account's claims on the server, and return once they are in use.

    `system` is connected as a user of the system account. Raises AccountPushRefusedError,
    AccountPushUnansweredError, and InvalidClaimError or InvalidKeyError if `account_jwt` is not an account's.

    The first answer alone would not do: the server says "jwt updated" even where the issuer is no operator
    key it trusts, stores that JWT, keeps to the old one, and has lost the account after a restart. So it is
    asked which JWT it uses. After such a refusal, push a good one.
    """
    claims = read_claims(account_jwt)
    nats = claims.get("nats")
    if not isinstance(nats, dict) or nats.get("type") != "account":
        raise InvalidClaimError("not an account JWT")
    account = require_public_key(str(claims.get("sub")), "account")

    updated = await _ask(system, _update_subject(account), account_jwt.encode("ascii"), timeout_seconds)
    if error := _error(updated):
        raise AccountPushRefusedError(error)
    info = await _ask(system, _info_subject(account), b"", timeout_seconds)
    if error := _error(info):
        if not error.endswith(_NOT_LOADED):
            raise AccountPushRefusedError(error)
    elif info["data"].get("jwt") != account_jwt:
        raise AccountPushRefusedError("the server stored the JWT but uses another: is its issuer trusted?")


async def _ask(system: Client, subject: str, payload: bytes, timeout_seconds: float) -> dict[str, Any]:
    try:
        reply = await system.request(subject, payload, timeout=timeout_seconds)
    except (NatsTimeoutError, NoRespondersError):
        raise AccountPushUnansweredError(f"no answer on {subject}") from None
    except MaxPayloadError:
        raise AccountPushRefusedError(f"the JWT has {len(payload)} bytes, more than a message may") from None
    try:
        answer = json.loads(reply.data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise AccountPushRefusedError(f"not an answer of a NATS server on {subject}")
    return answer


def _error(answer: dict[str, Any]) -> str | None:
    """Why the server said no; None when it said yes. An answer without data is a no."""
    error = answer.get("error")
    if error is not None:
        return str(error.get("description", error) if isinstance(error, dict) else error)
    return None if isinstance(answer.get("data"), dict) else "an answer without data"


def _update_subject(account_public: str) -> str:
    return f"$SYS.REQ.ACCOUNT.{account_public}.CLAIMS.UPDATE"


def _info_subject(account_public: str) -> str:
    return f"$SYS.REQ.ACCOUNT.{account_public}.INFO"
