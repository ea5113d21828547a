"""A whole system in small: PostgreSQL, nats-server, a step and toy services under the real supervisor.

The tests run it as a process of its own: `toy_system.py FOLDER [VARIANT]`. It prints one JSON object a line.
"""

from __future__ import annotations

import asyncio
import errno
import http.server
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from countersign_cli.embedded import linux
from countersign_cli.embedded.datadir import DataDir, RunRecord
from countersign_cli.embedded.errors import EmbeddedError
from countersign_cli.embedded.nats import EmbeddedNats
from countersign_cli.embedded.postgres import EmbeddedPostgres
from countersign_cli.embedded.probes import http_ready
from countersign_cli.embedded.specs import Event, RestartPolicy, Service, Spec, Step
from countersign_cli.embedded.supervisor import Supervisor

PASSWORD = "p@ss/w:rd"


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


def say_event(event: Event) -> None:
    say(kind=event.kind, name=event.name, pid=event.pid, detail=event.detail)


def steady() -> int:
    """Stops when asked, and says first what it inherited: descriptors, and a random number."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    print(json.dumps({"fds": sorted(int(e.name) for e in Path("/dev/fd").iterdir()), "random": random.random()}))
    signal.sigwait({signal.SIGTERM})
    return 0


def stubborn() -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()


def family() -> int:
    """Has a process of its own, which does not end by itself."""
    subprocess.run([sys.executable, "-c", "import signal\nwhile True: signal.pause()"], check=True)
    return 1


def never() -> bool:
    return False


def crashing() -> int:
    raise RuntimeError("what the log should show")


def misconfigured() -> int:
    raise EmbeddedError("the toy is not wound up: wind it")


def web(port: int) -> int:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health/ready" else 404)
            self.end_headers()

    http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
    return 0


def count_starts(dsn: str) -> int:
    """Counts in the database how often this system was started on its folder."""

    async def count() -> int:
        import asyncpg

        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute("create table if not exists starts (at timestamptz default now())")
            await connection.execute("insert into starts default values")
            return int(await connection.fetchval("select count(*) from starts"))
        finally:
            await connection.close()

    print(json.dumps({"kind": "starts", "count": asyncio.run(count())}), flush=True)
    return 0


def no_such_call(number: int) -> None:
    """What other systems than Linux answer."""
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), f"signal {number}")


def preload() -> None:
    import asyncpg

    say(kind="loaded", name=asyncpg.__name__)


def main(root: Path, variant: str) -> int:
    data = DataDir(root)
    data.create()
    lock = data.lock()
    config = data.nats / "server.conf"
    config.write_text(f'host: "127.0.0.1"\nport: -1\njetstream {{ store_dir: "{data.nats}" }}\n')
    postgres = EmbeddedPostgres(data.postgres, None, PASSWORD)
    nats = EmbeddedNats(config, data.nats / "runtime")
    servers = ("postgres", "nats")
    specs: list[Spec] = [Service("steady", steady), Service("stubborn", stubborn, stop_seconds=0.3)]
    if variant == "guardian-alone":
        linux.signal_when_parent_dies = no_such_call
    if variant in ("whole", "guardian-alone"):
        port = int(os.environ["TOY_PORT"])
        dsn = postgres.dsn("postgres", PASSWORD, "postgres")
        specs = [
            Step("count", lambda: count_starts(dsn), after=servers, terminal=True),
            Service("steady", steady, after=("count",)),
            Service("stubborn", stubborn, after=("count",), stop_seconds=0.3),
            Service("family", family, after=("count",)),
            Service("web", lambda: web(port), after=("count",), ready=http_ready("127.0.0.1", port)),
            postgres.program(),
            nats.program(),
        ]
    elif variant == "crashing":
        specs.append(Service("crashing", crashing, ready=never, restart=RestartPolicy(first_seconds=0.01)))
    elif variant == "misconfigured":
        specs.append(Service("misconfigured", misconfigured, ready=never))
    elif variant == "never-ready":
        specs.append(Service("late", steady, ready=never))
    elif variant == "until":
        specs.append(Step("act", lambda: 7, terminal=True))
    supervisor = Supervisor(
        specs,
        logs=data.logs,
        events=say_event,
        preload=preload,
        guardian_keeps=(lock,),
        start_seconds=1.0 if variant == "never-ready" else 30.0,
    )

    def on_ready() -> None:
        data.write_run(RunRecord(os.getpid(), "2026-01-01T00:00:00Z", pids=supervisor.pids()))
        say(kind="all-ready", name="", pid=os.getpid())

    return supervisor.run(on_ready=on_ready, until="act" if variant == "until" else None)


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "whole"))
    except EmbeddedError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
