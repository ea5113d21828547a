"""What `countersign status` reads off the services' metrics, and what in it is not as it should be: purely.

The same thresholds as the alerts' (deploy/prometheus/rules), so that both say the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SAMPLE = re.compile(r"^(?P<name>countersign_\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')

#: Seconds that a message may wait, and an event until it is on record.
OLDEST_S = 60.0
LAG_S = 30.0
#: What an agent queued beyond its bound waits on purpose.
QUEUED = "gateway-ingress"
#: More are not counted: a page of the API's.
MOST_COUNTED = 200


def at_most(number: int, most: int) -> str:
    """A number that was counted no further than ``most``."""
    return str(number) if number < most else f"{most} or more"


def figures(page: str) -> dict[str, Any]:
    """What waits for a service's consumers and, where the service has them, dead letters and the ledger's lag."""
    found: dict[str, Any] = {"waiting": 0, "oldest_s": 0.0, "queued_oldest_s": 0.0}
    for match in _SAMPLE.finditer(page):
        value, labels = float(match["value"]), dict(_LABEL.findall(match["labels"] or ""))
        match match["name"]:
            case "countersign_messages_pending" | "countersign_messages_unacknowledged":
                found["waiting"] += int(value)
            case "countersign_messages_oldest_seconds":
                which = "queued_oldest_s" if labels.get("consumer") == QUEUED else "oldest_s"
                found[which] = max(found[which], round(value, 1))
            case "countersign_dead_letters_open":
                found["dead_letters"] = found.get("dead_letters", 0) + int(value)
            case "countersign_ends_not_on_record":
                found["ends_not_on_record"] = int(value)
            case "countersign_audit_lag_seconds":
                found["ledger_lag_s"] = round(value, 3)
            case "countersign_audit_leading":
                found["writes_ledger"] = bool(value)
    return found


def troubles(found: Mapping[str, Any]) -> list[str]:
    """What is not right, a line each, with the command or page that helps."""
    said = []
    services: Mapping[str, Mapping[str, Any]] = found["services"]
    for name, service in services.items():
        if not service["ready"]:
            said.append(f"{name} is not ready: {'; '.join(service.get('reasons', [])) or 'no reason given'}")
        if service.get("oldest_s", 0) > OLDEST_S:
            said.append(f"the oldest message for {name} has waited {service['oldest_s']:.0f} s; its log says why")
        if service.get("ledger_lag_s", 0) > LAG_S:
            said.append(f"the ledger lags {service['ledger_lag_s']:.0f} s behind; nothing executes meanwhile")
    writers = [service["writes_ledger"] for service in services.values() if "writes_ledger" in service]
    if writers and not any(writers):
        said.append("no audit service writes the ledger; nothing executes meanwhile")
    # every gateway tells the same
    if dead := max((service.get("dead_letters", 0) for service in services.values()), default=0):
        said.append(f"{dead} dead letters are open: countersign deadletter list")
    if ends := max((service.get("ends_not_on_record", 0) for service in services.values()), default=0):
        said.append(f"the ends of {ends} actions are not on record yet")
    if unknown := found.get("unknown_outcomes", 0):
        said.append(f"{at_most(unknown, MOST_COUNTED)} outcomes are unknown: countersign actions list --state unknown")
    unread: dict[str, list[str]] = {}
    for what, why in found.get("unread", {}).items():
        unread.setdefault(why["detail"], []).append(what.replace("_", " "))
    said += [f"cannot be told ({', '.join(what)}): {why}" for why, what in unread.items()]
    return said
