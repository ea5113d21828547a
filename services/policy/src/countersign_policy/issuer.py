"""Turns a decision into what is stored and published: the event, a warrant if it grants, and the seal over both."""

from __future__ import annotations

from datetime import datetime, timedelta

from countersign_contracts import warrant
from countersign_contracts.actions import ActionDenied, ActionEvent, ActionHeld, Amendment, Decision
from countersign_contracts.envelope import seal_event
from countersign_ledger.signing import SigningKey

from .conclude import event_of
from .examine import Examined
from .store import Row


class Issuer:
    """Holds the service's key: nothing else in Countersign can issue a warrant."""

    def __init__(self, key: SigningKey, warrant_lifetime_s: int) -> None:
        self._key = key
        self._lifetime = timedelta(seconds=warrant_lifetime_s)

    def row(self, examined: Examined, decision: Decision) -> Row:
        """The decision as it will be written, its event sealed."""
        token: str | None = None
        if decision.outcome == "allow":
            token = warrant.issue(
                examined.action,
                policy_version=decision.policy_version,
                approval_id=decision.approval_id,
                at=decision.decided_at,
                lifetime=self._lifetime,
                key=self._key,
            )
        return self._sealed(event_of(examined, decision, token), decision, examined)

    def refusal(self, held: ActionHeld, decision: Decision, amendment: Amendment | None) -> Row:
        """The denial of a held action by its approval."""
        event = ActionDenied(action=held.action, decision=decision, amendment=amendment)
        return self._sealed(event, decision, None)

    def _sealed(self, event: ActionEvent, decision: Decision, examined: Examined | None) -> Row:
        at: datetime = decision.decided_at
        return Row(
            outcome=decision.outcome,
            agent_id=event.token(),
            envelope=seal_event(event, time=at, key=self._key),
            decided_at=at,
            policy_version=decision.policy_version,
            counts=examined.counts if examined is not None else (),
        )
