"""`countersign agents logs`, `metrics` and `health`: what agents tell of their work."""

from __future__ import annotations

import json as jsonlib
import re
import sys
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.markup import escape

from countersign_contracts.errors import CountersignError
from countersign_contracts.plain_text import one_line, printable

from ..client import Client, query_of, segment
from ..output import REFUSED, Misused, ago, command, console, errors, print_json, table

Json = Annotated[bool, typer.Option("--json", help="Print JSON; with --follow one object a line.")]
Since = Annotated[str | None, typer.Option(help="10m, 2h, 3d, or RFC 3339, e.g. 2026-01-31T12:00:00Z.")]
Until = Annotated[str | None, typer.Option(help="As --since.")]

_AGO = re.compile(r"^(\d{1,6})(s|m|h|d)$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LEVELS = {"debug": "dim", "info": "", "warning": "yellow", "error": "red", "critical": "bold red"}
_LONGEST = 2000
#: What was said just before following began may be kept a moment later: then the page is read once more.
_SETTLED_S = 3.0
#: Pauses between two tries to connect, in seconds, the last for all further ones.
_PAUSES_S = (0.5, 1.0, 2.0, 5.0)
#: Ids remembered, to show each record once.
_REMEMBERED = 10_000


@command
def logs(
    agent_id: str,
    level: Annotated[str | None, typer.Option(help="debug, info, warning, error or critical: it and above.")] = None,
    text: Annotated[str | None, typer.Option(help="With this in it, in any letter case.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="The newest so many.")] = 100,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what the agent says, until Ctrl-C.")
    ] = False,
    json: Json = False,
) -> None:
    """An agent's log, the newest last."""
    if follow and until is not None:
        raise Misused("--follow goes on from now: leave --until out")
    client, path = Client.find(), f"/api/v1/agents/{segment(agent_id)}/logs"
    chosen = {"level": level, "text": text}
    query = chosen | {"since": moment(since), "until": moment(until), "limit": limit}
    if follow:
        with suppress(KeyboardInterrupt, BrokenPipeError):
            Follow(client, path, query, chosen, json).run()
        return
    page = client.get(path, query)
    if json:
        return print_json(page)
    for item in reversed(page["items"]):
        show(item)
    if not page["items"]:
        console.print("[dim]nothing in the log[/]")


class Follow:
    """Shows the page, and then what is said, each record once. ``json``: one object a line."""

    def __init__(self, client: Client, path: str, query: dict[str, Any], chosen: dict[str, Any], json: bool) -> None:
        self._client = client
        self._path = path
        self._query = query
        self._live = f"{path}/live{query_of(chosen)}"
        self._json = json
        self._shown: OrderedDict[str, None] = OrderedDict()
        self._showing = threading.Lock()

    def run(self) -> None:
        """Until the caller is interrupted; raises only what waiting will not mend, such as a void token."""
        tried = 0
        while True:
            try:
                for kind, said in self._client.events(self._live):
                    tried = 0
                    self._heard(kind, said)
                raise CountersignError("the gateway ended the connection", code="unavailable")
            except CountersignError as error:
                if error.status < 500 and error.status != 429:
                    raise
                if not tried:
                    errors.print(f"[dim]{escape(error.detail)}; trying again[/]")
                time.sleep(max(float(error.extra.get("retry_after_s", 0)), _PAUSES_S[min(tried, len(_PAUSES_S) - 1)]))
                tried += 1

    def _heard(self, kind: str, said: dict[str, Any]) -> None:
        match kind:
            case "open":
                self._page()
                again = threading.Timer(_SETTLED_S, self._page_again)
                again.daemon = True
                again.start()
            case "lost":
                self._page()
            case "log":
                self._show([said["log"]])
            case "end":
                raise CountersignError(str(said["reason"]), code="unavailable")

    def _page(self) -> None:
        self._show(reversed(self._client.get(self._path, self._query)["items"]))

    def _page_again(self) -> None:
        with suppress(CountersignError):
            self._page()

    def _show(self, items: Any) -> None:
        with self._showing:
            for item in items:
                if item["id"] in self._shown:
                    continue
                self._shown[item["id"]] = None
                if len(self._shown) > _REMEMBERED:
                    self._shown.popitem(last=False)
                if self._json:
                    sys.stdout.write(jsonlib.dumps(item, ensure_ascii=False) + "\n")
                    sys.stdout.flush()
                else:
                    show(item)


def show(item: dict[str, Any]) -> None:
    """One record on a line; a text of several lines has the others below it."""
    at = f"{datetime.fromisoformat(item['at']):%Y-%m-%d %H:%M:%S}Z"
    style = _LEVELS.get(item["level"], "")
    level = f"[{style}]{item['level']:<8}[/]" if style else f"{item['level']:<8}"
    logger = f"{escape(one_line(item['logger'], 128))}: " if item.get("logger") else ""
    first, *more = printable(item["text"]).split("\n")
    context = {**({"request_id": item["request_id"]} if item.get("request_id") else {}), **item.get("fields", {})}
    said = " ".join(f"{name}={one_line(_plain(value), 200)}" for name, value in context.items())
    console.print(f"{at}  {level}  {logger}{escape(first[:_LONGEST])}{f'  [dim]{escape(said)}[/]' if said else ''}")
    for line in more:
        console.print(f"    {escape(line[:_LONGEST])}")


@command
def metrics(
    agent_id: str,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="The newest so many reports.")] = 10,
    json: Json = False,
) -> None:
    """What an agent did and used: its reports, and all of that time together; the last hour, if nothing is said."""
    query = {"since": moment(since), "until": moment(until), "limit": limit}
    page = Client.find().get(f"/api/v1/agents/{segment(agent_id)}/metrics", query)
    if json:
        return print_json(page)
    table(("", ""), summary(page["summary"]), "")
    console.print()
    rows = [
        (
            ago(item["at"]),
            f"{item['interval_s']:.0f} s",
            item["events_succeeded"] + item["events_failed"],
            item["events_failed"] or "",
            amount(item.get("memory_bytes")),
            " ".join(f"{name}={value:g}" for name, value in item["values"].items()),
        )
        for item in page["items"]
    ]
    table(("REPORTED", "OF THE LAST", "EVENTS", "FAILED", "MEMORY", "ITS OWN"), rows, "no reports")


@command
def health(agent_id: str, json: Json = False) -> None:
    """Whether an agent does well. Exit code 1: it does not."""
    found = Client.find().get(f"/api/v1/agents/{segment(agent_id)}/health")
    if json:
        print_json(found)
    else:
        console.print(f"{agent_id} {'[green]does well[/]' if found['healthy'] else '[red]does not do well[/]'}")
        for reason in found["reasons"]:
            console.print(f"  {escape(printable(reason))}")
        console.print()
        said = " ".join(f"{name}={one_line(_plain(value), 100)}" for name, value in found["said"].items())
        rows: list[tuple[str, Any]] = [
            ("ordered", found["status"]),
            ("seen to be", f"{found['phase']} since {ago(found['phase_since'])}"),
            ("last seen", ago(found.get("last_seen_at"))),
            ("its heartbeat says", said),
            ("errors in its log", f"{found['errors_last_hour']} in the last hour"),
        ]
        table(("", ""), rows + summary(found["last_hour"]), "")
    if not found["healthy"]:
        raise typer.Exit(REFUSED)


def summary(said: dict[str, Any]) -> list[tuple[str, Any]]:
    """What reports say together, in words; what none of them says is left out."""
    events = said["events_succeeded"] + said["events_failed"]
    rows: list[tuple[str, Any]] = [("reports", f"{said['reports']}, of {said['covered_s']:.0f} s")]
    if events:
        rows += [
            ("events", f"{events}, {said['events_failed']} of them failed ({said['error_share']:.1%})"),
            ("time for each", f"{said['processing_mean_s'] * 1000:.1f} ms"),
        ]
    if said.get("cpu_share") is not None:
        rows.append(("CPU", f"{said['cpu_share']:.1%} of a core"))
    for name, words in (
        ("memory_bytes", "memory"),
        ("disk_read_bytes", "read from disk"),
        ("disk_written_bytes", "written to disk"),
        ("network_received_bytes", "received"),
        ("network_sent_bytes", "sent"),
    ):
        if said.get(name) is not None:
            rows.append((words, amount(said[name])))
    return rows


def amount(size: float | None) -> str:
    """Bytes in the largest unit that has a whole one."""
    if size is None:
        return ""
    for unit, bytes_ in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size:.0f} B"


def moment(text: str | None, at: datetime | None = None) -> str | None:
    """The time that is meant, as RFC 3339: so long before ``at`` (now), or as it was given; the gateway checks that."""
    found = _AGO.match(text or "")
    if found is None:
        return text
    span = timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
    try:
        return ((at or datetime.now(UTC)) - span).isoformat().replace("+00:00", "Z")
    except OverflowError:
        raise Misused(f"{text} ago is before there were years") from None


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else jsonlib.dumps(value)
