"""The whole policy set in force: profiles, hand-written policies, and Cedar's pre-parsed handles of them.

The set for one profile leaves out what is scoped to another: ``principal in Profile::"x"`` can never match an agent of
profile ``y``, so every answer is the same and the price does not grow with the number of profiles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import cedarpy

from countersign_contracts.canonical import canonical
from countersign_contracts.catalogue import Profile

from .cedar_text import WrittenPolicy, context_use, mentioned, policies_json
from .profiles import Policy, agent_policy, compile_profile

#: ``all``: what decides. ``bounds`` and ``listed``: what profiles forbid and permit, without hand-written policies,
#: which alone look at arguments. ``permits``: every permit, to explain a denial.
Part = Literal["all", "bounds", "listed", "permits"]


@dataclass(frozen=True)
class PolicySet:
    """Profiles and policies, compiled. ``version`` names exactly this set."""

    version: str
    profiles: Mapping[str, Profile]
    policies: Mapping[str, Policy]
    #: attribute names that hand-written policies look at
    mentioned: frozenset[str]
    #: what of the context any policy looks at; None inside: a policy uses it as a whole
    context_use: frozenset[str | None]
    _of_profile: Mapping[str, tuple[Policy, ...]]
    _shared: tuple[Policy, ...]
    _handles: dict[tuple[str, Part], cedarpy.PolicySet] = field(default_factory=dict)

    def handle(self, profile: str, part: Part) -> cedarpy.PolicySet:
        """Cedar's handle of the policies that can concern an agent of ``profile``; parsed at the first use."""
        key = (profile if profile in self.profiles else "", part)
        if key not in self._handles:
            self._handles[key] = cedarpy.PolicySet.from_json_str(
                _est(p for p in (*self._shared, *self._of_profile.get(key[0], ())) if _belongs(p, part))
            )
        return self._handles[key]

    @property
    def permits_by_hand(self) -> bool:
        """Whether a hand-written policy permits anything."""
        return any(p.check == "written" and p.est["effect"] == "permit" for p in self._shared)

    def whole(self) -> cedarpy.PolicySet:
        """Every policy, whatever profile it is scoped to."""
        return cedarpy.PolicySet.from_json_str(_est(self.policies.values()))


def compile_set(profiles: Iterable[Profile], written: Iterable[WrittenPolicy]) -> PolicySet:
    """The set of these profiles and hand-written policies; the same ones give the same version."""
    by_name = {profile.name: profile for profile in profiles}
    of_profile = {name: tuple(compile_profile(profile)) for name, profile in by_name.items()}
    hand = [Policy(each.id, "written", each.est) for each in written]
    shared = (agent_policy(), *hand)
    policies = {p.id: p for p in (*shared, *(p for each in of_profile.values() for p in each))}
    return PolicySet(
        version=_version(by_name, policies),
        profiles=by_name,
        policies=policies,
        mentioned=frozenset(name for each in hand for name in mentioned(each.est)),
        context_use=frozenset(name for each in policies.values() for name in context_use(each.est)),
        _of_profile=of_profile,
        _shared=shared,
    )


def _belongs(policy: Policy, part: Part) -> bool:
    match part:
        case "all":
            return True
        case "bounds":
            return policy.check != "written" and policy.est["effect"] == "forbid"
        case "listed":
            return policy.check == "tools"
        case "permits":
            return bool(policy.est["effect"] == "permit")


def _est(policies: Iterable[Policy]) -> str:
    return policies_json({policy.id: policy.est for policy in policies})


def _version(profiles: Mapping[str, Profile], policies: Mapping[str, Policy]) -> str:
    form: dict[str, Any] = {
        # a profile's guardrails, overrides and deadline decide too, and are in no Cedar policy
        "profiles": {name: profile.model_dump(mode="json", by_alias=True) for name, profile in profiles.items()},
        "policies": {id: _numbers_as_text(policy.est) for id, policy in policies.items()},
    }
    return "sha256:" + hashlib.sha256(canonical(form)).hexdigest()


def _numbers_as_text(value: Any) -> Any:
    """Cedar's integers have 64 bits, more than canonical JSON carries."""
    if isinstance(value, Mapping):
        return {key: _numbers_as_text(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_numbers_as_text(each) for each in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
