"""What people declare in files: tools, profiles, policies and agents, and what is projected of them on the bus.

The files are YAML (policies: Cedar). ``countersign apply`` reads them; the owner of each kind validates it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from .actions import Effect, Risk
from .conditions import ArgumentName, Condition
from .fleet import AgentDescription
from .ids import AgentId, Env, ProfileName, ToolName
from .model import Frozen

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class HttpCall(Frozen):
    """How a tool becomes one HTTP request."""

    method: Method
    url: str = Field(description="absolute URL; `{argument}` in its path is filled from the arguments, percent-encoded")
    path: tuple[ArgumentName, ...] = ()
    query: tuple[ArgumentName, ...] = ()
    body: tuple[ArgumentName, ...] = ()
    headers: dict[str, str] = Field(default_factory=dict, description="values may hold `${secret:NAME}`")
    allow_private: bool = Field(default=False, description="the host may be a loopback or private address")
    timeout_s: float = Field(default=10, gt=0, le=300)
    response_limit_bytes: int = Field(default=65536, ge=0, le=262144)
    retries: int = Field(default=3, ge=0, le=10, description="further tries, only where the tool is idempotent")


class FactEquals(Frozen):
    """A value in a lookup's answer: a dotted path, and what it must equal for the action to be denied."""

    path: str = Field(min_length=1, max_length=256)
    equals: Any


class Fact(Frozen):
    """A declared read-only lookup, checked at the decision and again at the execution."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    tool: ToolName = Field(description="a tool of effect `read`")
    args: dict[ArgumentName, Any] = Field(description="`{argument}` takes the action's argument")
    deny_when: FactEquals
    message: str = Field(max_length=500)


class AnswerLike(Frozen):
    """What a probe's answer is like: its status, a value in its JSON, or both. Without a status, any 2xx."""

    status: int | None = Field(default=None, ge=100, le=599)
    path: str | None = Field(default=None, min_length=1, max_length=256, description="dotted path into the answer")
    equals: Any = Field(default=None, description="what stands there")


class Probe(Frozen):
    """A declared read-only lookup that finds out what became of an ``unknown`` outcome."""

    tool: ToolName = Field(description="a tool of effect `read`")
    args: dict[ArgumentName, Any] = Field(
        description="`{request_id}` is the action's, which its call carried as Idempotency-Key"
    )
    after_s: float = Field(
        default=30,
        ge=0,
        le=86400,
        description="seconds after the call until the system has surely done what was asked, or never will",
    )
    happened_when: AnswerLike
    not_happened_when: AnswerLike


class Tool(Frozen):
    """A catalogue entry, as declared."""

    kind: Literal["tool"] = "tool"
    name: ToolName
    description: str = Field(default="", max_length=2000)
    effect: Effect
    idempotent: bool = False
    resource: str = Field(default="", max_length=512, description="template of what it touches, e.g. `tickets/{id}`")
    preview: str = Field(
        default="", max_length=500, description="template of what it will do, for approvers: `Pay {amount} to {iban}`"
    )
    arguments: dict[str, Any] = Field(description="JSON Schema 2020-12 of the arguments")
    destructive_when: tuple[Condition, ...] = ()
    risk: dict[Env | Literal["default"], Risk] | None = Field(
        default=None, description="risk by environment instead of the rules"
    )
    approval: Literal["never", "always"] | None = Field(default=None, description="instead of the rules")
    http: HttpCall
    facts: tuple[Fact, ...] = ()
    probe: Probe | None = None


class ToolRecord(Frozen):
    """What the executor projects into bucket ``tools``: the entry and its version."""

    tool: Tool
    version: int = Field(ge=1)
    revision: int = Field(ge=1)


GuardrailKind = Literal["session_calls", "rate", "spend", "time_window"]


class Guardrail(Frozen):
    """A stateful limit. Which fields a kind needs is checked when it is applied."""

    kind: GuardrailKind
    name: str = Field(min_length=1, max_length=128)
    tools: tuple[ToolName, ...] = Field(default=(), description="none: every tool")
    environments: tuple[Env, ...] = Field(default=(), description="none: every environment")
    limit: float | None = Field(default=None, ge=0, description="calls, or the argument's sum")
    window_s: int | None = Field(default=None, gt=0, le=31_536_000)
    per: Literal["agent", "tool", "person"] | None = Field(default=None, description="whom a rate or spend counts for")
    field: ArgumentName | None = Field(default=None, description="the argument that `spend` adds up")
    session_window_s: int = Field(default=86400, gt=0, description="how long a session's calls count")
    fallback_window_s: int = Field(default=300, gt=0, description="window where no session is given")
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] | None = None
    start: Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] | None = None
    end: Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] | None = None
    timezone: str = "UTC"

    @model_validator(mode="after")
    def _needs(self) -> Guardrail:
        needs: dict[str, tuple[str, ...]] = {
            "session_calls": ("limit",),
            "rate": ("limit", "window_s", "per"),
            "spend": ("limit", "window_s", "per", "field"),
            "time_window": ("start", "end"),
        }
        missing = [n for n in needs[self.kind] if getattr(self, n) is None]
        if missing:
            raise ValueError(f"guardrail `{self.name}` of kind {self.kind} also needs {', '.join(missing)}")
        return self


class Override(Frozen):
    """Risk or approval of one tool under one profile, instead of the rules."""

    risk: Risk | None = None
    approval: Literal["never", "always"] | None = None


class Profile(Frozen):
    """A permission profile, as declared."""

    kind: Literal["profile"] = "profile"
    name: ProfileName
    description: str = Field(default="", max_length=2000)
    environments: tuple[Env, ...] = Field(min_length=1)
    tools: tuple[ToolName, ...]
    endpoints: tuple[Annotated[str, StringConstraints(pattern=r"^(GET|POST|PUT|PATCH|DELETE|\*) /\S*$")], ...] = ()
    fields: dict[ToolName, tuple[ArgumentName, ...]] = Field(
        default_factory=dict, description="body fields the agent may set; path parameters are not counted"
    )
    guardrails: tuple[Guardrail, ...] = ()
    overrides: dict[ToolName, Override] = Field(default_factory=dict)
    approval_deadline_s: int = Field(default=3600, gt=0, le=2_592_000)


class AgentDeclaration(AgentDescription):
    """An agent, as declared."""

    kind: Literal["agent"] = "agent"
    agent_id: AgentId


class Document(Frozen):
    """One file of a change, as its author wrote it."""

    path: str = Field(max_length=512, description="as given to `apply`, for error messages")
    text: str = Field(max_length=512_000)


class FileError(Frozen):
    """What is wrong in a declared file, where, and what is allowed."""

    path: str
    line: int | None = None
    field: str | None = None
    message: str
    allowed: str | None = None
