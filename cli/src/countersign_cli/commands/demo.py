"""`countersign demo`: the whole product at work in five acts, on a system of its own that is gone afterwards."""

from __future__ import annotations

import random
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ..embedded.specs import Service, Spec, Step
from ..output import command, console, one_line_errors
from .system import narrate


@command
def demo(
    keep: Annotated[Path | None, typer.Option(help="Keep the data in this folder afterwards.")] = None,
) -> None:
    """Watch an agent's actions requested, decided, approved, executed and proven, in five acts."""
    from ..local import LocalOptions, LocalSystem

    files = example_files()
    folder = keep or Path(tempfile.mkdtemp(prefix="countersign-demo-"))
    ports = free_ports(10)
    options = LocalOptions(
        data_dir=folder / "system", port=ports[0], nats_port=ports[1], health_port=0, log_level="warning"
    )
    options = options.with_health_ports(ports[2:8])
    ticketing, ungoverned = ports[8], ports[9]
    system = LocalSystem(options)
    console.print("[bold]Countersign[/]: starting NATS, PostgreSQL, six services and the ticketing example …")

    def play() -> int:
        import asyncio

        from ..demo.run import play as run_play

        with one_line_errors():
            asyncio.run(
                run_play(
                    url=options.url,
                    nats_url=options.nats_url,
                    layout=system.layout,
                    files=files,
                    ticketing_url=f"http://127.0.0.1:{ticketing}",
                    ungoverned_url=f"http://127.0.0.1:{ungoverned}",
                    checkpoints=system.layout.checkpoints,
                )
            )
        return 0

    extra: list[Spec] = [
        _ticketing("ticketing", ticketing, folder / "ticketing.db"),
        _ticketing("ticketing-ungoverned", ungoverned, folder / "ticketing-ungoverned.db"),
        Step("demo", play, after=("gateway", "ticketing", "ticketing-ungoverned"), terminal=True),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        code = system.run(narrate, extra=extra, until="demo")
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    raise typer.Exit(code)


def example_files() -> Path:
    """The ticketing example's folder, in the checkout that this command was installed from."""
    import ticketing

    return Path(ticketing.__file__).parents[2]


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now, from below those that systems give to outgoing connections."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 32_000)  # noqa: S311  (no secret)
        with socket.socket() as each:
            try:
                each.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def _ticketing(name: str, port: int, database: Path) -> Service:
    from ..embedded.probes import http_ready

    def serve() -> int:
        import uvicorn

        from ticketing.app import build

        uvicorn.run(build(database), host="127.0.0.1", port=port, log_level="warning")
        return 0

    target: Callable[[], int] = serve
    return Service(name, target, ready=http_ready("127.0.0.1", port, "/health"))
