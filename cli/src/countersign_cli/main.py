"""The `countersign` command: run, operate and verify."""

from __future__ import annotations

import typer

from .commands import (
    actions,
    agents,
    alerts,
    approvals,
    audit,
    deadletter,
    deploy,
    keys,
    people,
    stops,
    system,
    webhooks,
)
from .commands.apply import apply
from .commands.backup import backup, restore
from .commands.demo import demo
from .commands.login import login, logout

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "The execution control plane for AI agents. Finds the local system of this folder by itself, or another by"
        " COUNTERSIGN_URL and `countersign login` or COUNTERSIGN_TOKEN. Exit codes: 0 done, 1 refused or not as it"
        " should be, 2 usage, 3 not reachable."
    ),
)
app.command()(system.up)
app.command()(system.status)
app.command()(apply)
app.add_typer(actions.app, name="actions")
app.add_typer(approvals.app, name="approvals")
app.add_typer(agents.app, name="agents")
app.add_typer(alerts.app, name="alerts")
app.add_typer(people.app, name="people")
app.command()(login)
app.command()(logout)
app.command()(people.whoami)
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(stops.app, name="stops")
app.add_typer(audit.app, name="audit")
app.add_typer(deadletter.app, name="deadletter")
app.command()(demo)
app.command()(backup)
app.command()(restore)
app.add_typer(deploy.app, name="bootstrap")
app.command("serve")(deploy.serve_)
app.add_typer(keys.app, name="keys")
app.command()(system.version)
