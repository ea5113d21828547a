"""Another version on the same data: a newer one goes on with it, an older one refuses to touch it, in one line."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import asyncpg
import pytest

from countersign_chassis import database
from countersign_cli.bootstrap import bus, prepare_database
from countersign_cli.bootstrap.layout import Layout
from countersign_contracts.errors import CountersignError
from countersign_contracts.event import CORE_SERVICES
from countersign_harness.stack import SUPERUSER_PASSWORD, Stack
from countersign_harness.world import World
from countersign_ledger.verify import verify_export

#: What a migration does at its most: every table of the service gets a column, and every row a value in it.
NEXT = """
DO $$ DECLARE each text; BEGIN
    FOR each IN SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace
                AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'schema_migration' LOOP
        EXECUTE format('ALTER TABLE %I ADD COLUMN of_the_next_version text NOT NULL DEFAULT ''x''', each);
    END LOOP;
END $$;
"""


async def stopped(world: World) -> None:
    for service in reversed(list(world.services.values())):
        await service.stop()


async def started(world: World) -> None:
    for name in CORE_SERVICES:
        if name != "gateway":
            world.services[name] = await world.stack.service(name)
    await world.open_gateway()


async def export(world: World) -> list[bytes]:
    lines: list[bytes] = []
    query = ""
    while True:
        page = await world.ok("GET", f"/api/v1/audit/export{query}")
        lines += [line.encode() for line in page["lines"]]
        if page.get("next") is None:
            return lines
        query = f"?next={page['next']}&last_seq={page['last_seq']}"


async def test_the_next_version_migrates_what_this_one_wrote_and_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With work done, work that waits for people, and work accepted that nobody has decided yet."""
    done = await world.submit("read_thing", {"thing_id": 1})
    held = await world.submit("write_thing", {"thing_id": 2, "status": "x"}, env="prod", wait=0)
    await world.until(held["request_id"], "held")
    approval = await world.approval_of(held["request_id"])
    await world.services["policy"].stop()
    undecided = await world.submit("read_thing", {"thing_id": 3}, wait=0)
    del world.services["policy"]
    await stopped(world)

    real = database.known_migrations
    added = {9000: ("next", NEXT, "0" * 64)}
    monkeypatch.setattr(database, "known_migrations", lambda package: real(package) | added)
    await started(world)

    assert await world.state(done["request_id"]) == "succeeded"
    assert (await world.vote(approval, "approve"))[0] == 200
    assert await world.until(held["request_id"], "succeeded", seconds=30) == "succeeded"
    assert await world.until(undecided["request_id"], "succeeded", seconds=40) == "succeeded"
    assert (await world.submit("read_thing", {"thing_id": 4}))["state"] == "succeeded"
    assert len(world.downstream.calls) == 4
    for request_id in (done["request_id"], held["request_id"], undecided["request_id"]):
        await world.trail(request_id)
    report = verify_export(await export(world), world.stack.trust())
    assert report.ok, report

    monkeypatch.setattr(database, "known_migrations", real)
    await stopped(world)
    for service in CORE_SERVICES:  # the older version on the newer one's data
        refused = world.stack.build(service)
        with pytest.raises(CountersignError, match=r"9000_next.*newer Countersign; install that version again"):
            await refused.start()
        await refused.db.close()
        await refused.http.stop()
        await refused.health.stop()


async def passwords(stack: Stack) -> dict[str, str]:
    found: dict[str, str] = json.loads(Layout(stack.layout.root).postgres_passwords.read_text())
    return found


async def test_bootstrap_refuses_a_newer_database_before_any_service_starts(stack: Stack) -> None:
    superuser = stack.postgres.dsn("postgres", SUPERUSER_PASSWORD, "postgres")
    service = await stack.service("approvals")
    await service.stop()
    await prepare_database(superuser, stack.superuser_dsn(), await passwords(stack))  # its own it takes
    connection = await asyncpg.connect(stack.superuser_dsn())
    await connection.execute("INSERT INTO approvals.schema_migration (version, name, sha256) VALUES (2999, 'more', '')")
    await connection.close()
    with pytest.raises(CountersignError, match="approvals database is at migration 2999_more") as refused:
        await prepare_database(superuser, stack.superuser_dsn(), await passwords(stack))
    assert "\n" not in refused.value.detail


async def test_an_older_version_does_not_turn_back_the_streams_of_a_newer_one(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def streams_say(release: str) -> None:
        monkeypatch.setattr(bus, "version", lambda _: release)

    async def applied() -> Any:
        client = await stack.client("bootstrap-agents")
        config = json.loads((await client.request("$JS.API.STREAM.INFO.INGRESS", b"", timeout=5)).data)["config"]
        return config["metadata"][bus._APPLIED_BY], config["max_bytes"]

    ours = version("countersign-contracts")
    assert (await applied())[0] == ours
    streams_say("99.10.0")
    await stack.apply_topology()
    assert (await applied())[0] == "99.10.0"
    streams_say("99.9.1")
    before = await applied()
    with pytest.raises(CountersignError, match=r"made by Countersign 99\.10\.0, and this is 99\.9\.1"):
        await stack.apply_topology()
    assert await applied() == before
    streams_say("99.10.1")
    await stack.apply_topology()
    assert (await applied())[0] == "99.10.1"


async def test_streams_of_a_version_that_did_not_sign_them_are_brought_up(stack: Stack) -> None:
    """As the first release left them: no version on them, and no bound on each agent's place in the queue."""
    client = await stack.client("bootstrap-agents")
    config = json.loads((await client.request("$JS.API.STREAM.INFO.INGRESS", b"", timeout=5)).data)["config"]
    before = {k: v for k, v in config.items() if k not in ("metadata", "discard_new_per_subject")}
    before |= {"max_msgs_per_subject": -1, "metadata": {}}
    answer = json.loads((await client.request("$JS.API.STREAM.UPDATE.INGRESS", json.dumps(before).encode())).data)
    assert "error" not in answer
    await stack.apply_topology()
    config = json.loads((await client.request("$JS.API.STREAM.INFO.INGRESS", b"", timeout=5)).data)["config"]
    assert (config["max_msgs_per_subject"], config["discard_new_per_subject"]) == (1000, True)
    assert config["metadata"][bus._APPLIED_BY] == version("countersign-contracts")
