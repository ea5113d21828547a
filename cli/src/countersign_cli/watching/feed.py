"""The gateway's side of the watch: its events, in a thread that reconnects by itself, and what is asked of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from countersign_contracts.errors import CountersignError

from ..approving import sheet
from ..client import Client, segment
from .board import Cast

PATH = "/api/v1/approvals"
#: The longest page that is shown; a person who has more to decide filters.
MOST = 200
#: Pauses between two tries to connect, in seconds, the last for all further ones.
_PAUSES_S = (0.5, 1.0, 2.0, 5.0)

#: Is told that the connection works or not, in words.
Linked = Callable[[bool, str], None]
#: Is told an event's name and its data.
Heard = Callable[[str, dict[str, Any]], None]


def follow(client: Client, linked: Linked, heard: Heard, ended: threading.Event) -> None:
    """Hear the gateway's events until ``ended``; raises only what waiting will not mend, such as a void token."""
    tried = 0
    while not ended.is_set():
        try:
            for name, data in client.events(f"{PATH}/events"):
                if ended.is_set():
                    return
                if name == "open":
                    tried = 0
                    linked(True, "live")
                elif name == "end":
                    raise CountersignError(str(data.get("reason", "the gateway ended it")), code="unavailable")
                else:
                    heard(name, data)
            raise CountersignError("the gateway ended the connection", code="unavailable")
        except CountersignError as error:
            if error.status < 500 and error.status != 429:
                raise
            pause = max(float(error.extra.get("retry_after_s", 0)), _PAUSES_S[min(tried, len(_PAUSES_S) - 1)])
            linked(False, f"{error.detail}; trying again")
            tried += 1
        ended.wait(pause)


def pending(client: Client, filters: dict[str, Any], mine: bool) -> tuple[list[dict[str, Any]], bool]:
    """What waits for people, and whether there is more. A page with large arguments has few; so several are read."""
    wanted = {**filters, "state": "pending", "mine": mine or None}
    items: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        page = client.get(PATH, {**wanted, "limit": MOST - len(items), "after": after}, timeout_s=10)
        items += page["items"]
        after = page.get("next")
        if after is None or len(items) >= MOST:
            return items, after is not None


def whole(client: Client, ids: tuple[str, ...]) -> list[dict[str, Any]]:
    """These approvals."""
    return [client.get(f"{PATH}/{segment(name)}", timeout_s=10) for name in ids]


def cast(client: Client, order: Cast) -> tuple[list[str], bool]:
    """Send a vote; what became of each in words, and whether any failed. Raises the refusal of a single one."""
    if len(order.ids) == 1:
        answer = client.post(f"{PATH}/{segment(order.ids[0])}/votes", order.body | {"digest": order.digests[0]})
        return [f"{order.ids[0]} is {sheet.outcome(answer)}"], False
    items = [{"approval_id": name, "digest": d} for name, d in zip(order.ids, order.digests, strict=True)]
    tally = client.post(f"{PATH}/votes", order.body | {"items": items})["items"]
    lines = [
        f"{each['approval_id']}: {CountersignError.from_problem(each['problem']).detail}"
        if each.get("problem")
        else f"{each['approval_id']} is {sheet.outcome(each)}"
        for each in tally
    ]
    return lines, any(each.get("problem") for each in tally)
