"""The condition of a system, as `countersign status` shows it: read here, judged by :mod:`.figures`.

What cannot be read is said, and hides nothing of the rest: who looks when something is down needs the rest most.
"""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from countersign_contracts.errors import CountersignError

from .client import Client
from .figures import MOST_COUNTED, figures, troubles
from .output import Misused

#: Of each question to the gateway, which asks a service in turn; and to a service's own port, which answers by itself.
_ASKED_S, _OWN_S = 15.0, 2.0


def condition(client: Client, addresses: Mapping[str, str]) -> dict[str, Any]:
    """What the services' own ports tell (``addresses``: host and port by name), and what the gateway answers.

    Without addresses the gateway alone is looked at, and what it tells everybody: metrics are not for callers.
    """
    questions = {**_QUESTIONS, **({} if addresses else {"dead_letters": _dead_letters})}
    with ThreadPoolExecutor(16) as together:
        own = {name: together.submit(_measured, f"http://{address}") for name, address in addresses.items()}
        if not addresses:
            own = {"gateway": together.submit(_health, client.url)}
        services = {name: each.result() for name, each in own.items()}
        found: dict[str, Any] = {"url": client.url, "ready": True, "services": services, "unread": {}}
        # a gateway that cannot work says why, once; what it would answer to anything else is the same
        asked = {name: together.submit(ask, client) for name, ask in questions.items() if _answers(services)}
        for name, each in asked.items():
            try:
                found[name] = each.result()
            except CountersignError as error:
                found["unread"][name] = {"code": error.code, "detail": error.detail}
    if (dead := found.pop("dead_letters", None)) is not None:
        services["gateway"]["dead_letters"] = dead
    missing = any(each["code"] == "unavailable" for each in found["unread"].values())
    found["ready"] = all(service["ready"] for service in services.values()) and not missing
    found["wrong"] = troubles(found)
    return found


def addresses_of(text: str, resolve: Callable[[str], list[str]] | None = None) -> dict[str, str]:
    """`policy:8010,audit:8010` as an address for each replica, by name; raises :class:`Misused`.

    A name that stands for several addresses is a replica at each of them; one that nobody knows is kept as it is, so
    that asking it says so.
    """
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        host, _, port = part.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise Misused(f"COUNTERSIGN_HEALTH_ADDRESSES takes host:port, as in policy:8010,audit:8010, not {part!r}")
        at = (resolve or _resolved)(host)
        if len(at) < 2:
            found[host] = part
        else:
            found |= {f"{host}@{each}": f"{each}:{port}" for each in at}
    return found


def _resolved(host: str) -> list[str]:
    """The IPv4 addresses of a name; none where nobody knows it."""
    try:
        known = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(each[4][0]) for each in known})


def _answers(services: Mapping[str, Mapping[str, Any]]) -> bool:
    return any(each["ready"] for name, each in services.items() if name.startswith("gateway"))


def _measured(url: str) -> dict[str, Any]:
    """Of a service whose own port is reached: its health, and what its metrics tell."""
    found = _health(url)
    if found["ready"]:
        try:
            found |= figures(_read(f"{url}/metrics").decode())
        except OSError as error:
            return {"ready": False, "reasons": [f"does not tell its metrics: {getattr(error, 'reason', error)}"]}
    return found


def _health(url: str) -> dict[str, Any]:
    try:
        return {"ready": True, **json.loads(_read(f"{url}/health/ready"))}
    except urllib.error.HTTPError as error:
        try:
            return {"ready": False, **json.loads(error.read())}
        except ValueError:
            return {"ready": False, "reasons": [f"HTTP status {error.code}"]}
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        if isinstance(why, socket.gaierror):
            why = "nobody has its name, so none of it runs"
        return {"ready": False, "reasons": [f"does not answer: {why}"]}


def _read(url: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=_OWN_S) as response:
        found: bytes = response.read()
    return found


def _counted(path: str, state: str) -> Callable[[Client], int]:
    query = {"state": state, "limit": MOST_COUNTED}
    return lambda client: len(client.get(path, query, timeout_s=_ASKED_S)["items"])


def _dead_letters(client: Client) -> int | None:
    """How many are open, a hundred at most, to whoever may see them."""
    try:
        return len(client.get("/api/v1/deadletters", {"limit": 100}, timeout_s=_ASKED_S)["items"])
    except CountersignError as error:
        if error.code != "forbidden":
            raise
        return None


_QUESTIONS: Mapping[str, Callable[[Client], Any]] = {
    "stops": lambda client: client.get("/api/v1/stops", timeout_s=_ASKED_S)["items"],
    "approvals_pending": _counted("/api/v1/approvals", "pending"),
    "unknown_outcomes": _counted("/api/v1/actions", "unknown"),
    "ledger": lambda client: client.get("/api/v1/audit/head", timeout_s=_ASKED_S),
}
