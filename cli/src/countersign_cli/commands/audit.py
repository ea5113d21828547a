"""`countersign audit`: the trail, its export, and the verification that needs nothing but the export."""

from __future__ import annotations

import json as json_
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from countersign_contracts.errors import CountersignError
from countersign_contracts.plain_text import printable
from countersign_contracts.sealed import shown

from ..client import Client
from ..output import REFUSED, command, console, errors, print_json, table

if TYPE_CHECKING:
    from countersign_ledger import Checkpoint, Report

app = typer.Typer(no_args_is_help=True, help="The trail, its export and its verification.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
@command
def timeline(
    agent: Annotated[str | None, typer.Option(help="Only this agent's.")] = None,
    session: Annotated[str | None, typer.Option(help="Only this session's.")] = None,
    request: Annotated[str | None, typer.Option(help="Only this action's.")] = None,
    kind: Annotated[str | None, typer.Option(help="e.g. actions.granted, or a prefix: approvals.")] = None,
    since: Annotated[str | None, typer.Option(help="RFC 3339, e.g. 2026-01-31T12:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option(help="RFC 3339.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    json: Json = False,
) -> None:
    """Who, what, why, when, who approved, what ran."""
    query: dict[str, Any] = {
        "agent_id": agent,
        "session_id": session,
        "request_id": request,
        "kind": kind,
        "since": since,
    }
    # without a question about one action people want the latest
    query |= {"until": until, "limit": limit, "newest_first": request is None}
    found = Client.find().get("/api/v1/audit/timeline", query)
    if json:
        return print_json(found)
    items = found["items"] if request else list(reversed(found["items"]))
    rows = [(i["seq"], i["at"][:23] + "Z", i["kind"], i.get("agent_id"), describe(i)) for i in items]
    table(("SEQ", "AT", "EVENT", "AGENT", "WHAT"), rows, "no entries")


def describe(item: dict[str, Any]) -> str:
    """One line on what an entry says."""
    body, kind = item["body"], item["kind"]
    action = body.get("action", {})
    what = f"{action.get('tool')} in {action.get('env')}" if action.get("tool") else ""
    decision = body.get("decision")
    if kind == "actions.requested":
        args = ", ".join(f"{k}={v!r}" for k, v in shown(action.get("args", {})).items())
        changed = f", in place of {action['amends']}" if "amends" in action else ""
        return printable(f"{what} ({args})"[:160] + changed)
    if decision:
        return printable(
            f"{decision['outcome']}, risk {decision.get('risk')}: "
            + "; ".join(r["message"] for r in decision["reasons"])
        )
    if kind == "actions.executed":
        run = body["execution"]
        return printable(f"{run['outcome']}, HTTP {run.get('status_code')}, {run['attempts']} call(s)")
    if kind == "actions.refused":
        return printable("; ".join(r["message"] for r in body["reasons"]))
    if kind.startswith("approvals."):
        return printable(_of_approval(kind.partition(".")[2], body))
    if kind.startswith("control.stop"):
        return printable(f"{body['stop']['scope']} by {body['stop']['set_by']}: {body['stop']['reason']}")
    if kind == "fleet.status_changed":
        return printable(f"{body['before']} → {body['status']} by {body['by']}: {body['reason']}")
    if "changes" in body:
        return printable(", ".join(f"{c['action']} {c['kind']} {c['name']}" for c in body["changes"])[:160])
    return ""


def _of_approval(said: str, body: dict[str, Any]) -> str:
    match said:
        case "requested":
            asked_by = body.get("asked_by", {})
            return f"rule {asked_by.get('rule', 'default')}, until {body['deadline'][:19]}Z"
        case "voted":
            vote = body["vote"]
            own = f" (their own: {vote['own']})" if vote.get("own") else ""
            return f"{vote['voter']}: {vote['vote']} by {vote['channel']}{own} {vote.get('comment') or ''}".strip()
        case "vote_refused":
            return f"{body.get('voter') or body.get('identity') or 'somebody'}: refused: {body['reason']}"
        case "vote_voided":
            return f"{body['voter']}: counts no more: {body['reason']}"
        case "advanced":
            return f"stage {body['stage']} is done"
        case "reminded" | "escalated":
            return f"to {', '.join(body['to'])}"
        case "resolved":
            amendment = body.get("amendment")
            return f"{body['state']} by {amendment['by']} as {amendment['request_id']}" if amendment else body["state"]
        case "standing_granted" | "standing_revoked":
            standing = body["standing"]
            named = f"{standing['standing_id']}: {standing['tool']} on {standing['resource']}"
            return f"{named}, {standing['max_uses']} times until {standing['until'][:19]}Z"
    return ""


@app.command()
@command
def export(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; default: stdout.")] = None,
    first: Annotated[int, typer.Option(min=1, help="First sequence.")] = 1,
) -> None:
    """Export the ledger with a fresh signed checkpoint over its head."""
    client = Client.find()
    if output is None:
        for line in export_lines(client, first):
            sys.stdout.write(line + "\n")
        return
    count = 0
    with output.open("w") as file:
        for line in export_lines(client, first):
            file.write(line + "\n")
            count += 1
            if count % 5000 == 0:
                errors.print(f"[dim]{count} lines …[/]")
    console.print(f"wrote {output} ({count} lines); check it: countersign audit verify {output}")


def export_lines(client: Client, first: int = 1) -> Iterator[str]:
    """The lines of an export, page by page."""
    page = client.get("/api/v1/audit/export", {"first_seq": first})
    last = page["last_seq"]
    yield from page["lines"]
    while page.get("next") is not None:
        page = client.get("/api/v1/audit/export", {"first_seq": first, "next": page["next"], "last_seq": last})
        yield from page["lines"]


@app.command()
@command
def trust(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; default: stdout.")] = None,
) -> None:
    """Print the trust bundle: the public keys a verifier needs."""

    text = json_.dumps(Client.find().get("/api/v1/trust"), indent=2) + "\n"
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text)
        console.print(f"wrote {output}")


@app.command()
@command
def verify(
    file: Annotated[Path, typer.Argument(help="An export.")],
    trust: Annotated[
        Path | None, typer.Option(help="The trust bundle; default: trust.json of the local data folder.")
    ] = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoints kept outside the database, to compare; default, with the data folder's trust.json: those"
            " of its checkpoints.jsonl that are of the export's time."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Verify an export offline: no system needs to run. Exit code 1 if anything was changed."""
    from ..settings import ClientSettings

    folder = ClientSettings().data_dir
    found = folder / "checkpoints.jsonl"
    if trust is None and checkpoints is None and found.is_file():
        report = verify_file(file, folder / "trust.json", found, later=False)
    else:
        report = verify_file(file, trust or folder / "trust.json", checkpoints)
    if json:
        print_json(
            {
                "ok": report.ok,
                "entries": report.entries,
                "first_seq": report.first_seq,
                "last_seq": report.last_seq,
                "checkpoints": report.checkpoints,
                "findings": [{"seq": f.seq, "kind": f.kind, "message": f.message} for f in report.findings],
                "notes": list(report.notes),
            }
        )
    else:
        for finding in report.findings:
            where = f"entry {finding.seq}: " if finding.seq is not None else ""
            console.print(f"[red]{where}[/]{escape(printable(finding.message))}")
        for note in report.notes:
            console.print(f"[dim]{escape(printable(str(note)))}[/]")
        if report.ok:
            console.print(f"ledger verified: {report.entries} entries")
        else:
            console.print(f"[bold red]NOT verified[/]: {len(report.findings)} finding(s) in {report.entries} entries")
    if not report.ok:
        raise typer.Exit(REFUSED)


def verify_file(file: Path, trust: Path, checkpoints: Path | None = None, *, later: bool = True) -> Report:
    """Verify an export file; raises :class:`CountersignError` where a file cannot be read at all.

    Without ``later``, checkpoints that were made after the export and are of entries after it are left out.
    """
    from countersign_ledger import LedgerError, TrustBundle, verify_export
    from countersign_ledger.export import MAX_LINE_BYTES

    try:
        bundle = TrustBundle.from_json(trust.read_text())
    except OSError as error:
        raise CountersignError(f"cannot read the trust bundle {trust}: {error.strerror}; name one: --trust") from None
    except LedgerError as error:
        raise CountersignError(f"{trust} is not a trust bundle: {error}") from None
    try:
        known = _checkpoints(checkpoints) if checkpoints else []
        with file.open("rb") as lines:
            if not later:
                known = _of_its_time(known, lines.readline(MAX_LINE_BYTES))
                lines.seek(0)
            return verify_export(lines, bundle, known)
    except OSError as error:
        raise CountersignError(f"cannot read {error.filename}: {error.strerror}") from None
    except LedgerError as error:
        raise CountersignError(f"{file}: {error}") from None


def _checkpoints(path: Path) -> list[Checkpoint]:
    from countersign_ledger import Checkpoint

    found = []
    with path.open() as lines:
        for number, line in enumerate(lines, 1):
            try:
                found += [Checkpoint.from_dict(json_.loads(line))] if line.strip() else []
            except ValueError:
                raise CountersignError(f"{path}:{number} is not a checkpoint") from None
    return found


def _of_its_time(known: list[Checkpoint], header_line: bytes) -> list[Checkpoint]:
    """Without those that the export could not have: the ledger has gone on since."""
    from countersign_ledger import InvalidExport
    from countersign_ledger.export import decode_header

    try:
        header = decode_header(header_line)
        exported_at = datetime.fromisoformat(header.exported_at)
        return [c for c in known if c.seq <= header.last_seq or datetime.fromisoformat(c.time) <= exported_at]
    except (InvalidExport, ValueError, TypeError):
        return known  # the verification says what is wrong with it
