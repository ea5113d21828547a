"""Casting a vote for somebody in Slack: what its form carries, and what is said of one that does not count."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from prometheus_client import Counter

from countersign_chassis import Bus
from countersign_contracts.approval_commands import ApprovalView, CastVote
from countersign_contracts.errors import CountersignError, Unavailable
from countersign_contracts.ids import DIGEST_PATTERN

from .words import plain

LINK = "Link yourself: run `countersign people link-slack`, then type here what it prints (`/countersign link CODE`)."

APPROVAL = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
DIGEST = re.compile(DIGEST_PATTERN)

#: What to do about a refusal, where its own words do not say it.
_ADVICE = {
    "digest_mismatch": "Look at the message as it is now, and decide on that.",
    "not_found": "It may have been asked for by another deployment.",
    "not_entitled": "Somebody else must decide.",
    "not_enrolled": LINK,
    "assurance": "Decide with `countersign approvals approve`, which asks for the code.",
}


@dataclass(frozen=True, slots=True)
class Ballot:
    """What a form is for. It travels with the form: nothing is kept, and any replica may get the answer."""

    approval: str
    digest: str
    vote: str
    channel: str

    def text(self) -> str:
        """As the form carries it."""
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def read(cls, text: Any) -> Ballot:
        """What a form carried; raises :class:`ValueError` for anything else."""
        found = orjson.loads(text)
        if not isinstance(found, dict):
            raise ValueError("no ballot")
        parts = [str(found.get(name, "")) for name in ("approval", "digest", "vote", "channel")]
        if not (APPROVAL.fullmatch(parts[0]) and DIGEST.fullmatch(parts[1]) and parts[2] in ("approve", "reject")):
            raise ValueError("no ballot")
        return cls(*parts)


class Ballots:
    """Votes, counted by what became of them."""

    def __init__(self, bus: Bus, votes: Counter) -> None:
        self._bus = bus
        self._votes = votes

    async def cast(
        self,
        identity: str,
        approval_id: str,
        vote: str,
        digest: str,
        comment: str | None,
        *,
        timeout_s: float | None = None,
        **more: Any,
    ) -> ApprovalView:
        """The approval with the vote; raises why it does not count, and :class:`Unavailable` if nobody knows."""
        command = CastVote(
            approval_id=approval_id,
            voter=f"slack:{identity}",
            vote="approve" if vote == "approve" else "reject",
            digest=digest,
            channel="slack",
            comment=comment or None,
            **more,
        )
        try:
            view: ApprovalView = await self._bus.ask(command, timeout_s=timeout_s)
        except CountersignError as error:
            self._votes.labels("unavailable" if isinstance(error, Unavailable) else "refused").inc()
            raise
        self._votes.labels("counted").inc()
        return view


def refusal(error: CountersignError, again: str = "press the button again") -> str:
    """A vote that does not count, in words; ``again``: how it is cast once more, where nobody knows whether it does."""
    if isinstance(error, Unavailable):
        return f"{plain(error.detail)}. Your vote is not confirmed: {again}. Twice counts once."
    return said(error)


def said(error: CountersignError) -> str:
    """Why nothing was counted, and what to do."""
    return f"Not counted: {plain(error.detail)}. {_ADVICE.get(error.code, '')}".rstrip()
