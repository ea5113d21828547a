"""From events to rows: what Slack is to show. Once the rows are there the message is done, whether Slack is or not."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from countersign_chassis import Bus, Delivery, Failpoints
from countersign_contracts.approval_commands import ApprovalView, GetApproval
from countersign_contracts.approvals import ApprovalEvent, ApprovalVoteRefused, StandingEvent
from countersign_contracts.errors import CountersignError
from countersign_contracts.event import Event
from countersign_contracts.model import now

from .channels import channels_of
from .notes import note_of, outcome_of
from .people import People
from .rendering import Outcome, message
from .store import Store

_AT_ONCE = 8


class Intake:
    """Handlers of the two consumers. ``team``: the workspace's id, once it is known."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        people: People,
        channels: Mapping[str, str],
        team: Callable[[], str | None],
        wake: Callable[[], None],
        failpoints: Failpoints,
    ) -> None:
        self._store = store
        self._bus = bus
        self._people = people
        self._channels = channels
        self._team = team
        self._wake = wake
        self._failpoints = failpoints
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def approvals(self, batch: list[Delivery]) -> None:
        """What happened to approvals: one look at each, however much of it is in the batch."""
        events: dict[str, list[Event]] = {}
        for event in (delivery.event for delivery in batch):
            # a refusal is between the voter and the ledger
            if isinstance(event, ApprovalEvent) and not isinstance(event, ApprovalVoteRefused):
                events.setdefault(event.approval_id, []).append(event)
            elif isinstance(event, StandingEvent):
                events.setdefault(event.standing.approval_id, []).append(event)
        await self._all([self._refresh(approval_id, each) for approval_id, each in events.items()])

    async def actions(self, batch: list[Delivery]) -> None:
        """How actions ended; those that nobody was asked about here are passed over."""
        told = [
            (event, outcome)
            for event in (delivery.event for delivery in batch)
            if (outcome := outcome_of(event)) is not None
        ]
        shown = await self._store.approvals_of([event.about() for event, _ in told])
        await self._all(
            [self._refresh(shown[event.about()], [event], outcome) for event, outcome in told if event.about() in shown]
        )

    async def _all(self, work: Sequence[Any]) -> None:
        """All of it, though one fails: the others need not be done again."""
        done = await asyncio.gather(*work, return_exceptions=True)
        self._wake()
        for error in done:
            if isinstance(error, BaseException):
                raise error

    async def _refresh(self, approval_id: str, events: Sequence[Event], outcome: Outcome | None = None) -> None:
        async with self._slots:
            # the look is numbered before it is taken: one with a higher number has seen all that a lower one saw
            look = await self._store.look(approval_id, now(), outcome)
            view = await self._view(approval_id)
            if view is None:
                return
            if look is None:
                if view.state != "pending":
                    return  # it ended before anybody was asked here
                look = await self._store.first_look(approval_id, view.action.request_id, now())
                view = await self._view(approval_id) or view
            content = orjson.dumps(message(view, look.outcome)).decode()
            await self._store.show(
                approval_id,
                look,
                content,
                hashlib.sha256(content.encode()).hexdigest(),
                pending=view.state == "pending",
                channels=channels_of(view, self._channels),
                notes=self._notes(events, view, outcome),
                at=now(),
            )
        await self._failpoints.hit("slack.after_commit_before_ack")

    async def _view(self, approval_id: str) -> ApprovalView | None:
        try:
            view: ApprovalView = await self._bus.ask(GetApproval(approval_id=approval_id))
        except CountersignError as error:
            if error.code == "not_found":
                return None
            raise
        return view

    def _notes(self, events: Sequence[Event], view: ApprovalView, outcome: Outcome | None) -> list[tuple[str, str]]:
        if outcome is not None:
            return [(event.event_id(), outcome.text) for event in events]
        open_now = {name for stage in view.stages if stage.state == "open" for name in stage.people}
        mentions = self._people.mentions(open_now, self._team()) if view.state == "pending" else []
        notes = ((event.event_id(), note_of(event, view, mentions)) for event in events)
        return [(event_id, text) for event_id, text in notes if text is not None]
