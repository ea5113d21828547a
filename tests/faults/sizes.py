"""What an action takes on the disk, and what a backup of it takes: `.venv/bin/python tests/faults/sizes.py`.

The tool is `pay` of the fault tests: one argument, no approval. Sizes are those that PostgreSQL and the file system
report, after a checkpoint of the database.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg

from countersign_cli.bootstrap.database import DATABASE
from countersign_cli.embedded.datadir import DataDir
from countersign_cli.embedded.postgres import EmbeddedPostgres

sys.path.insert(0, str(Path(__file__).parents[1] / "harness"))

from countersign_faults.declarations import AGENTS, documents
from countersign_faults.downstream import CountingDownstream
from countersign_faults.system import System

_SCHEMAS = """
SELECT n.nspname AS schema, sum(pg_total_relation_size(c.oid))::bigint AS bytes
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND pg_get_userbyid(n.nspowner) LIKE 'countersign%' GROUP BY 1
"""


async def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--actions", type=int, default=2000)
    count = parser.parse_args().actions
    with tempfile.TemporaryDirectory(prefix="countersign-sizes-") as temporary:
        folder = Path(temporary) / "first" / "system"
        async with CountingDownstream() as downstream, System(folder) as system:
            given = {"documents": documents(downstream.url), "dry_run": False}
            assert not (await system.ok("POST", "/api/v1/apply", given))["errors"]
            token = (await system.ok("POST", f"/api/v1/agents/{AGENTS[0]}/credentials", {}))["http_token"]
            before, bus_before = await _schemas(folder), _bytes(folder / "nats" / "jetstream")
            await _act(system, token, count)
            after, bus = await _schemas(folder), _bytes(folder / "nats" / "jetstream") - bus_before
            print(f"{count} actions, bytes for each:")
            for schema in sorted(after):
                print(f"  {schema:10} {(after[schema] - before.get(schema, 0)) / count:8.0f}")
            print(
                f"  {'in all':10} {(sum(after.values()) - sum(before.values())) / count:8.0f}  in PostgreSQL, for good"
            )
            print(f"  {'JetStream':10} {bus / count:8.0f}  for a week")
            file = Path(temporary) / "it.backup"
            (Path(temporary) / "phrase").write_text("a phrase to measure with\n")
            took = await _command(folder, "backup", str(file), "--passphrase-file", f"{temporary}/phrase")
            size = file.stat().st_size
            print(f"backup: {took:.1f} s, {size / count:.0f} bytes an action ({size} in all)")
        second = Path(temporary) / "second" / "system"
        took = await _command(second, "restore", str(file), "--passphrase-file", f"{temporary}/phrase")
        print(f"restore: {took:.1f} s")


async def _act(system: System, token: str, count: int) -> None:
    numbers = iter(range(1, count + 1))

    async def one_after_the_other() -> None:
        for n in numbers:
            body = {"tool": "pay", "args": {"n": n}, "env": "dev"}
            while True:
                status, answer = await system.ask("POST", "/api/v1/actions", body, token=token, wait_s=30)
                if status == 200 and answer["state"] == "succeeded":
                    break
                assert status in (429, 503), answer
                await asyncio.sleep(0.5)

    await asyncio.gather(*(one_after_the_other() for _ in range(16)))


async def _schemas(folder: Path) -> dict[str, int]:
    password = json.loads((folder / "keys" / "postgres.json").read_text())["postgres"]
    dsn = EmbeddedPostgres(DataDir(folder).postgres, None, password).dsn("postgres", password, DATABASE)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CHECKPOINT")
        return {row["schema"]: row["bytes"] for row in await connection.fetch(_SCHEMAS)}
    finally:
        await connection.close()


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())


async def _command(folder: Path, *arguments: str) -> float:
    began = time.monotonic()
    command = [sys.executable, "-m", "countersign_cli", *arguments]
    given = os.environ | {"COUNTERSIGN_DATA_DIR": str(folder)}
    await asyncio.to_thread(subprocess.run, command, env=given, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


if __name__ == "__main__":
    asyncio.run(main())
