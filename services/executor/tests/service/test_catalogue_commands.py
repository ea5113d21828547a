"""Tools are declared by command: validated first, applied whole or not at all, told, projected, kept."""

import asyncio
from typing import Any

import pytest
import yaml

from countersign_chassis import Mirror
from countersign_chassis.logs import logger
from countersign_contracts.catalogue import Document, ToolRecord
from countersign_contracts.commands import CommitCatalogue, ListTools, LookUpFacts, PrepareCatalogue
from countersign_contracts.errors import CountersignError
from countersign_contracts.projection import TOOLS
from countersign_executor import catalogue


def document(tool: Any) -> Document:
    value = tool.model_dump(mode="json", by_alias=True, exclude_none=True)
    return Document(path=f"tools/{tool.name}.yaml", text=yaml.safe_dump(value))


def commit(change: str, base: str, *tools: Any) -> CommitCatalogue:
    return CommitCatalogue(change_id=change, base=base, by="ada", documents=tuple(document(tool) for tool in tools))


async def mirror_of(world: Any) -> Mirror[ToolRecord]:
    mirror: Mirror[ToolRecord] = Mirror(
        TOOLS, ToolRecord, world.policy.connection, world.stack.trust(), logger("test", "warning")
    )
    await mirror.start()
    return mirror


async def test_a_change_is_applied_told_and_projected_before_it_is_answered(world: Any) -> None:
    await world.executor()
    mirror = await mirror_of(world)
    tool = world.tool(destructive_when=[{"field": "note", "in": ["x"]}])
    await world.apply(tool)
    assert await mirror.fetch(tool.name) == ToolRecord(tool=tool, version=1, revision=1)
    event = await world.hear(lambda event: event.spec.name == "catalogue_changed")
    assert event.by == "ada" and [(c.name, c.action) for c in event.changes] == [(tool.name, "create")]
    plan = await world.apply(tool)
    assert [c.action for c in plan.changes] == ["unchanged"]
    grown = world.tool(description="grown")
    await world.apply(grown)
    assert await mirror.fetch(tool.name) == ToolRecord(tool=grown, version=2, revision=2)
    listed = await world.gateway.ask(ListTools())
    assert listed.items == (ToolRecord(tool=grown, version=2, revision=2),)
    await world.hear(lambda event: event.spec.name == "catalogue_changed" and event.changes[0].action == "update")
    assert len([e for e in world.heard if e.spec.name == "catalogue_changed"]) == 2
    await mirror.stop()


async def test_the_catalogue_is_listed_in_pages_that_fit_into_a_message(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.executor()
    tools = [world.tool().model_copy(update={"name": f"tool_{letter}"}) for letter in "abcd"]
    await world.gateway.ask(commit("chg_1", "0", *tools))

    async def pages(limit: int) -> list[list[str]]:
        found, after = [], None
        while True:
            page = await world.gateway.ask(ListTools(limit=limit, after=after))
            found.append([record.tool.name for record in page.items])
            if (after := page.next) is None:
                return found

    assert await pages(100) == [["tool_a", "tool_b", "tool_c", "tool_d"]]
    assert await pages(2) == [["tool_a", "tool_b"], ["tool_c", "tool_d"]]
    assert await pages(3) == [["tool_a", "tool_b", "tool_c"], ["tool_d"]]
    monkeypatch.setattr(catalogue, "_PAGE_BYTES", 1)
    assert await pages(100) == [["tool_a"], ["tool_b"], ["tool_c"], ["tool_d"]]


async def test_a_change_committed_twice_is_one_change(world: Any) -> None:
    await world.executor()
    plan = await world.gateway.ask(commit("chg_1", "0", world.tool()))
    assert await world.gateway.ask(commit("chg_1", "0", world.tool())) == plan
    (record,) = (await world.gateway.ask(ListTools())).items
    assert record.version == 1


async def test_a_change_prepared_on_an_older_catalogue_is_refused(world: Any) -> None:
    await world.executor()
    await world.gateway.ask(commit("chg_1", "0", world.tool()))
    with pytest.raises(CountersignError) as stale:
        await world.gateway.ask(commit("chg_2", "0", world.tool(description="other")))
    assert stale.value.code == "stale"
    assert (await world.gateway.ask(ListTools())).items[0].version == 1


async def test_a_bad_document_changes_nothing(world: Any) -> None:
    await world.executor()
    good, bad = world.tool(), world.tool(name="bad", http={"headers": {"A": "${secret:NOPE}"}})
    documents = (document(good), document(bad))
    plan = await world.gateway.ask(PrepareCatalogue(change_id="chg_1", documents=documents))
    (error,) = plan.errors
    assert (error.path, error.field) == ("tools/bad.yaml", "http.headers.A") and error.line and error.allowed
    with pytest.raises(CountersignError) as invalid:
        await world.gateway.ask(commit("chg_1", "0", good, bad))
    assert invalid.value.code == "invalid" and len(invalid.value.extra["errors"]) == 1
    assert (await world.gateway.ask(ListTools())).items == ()


async def test_a_grant_for_an_older_version_runs_nothing(world: Any) -> None:
    await world.executor()
    await world.apply(world.tool())
    grant = world.grant()
    await world.apply(world.tool(description="grown"))
    event = await world.execute(grant)
    assert event.reasons[0].code == "tool_changed"
    assert (await world.execute(world.grant(tool_version=2))).execution.outcome == "succeeded"


async def test_a_lost_bucket_is_filled_again_from_the_tables(world: Any) -> None:
    service = await world.executor()
    await world.apply(world.tool())
    await service.stop()
    operator = await world.stack.client("bootstrap-core")
    await operator.jetstream().purge_stream("KV_tools")
    await world.executor()
    mirror = await mirror_of(world)
    await mirror.reach("change_item", 1)
    await mirror.stop()


async def test_policy_looks_facts_up_and_denies_what_it_cannot_know(world: Any) -> None:
    answers = [b'{"do_not_contact":true}', b'{"do_not_contact":false}', b"{}"]

    async def answer(_: Any, writer: asyncio.StreamWriter) -> None:
        body = answers.pop(0)
        head = f"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    world.downstream.answer = answer
    await world.executor()
    look = world.tool(name="look", effect="read", http={"method": "GET", "query": [], "body": []}, arguments=ITEM_ONLY)
    fact = {
        "name": "dnc",
        "tool": "look",
        "args": {"item": "{item}"},
        "deny_when": {"path": "do_not_contact", "equals": True},
        "message": "item {item} must not be touched",
    }
    await world.apply(look, world.tool(facts=[fact]))

    def ask(version: int = 1) -> LookUpFacts:
        return LookUpFacts(
            request_id=world.grant().about(), tool="change_item", tool_version=version, args={"item": "7"}
        )

    (denial,) = (await world.policy.ask(ask())).denials
    assert (denial.code, denial.message) == ("fact", "item 7 must not be touched")
    assert (await world.policy.ask(ask())).denials == ()
    for command in (ask(), ask(version=9)):
        with pytest.raises(CountersignError) as unknown:
            await world.policy.ask(command)
        assert unknown.value.code == "unavailable"
    assert [r.target for r in world.downstream.requests] == ["/items/7"] * 3


ITEM_ONLY = {
    "type": "object",
    "additionalProperties": False,
    "required": ["item"],
    "properties": {"item": {"type": "string"}},
}
