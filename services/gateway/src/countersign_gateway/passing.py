"""Events that pass by: heard as ordinary messages, beside the durable consumers of who keeps what they say.

What is heard so is told to people at once, or not at all: nothing is acknowledged, and nothing comes again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from nats.aio.msg import Msg

from countersign_contracts.envelope import Envelope, open_event
from countersign_contracts.errors import CountersignError
from countersign_contracts.event import Event
from countersign_ledger import TrustBundle

#: Batches and events remembered, to tell each once.
_REMEMBERED = 4096


def believed(msg: Msg, trust: TrustBundle, log: Any) -> tuple[Envelope, Event] | None:
    """The verified event of a message, on the subject that is its own; None for what is not to be believed."""
    try:
        envelope = Envelope.read(msg.headers, msg.data)
        event = open_event(envelope, trust)
    except CountersignError as error:
        # who takes the same message from a durable consumer puts it on record
        log.warning("heard what cannot be believed", subject=msg.subject, reason=error.detail)
        return None
    return (envelope, event) if msg.subject == event.nats_subject() else None


class Once:
    """What was heard lately: services send what they are not sure of again."""

    def __init__(self) -> None:
        self._heard: OrderedDict[tuple[str, ...], None] = OrderedDict()

    def first(self, *what: str) -> bool:
        """Whether this was not heard before; from now on it was."""
        if what in self._heard:
            return False
        self._heard[what] = None
        if len(self._heard) > _REMEMBERED:
            self._heard.popitem(last=False)
        return True
