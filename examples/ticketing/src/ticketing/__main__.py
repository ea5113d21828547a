"""The command line: `serve` runs the API, `work` lets the support agent loose on it, ungoverned."""

import argparse
import asyncio
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path

import aiohttp
import uvicorn

from ticketing.agent import DirectDesk, Step, work_queue
from ticketing.app import build
from ticketing.store import Store, StoreError


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="ticketing", description="A small ticketing business: its API and its agent.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the ticketing API")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    serve.add_argument("--port", type=int, default=8000, help="0 picks a free one (default %(default)s)")
    serve.add_argument(
        "--database",
        type=Path,
        default=Path("ticketing.db"),
        help="SQLite file, seeded if new (default %(default)s)",
    )
    serve.add_argument("--reset", action="store_true", help="start again from the seed data")
    serve.set_defaults(run=_serve)
    work = commands.add_parser("work", help="run the support agent straight on the API, with no control layer")
    work.add_argument("--url", default="http://127.0.0.1:8000", help="the API's address (default %(default)s)")
    work.set_defaults(run=_work)
    options = parser.parse_args(argv)
    code: int = options.run(options)
    return code


def _serve(options: argparse.Namespace) -> int:
    try:
        with closing(Store(options.database)) as store:
            store.prepare(reset=options.reset)
    except StoreError as error:
        return _fail(str(error))
    try:
        listener = socket.create_server((options.host, options.port))
    except (OSError, OverflowError) as error:
        return _fail(f"cannot listen on {options.host}:{options.port}: {error}")
    with listener:
        for ending in (signal.SIGTERM, signal.SIGINT):
            # uvicorn finishes the requests it has, then passes the signal on to this handler.
            signal.signal(ending, lambda *_: sys.exit(0))
        host, port = listener.getsockname()[:2]
        sys.stdout.write(f"ticketing: http://{host}:{port}, database {options.database}\n")
        sys.stdout.flush()
        uvicorn.Server(uvicorn.Config(build(options.database), lifespan="on")).run(sockets=[listener])
    return 0


def _work(options: argparse.Namespace) -> int:
    steps = asyncio.run(_work_directly(options.url))
    return 0 if all(step.outcome.state == "succeeded" for step in steps) else 1


async def _work_directly(url: str) -> list[Step]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http:
        return await work_queue(DirectDesk(http, url), _print)


def _print(step: Step) -> None:
    args = ", ".join(f"{name}={value!r}" for name, value in step.intent.args.items())
    refusal = f": {step.outcome.reason}" if step.outcome.reason else ""
    sys.stdout.write(f"{step.outcome.state}: {step.intent.tool}({args})  # {step.intent.reason}{refusal}\n")


def _fail(message: str) -> int:
    sys.stderr.write(f"ticketing: {message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
