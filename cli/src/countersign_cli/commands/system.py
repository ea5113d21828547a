"""`countersign up`, `status`, `version`: the system as a whole."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from countersign_contracts.errors import CountersignError

from ..client import Client
from ..condition import addresses_of, condition
from ..embedded.datadir import DataDir
from ..embedded.specs import Event, EventKind
from ..figures import MOST_COUNTED, at_most
from ..output import UNREACHABLE, Misused, ago, command, console, errors, print_json, table

if TYPE_CHECKING:
    from ..local import LocalSystem

DataDirOption = Annotated[Path | None, typer.Option(help="Data folder; survives restarts. Default: ./.countersign")]

#: Where packages of agents are looked for, where nothing else is said.
_AGENTS_DIR = (Path("agents"),)


@command
def up(
    data_dir: DataDirOption = None,
    host: Annotated[str, typer.Option(help="Where the gateway listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The gateway's port.")] = 8001,
    nats_port: Annotated[int, typer.Option(help="The NATS server's port.")] = 4222,
    postgres_port: Annotated[
        int | None, typer.Option(help="Also let PostgreSQL listen on this TCP port (default: socket only).")
    ] = None,
    health_port: Annotated[
        int, typer.Option(help="First of six ports for /health and /metrics; a further one for each replica.")
    ] = 8011,
    replicas: Annotated[
        str | None,
        typer.Option(
            help="Processes of each service, e.g. policy=2,executor=2; at most 4. A second gateway listens on the next"
            " port. Default: COUNTERSIGN_REPLICAS, else one of each."
        ),
    ] = None,
    agents_dir: Annotated[
        list[Path] | None,
        typer.Option(help="Folder with packages of agents; repeat for several. Default: ./agents"),
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run the whole system on this machine, until Ctrl-C."""
    from ..local import LocalOptions, LocalSystem
    from ..replicas import read_replicas
    from ..settings import ClientSettings

    settings = ClientSettings()
    folder = data_dir or settings.data_dir
    options = LocalOptions(
        data_dir=folder,
        host=host,
        port=port,
        nats_port=nats_port,
        postgres_port=postgres_port,
        health_port=health_port,
        agents_dirs=tuple(agents_dir if agents_dir is not None else _AGENTS_DIR),
        log_level=log_level,
        http_cert_file=settings.http_cert_file,
        http_key_file=settings.http_key_file,
        replicas=read_replicas(replicas if replicas is not None else settings.replicas or ""),
        slack=has_slack(folder),
    )
    if "slack" in options.replicas and not options.slack:
        raise Misused("--replicas names slack, which is not configured here; docs/how-to/slack.md says how")
    system = LocalSystem(options)
    code = system.run(narrate, on_ready=lambda: say_ready(system))
    console.print("stopped")
    raise typer.Exit(code)


def has_slack(data_dir: Path) -> bool:
    """Whether Slack is configured; half of it is said, and left out: the rest works without."""
    from countersign_slack.secrets_folder import is_configured, read_workspace

    from ..bootstrap import Layout

    folder = Layout(data_dir).slack
    if not is_configured(folder):
        return False
    try:
        read_workspace(folder)
    except CountersignError as error:
        errors.print(f"[yellow]without Slack[/]: {escape(error.detail)}")
        return False
    return True


def say_ready(system: LocalSystem) -> None:
    """Where things are."""
    options = system.options
    further = {name: port for name, port in options.gateway_ports().items() if name != "gateway"}
    table(
        ("", ""),
        [
            ("gateway", f"{options.url}  (API: {options.url}/openapi.json)"),
            *((name, f"{options.scheme}://{options.host}:{port}") for name, port in further.items()),
            ("NATS", options.nats_url),
            ("admin token", system.layout.admin_token),
            ("trust bundle", system.layout.trust),
            ("data, logs", f"{options.data_dir}  {system.folder.logs}"),
        ],
        "",
    )
    console.print("[green]ready[/]; Ctrl-C stops everything")


def narrate(event: Event) -> None:
    """Tell people what starts, dies and comes back."""
    match event.kind:
        case EventKind.DIED:
            errors.print(f"[red]{event.name} died[/]: {escape(event.detail)}")
        case EventKind.RESTARTING:
            errors.print(f"[yellow]{event.name}[/] starts again {escape(event.detail)}")
        case EventKind.READY | EventKind.FINISHED if event.name != "demo":
            console.print(f"[dim]  {event.name} is {'done' if event.kind is EventKind.FINISHED else 'ready'}[/]")
        case _:
            pass


@command
def status(
    data_dir: DataDirOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the services, what waits, stops in force; exit code 3 if a service cannot work, 1 if something is wrong."""
    from ..settings import ClientSettings

    settings = ClientSettings()
    if data_dir is not None:
        settings = settings.model_copy(update={"data_dir": data_dir})
    client = Client.find(settings)
    run = DataDir(settings.data_dir).read_run() if settings.url is None else None
    addresses = {name: f"127.0.0.1:{port}" for name, port in (run.ports if run else {}).items() if name != "nats"}
    found = condition(client, addresses or addresses_of(settings.health_addresses or ""))
    if json:
        print_json(found)
    else:
        _show_status(found)
    if found["wrong"]:
        raise typer.Exit(1 if found["ready"] else UNREACHABLE)


def _show_status(found: dict[str, Any]) -> None:
    rows = [
        (name, _readiness(s), s.get("version"), s.get("waiting"), s.get("oldest_s"))
        for name, s in found["services"].items()
    ]
    table(("SERVICE", "", "VERSION", "MESSAGES WAITING", "OLDEST, S"), rows, "no service")
    for trouble in found["wrong"]:
        console.print(f"[red]wrong[/]: {escape(trouble)}")
    if not (shown := _answered(found)):
        return
    console.print()
    table(("", ""), [("gateway", found["url"]), *shown], "")
    for stop in found.get("stops", ()):
        console.print(
            f"  [red]{escape(stop['scope'])}[/] {escape(stop['reason'])} ({stop['set_by']}, {ago(stop['set_at'])})"
        )


def _answered(found: dict[str, Any]) -> list[tuple[str, Any]]:
    """What the gateway answered; what it could not is among what is wrong."""
    rows: list[tuple[str, Any]] = []
    if "approvals_pending" in found:
        rows.append(("approvals pending", at_most(found["approvals_pending"], MOST_COUNTED)))
    if "unknown_outcomes" in found:
        rows.append(("unknown outcomes open", at_most(found["unknown_outcomes"], MOST_COUNTED)))
    if "ledger" in found:
        head = found["ledger"]
        rows.append(("ledger", f"{head['seq']} entries, signed up to {head['checkpoint_seq']}{_lag(found)}"))
    if "stops" in found:
        rows.append(("stops in force", len(found["stops"])))
    return rows


def _lag(found: dict[str, Any]) -> str:
    lags = [s["ledger_lag_s"] for s in found["services"].values() if s.get("writes_ledger")]
    return f", {max(lags):.3f} s behind" if lags else ""


def _readiness(service: dict[str, Any]) -> str:
    if not service["ready"]:
        return "NOT READY"
    # of several audits one writes the ledger
    return "ready, stands by" if str(service.get("ledger", "")).startswith("standby") else "ready"


@command
def version(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the versions."""
    from importlib.metadata import version as package_version

    found = {"countersign": package_version("countersign-cli"), "python": platform.python_version()}
    if json:
        print_json(found)
    else:
        console.print(f"countersign {found['countersign']} (Python {found['python']})")
