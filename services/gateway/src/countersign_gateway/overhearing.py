"""Final events as they pass by: a caller is told by the replica it called, whichever replica takes the event.

Every replica hears every final event as an ordinary message, and looks only at those its callers wait for. The durable
consumer stays in charge of the rows: what was missed here (a broken connection) is found there by a look every two
seconds. What was verified here is not verified again when the consumer brings the same bytes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from nats.aio.msg import Msg

from countersign_chassis.connection import NatsConnection
from countersign_contracts.actions import FINAL_STATES, ActionDenied, ActionEvent
from countersign_contracts.envelope import Envelope, open_event
from countersign_contracts.event import Event
from countersign_contracts.topology import FINAL_SUBJECTS
from countersign_ledger import TrustBundle

from .lifecycle import change_of
from .passing import believed
from .store import Store
from .waiters import Waiters

#: How often the rows of those waited for are looked at, in seconds.
_LOOK_S = 2.0
#: Verified events kept for the consumer, and the longest body of one, in bytes: it follows within milliseconds.
_KEPT, _KEPT_BYTES = 512, 65_536


class Overhearing:
    """Tells those who wait in this process."""

    def __init__(
        self, connection: NatsConnection, trust: TrustBundle, store: Store, waiters: Waiters, log: Any
    ) -> None:
        self._connection = connection
        self._trust = trust
        self._store = store
        self._waiters = waiters
        self._log = log
        self._verified: OrderedDict[bytes, tuple[Envelope, Event]] = OrderedDict()

    async def start(self) -> None:
        """Listen, beside the other replicas: no queue group."""
        for subject in FINAL_SUBJECTS:
            await self._connection.client.listen(subject, self._hear)

    async def run(self) -> None:
        """Look at the rows of those waited for, for ever: what was missed is told all the same."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if waited_for := self._waiters.waited_for():
                for row in await self._store.ended(waited_for):
                    self._waiters.tell(row.result)

    def open(self, envelope: Envelope) -> Event:
        """The verified event of an envelope, as :func:`open_event`; nothing is verified twice."""
        envelope_heard, event = self._verified.pop(envelope.signature, (None, None))
        if event is not None and envelope_heard == envelope:
            return event
        return open_event(envelope, self._trust)

    def _hear(self, msg: Msg) -> None:
        if not self._waiters.awaits((msg.headers or {}).get("ce-subject", "")):
            return
        if (heard := believed(msg, self._trust, self._log)) is None:
            return
        envelope, event = heard
        if not isinstance(event, ActionEvent):
            return
        if isinstance(event, ActionDenied) and event.amendment is not None:
            return  # told once what takes its place is accepted: here, or by the next look
        change = change_of(event)
        if change.state not in FINAL_STATES:
            return
        self._keep(envelope, event)
        result = change.to_result()
        self._waiters.remember([result])
        self._waiters.tell(result)

    def _keep(self, envelope: Envelope, event: Event) -> None:
        if len(envelope.body) <= _KEPT_BYTES:
            self._verified[envelope.signature] = (envelope, event)
            if len(self._verified) > _KEPT:
                self._verified.popitem(last=False)
