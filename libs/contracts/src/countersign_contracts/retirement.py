"""What becomes of what a retired key signed: it stays true, and nothing new comes from that key.

Whoever holds a retired key can still sign, and say that it was long ago. So a retired key counts for what had arrived
when it was retired, whatever time a message gives itself; the ledger goes by the time of signing, since audit
let nothing else in.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from countersign_ledger import NotEntitled, TrustedKey

from .model import now, rfc3339

#: What was on its way when the key was retired, and clocks that differ.
LEEWAY = timedelta(seconds=60)


def require_in_force(key: TrustedKey, arrived: datetime | None = None) -> None:
    """Raises :class:`NotEntitled` for what arrived after ``key`` was retired; without ``arrived``, arriving now."""
    if key.not_after is None:
        return
    arrived = arrived or now()
    if arrived > datetime.fromisoformat(key.not_after) + LEEWAY:
        raise NotEntitled(
            f"key {key.kid} of {key.service} was retired at {key.not_after}, and this arrived at {rfc3339(arrived)}"
        )
