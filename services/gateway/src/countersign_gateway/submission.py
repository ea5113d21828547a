"""What an agent sends, read and checked: pure, without I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import Field, StringConstraints, ValidationError

from countersign_contracts.actions import MOST_PRINCIPALS, Action
from countersign_contracts.canonical import action_digest
from countersign_contracts.errors import CountersignError, Malformed, Refused, Unavailable
from countersign_contracts.ids import AgentId, Env, PrincipalId, RequestId, SessionId, ToolName
from countersign_contracts.model import Frozen, explain, loads
from countersign_contracts.schema_work import DEEPEST
from countersign_contracts.sealed import KEY as SEALED

S = TypeVar("S", bound=Frozen)

#: Words of people or agents: PostgreSQL keeps any text but U+0000.
Words = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$", max_length=2000)]

_MAX_NODES = 10_000


class Submission(Frozen):
    """The body of ``POST /api/v1/actions``."""

    tool: ToolName
    args: dict[str, Any] = Field(default_factory=dict)
    env: Env
    agent_id: AgentId | None = Field(default=None, description="only the credential's own agent is accepted")
    session_id: SessionId | None = None
    on_behalf_of: PrincipalId | Annotated[tuple[PrincipalId, ...], Field(max_length=MOST_PRINCIPALS)] | None = Field(
        default=None, description="whom the agent acts for; several: outermost first"
    )
    reason: Words | None = None

    @property
    def principal_chain(self) -> tuple[str, ...]:
        """Whom the agent acts for, outermost first."""
        if self.on_behalf_of is None:
            return ()
        return (self.on_behalf_of,) if isinstance(self.on_behalf_of, str) else self.on_behalf_of


class BusSubmission(Submission):
    """The body on ``agents.<id>.actions`` and ``agents.<id>.call``: the agent chooses the request id."""

    request_id: RequestId
    wait_s: float | None = Field(default=None, ge=0, le=300, description="of a call: how long to wait for the outcome")


def read_submission(raw: bytes, model: type[S]) -> S:
    """Parse strictly; raises :class:`CountersignError` (`malformed` or `invalid`) saying what and where."""
    value = loads(raw)
    if not isinstance(value, dict):
        raise Malformed("the body is not a JSON object")
    check_shape(value)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid(error) from None


def invalid(error: ValidationError) -> CountersignError:
    """A validation error as a problem with one entry a field."""
    fields = [
        {"field": ".".join(str(part) for part in e["loc"]), "message": e["msg"]}
        for e in error.errors(include_url=False, include_input=False, include_context=False)[:20]
    ]
    return CountersignError(explain(error), code="invalid", errors=fields)


def check_shape(value: Any) -> None:
    """Refuse what is too deep or has too many parts, before anything recurses into it; and what claims to be sealed."""
    nodes = 0
    level = [value]
    for _ in range(DEEPEST):
        following: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                if SEALED in item:
                    message = f"the key `{SEALED}` is Countersign's own: send the value itself, it is sealed here"
                    raise CountersignError(message, code="invalid")
                following.extend(item.values())
            elif isinstance(item, list):
                following.extend(item)
        if not following:
            return
        nodes += len(following)
        if nodes > _MAX_NODES:
            raise CountersignError(f"the body has more than {_MAX_NODES} values", code="too_large")
        level = following
    raise CountersignError(f"the body nests deeper than {DEEPEST} levels", code="too_large")


def request_text(submission: Submission) -> bytes:
    """What makes two submissions the same: the submission as it was understood."""
    return submission.model_dump_json(exclude={"request_id", "wait_s"}).encode()


def unkeyed_sha256(text: bytes) -> bytes:
    """How rows of version 0.1.0 remember a request; not written any more, since a value could be guessed by it."""
    return hashlib.sha256(text).digest()


def check_identity(agent_id: str, *, body: str | None, header: str | None) -> None:
    """A credential acts for its own agent only."""
    for named, where in ((body, "the body"), (header, "header X-Agent-ID")):
        if named is not None and named != agent_id:
            raise Refused(
                f"the credential belongs to agent {agent_id}, but {where} names {named}; use that agent's credential",
                code="identity_mismatch",
            )


def make_action(
    submission: Submission, args: dict[str, Any], *, request_id: str, agent_id: str, tool_version: int, at: datetime
) -> Action:
    """The action with its digest; ``args`` are the submission's as they travel.

    Raises `malformed` if they have no canonical form.
    """
    return Action(
        request_id=request_id,
        agent_id=agent_id,
        principal_chain=submission.principal_chain,
        session_id=submission.session_id,
        env=submission.env,
        tool=submission.tool,
        tool_version=tool_version,
        args=args,
        reason=submission.reason,
        digest=action_digest(
            agent=agent_id,
            principal_chain=submission.principal_chain,
            session=submission.session_id,
            env=submission.env,
            tool=submission.tool,
            tool_version=tool_version,
            args=args,
        ),
        requested_at=at,
    )


def wait_seconds(prefer: str | None, *, default: float, longest: float) -> float | None:
    """Seconds to wait from a ``Prefer`` header (RFC 7240), or None where it does not ask to wait."""
    if prefer is None:
        return None
    for preference in prefer.replace(";", ",").split(","):
        name, _, value = preference.strip().partition("=")
        if name.strip().lower() == "wait":
            try:
                seconds = float(value.strip().strip('"')) if value.strip() else default
            except ValueError:
                seconds = -1.0
            if not seconds >= 0:  # NaN is no time either
                raise Malformed(f"header Prefer: wait takes seconds, not {value.strip()!r}")
            return min(seconds, longest)
    return None


def database_away() -> Unavailable:
    """What a caller is told at either door when what the gateway stands on is away: come back."""
    return Unavailable("the gateway cannot reach its database; try again")


def problem_for_bus(error: CountersignError, request_id: str | None) -> Mapping[str, Any]:
    """An error as the body of a NATS result."""
    return {"problem": error.problem(), **({"request_id": request_id} if request_id else {})}
