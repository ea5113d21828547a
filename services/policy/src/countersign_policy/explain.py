"""Why the answer was no, in words: a denial by Cedar turned into reasons, from the policies that determined it.

Nothing is decided here. Every reason names the policy it comes from and, where there is one, what is allowed.
"""

from __future__ import annotations

from countersign_contracts.actions import Reason

from .engine import Answer, Question
from .policy_set import PolicySet


def denial(question: Question, answer: Answer, permitted: Answer | None, policy_set: PolicySet) -> tuple[Reason, ...]:
    """The reasons of the first stage that failed: environment, else everything about permission.

    ``permitted``: whether anything permits it, bounds aside; None where that cannot be known.
    """
    policies = [policy_set.policies[id] for id in answer.policies if id in policy_set.policies]
    # with an error Cedar may have answered Allow: what permitted it is no reason then
    policies = [policy for policy in policies if policy.est["effect"] == "forbid"]
    outside = [p.id for p in policies if p.check == "environment"]
    if outside:
        return tuple(_environment(question, id, policy_set) for id in outside)
    reasons: list[Reason] = []
    if permitted is not None and not permitted.policies:
        reasons += nothing_permits(question, policy_set)
    for policy in policies:
        if policy.check == "endpoint":
            reasons.append(_endpoint(question, policy.id, policy_set))
        elif policy.check == "fields":
            reasons += _fields(question, policy.id, policy_set)
        elif policy.check == "written":
            message = f"policy `{policy.id}` forbids it{_advice(policy.est)}"
            reasons.append(Reason(code="policy", message=message, policy=policy.id))
    return tuple(reasons + [_error(text) for text in answer.errors])


def nothing_permits(question: Question, policy_set: PolicySet) -> list[Reason]:
    """The reasons of a default deny."""
    agent, action = question.agent, question.action
    profile = policy_set.profiles.get(agent.profile)
    reasons: list[Reason] = []
    if profile is not None and action.tool not in profile.tools:
        message = f"profile `{profile.name}` does not allow `{action.tool}`; it allows {_listed(profile.tools)}"
        reasons.append(Reason(code="tool_not_allowed", message=message, policy=f"profile/{profile.name}/tools"))
    known = "" if profile is not None else f"; its profile `{agent.profile}` is not declared"
    message = f"nothing permitted it: no policy lets agent `{agent.agent_id}` use `{action.tool}`{known}"
    return [*reasons, Reason(code="no_permit", message=message)]


def _environment(question: Question, policy: str, policy_set: PolicySet) -> Reason:
    agent, env = question.agent, question.action.env
    profile = policy_set.profiles.get(agent.profile)
    if policy == "agent/environments" or profile is None:
        whose, allowed = f"agent `{agent.agent_id}`", agent.environments
    else:
        whose, allowed = f"profile `{profile.name}`", profile.environments
    message = f"{whose} may not act in `{env}`; allowed: {_listed(allowed)}"
    return Reason(code="environment", message=message, policy=policy)


def _endpoint(question: Question, policy: str, policy_set: PolicySet) -> Reason:
    profile = policy_set.profiles[question.agent.profile]
    message = (
        f"`{question.action.tool}` calls {question.endpoint}, and profile `{profile.name}`"
        f" allows only {_listed(profile.endpoints)}"
    )
    return Reason(code="endpoint_not_allowed", message=message, policy=policy)


def _fields(question: Question, policy: str, policy_set: PolicySet) -> list[Reason]:
    profile = policy_set.profiles[question.agent.profile]
    allowed = profile.fields.get(question.action.tool, ())
    return [
        Reason(
            code="field_not_allowed",
            message=f"profile `{profile.name}` does not allow the field `{name}` of"
            f" `{question.action.tool}`; it allows {_listed(allowed)}",
            policy=policy,
        )
        for name in question.fields
        if name not in allowed
    ]


def _error(text: str) -> Reason:
    # Cedar: "error while evaluating policy `<id>`: <what>"
    policy = text.split("`", 2)[1] if text.startswith("error while evaluating policy `") else None
    return Reason(code="policy_error", message=f"denied, since a policy could not be applied: {text}", policy=policy)


def _advice(est: object) -> str:
    """The text of the policy's ``@message`` annotation: what its author wants people to read."""
    annotations = est.get("annotations") if isinstance(est, dict) else None
    message = annotations.get("message") if isinstance(annotations, dict) else None
    return f": {message}" if message else ""


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"
