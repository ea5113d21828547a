"""Audit's word on a real nats-server: told, lost, garbled, early, and asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from countersign_chassis import Bus
from countersign_chassis.logs import logger
from countersign_chassis.metrics import Metrics
from countersign_contracts.commands import ConfirmOnRecord, Receipt
from countersign_contracts.topology import RECORDED_SUBJECT
from countersign_executor.confirmations import Confirmations
from countersign_executor.measures import Measures


@dataclass
class Scene:
    """An executor's confirmations, and an audit that answers what it is asked from ``on_record``."""

    audit: Bus
    executor: Bus
    confirmations: Confirmations
    on_record: set[str] = field(default_factory=set)
    asked: list[tuple[str, ...]] = field(default_factory=list)

    async def answer(self, command: ConfirmOnRecord) -> Receipt:
        self.asked.append(command.event_ids)
        return Receipt(event_ids=tuple(i for i in command.event_ids if i in self.on_record), head=1)

    async def tell(self, *event_ids: str, body: bytes | None = None) -> None:
        """Returns once the executor has read it."""
        receipt = Receipt(event_ids=event_ids, head=1)
        self.audit.connection.client.send(RECORDED_SUBJECT, receipt.to_bytes() if body is None else body)
        await self.audit.connection.barrier()
        await self.executor.connection.barrier()

    def expect(self, *event_ids: str, patiently: bool = True) -> list[asyncio.Future[bool]]:
        words = [self.confirmations.expect(event_id) for event_id in event_ids]
        self.confirmations.await_word(event_ids, patiently=patiently)
        return words


@pytest_asyncio.fixture(params=[60.0])
async def scene(stack: Any, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """Its patience, in seconds, is the parameter."""
    audit, executor = await stack.bus("audit"), await stack.bus("executor")
    seconds = Measures.of(Metrics()).confirmation
    confirmations = Confirmations(executor, seconds, logger("test", "error"), patience_s=request.param)
    made = Scene(audit, executor, confirmations)
    await audit.answer(ConfirmOnRecord, made.answer)
    await confirmations.start()
    await executor.connection.barrier()
    yield made


async def test_what_is_told_is_not_asked_for(scene: Scene) -> None:
    first, second = scene.expect("1.granted", "2.granted")
    await scene.tell("1.granted", "9.granted")
    assert first.result() is True
    assert not second.done()
    await scene.tell("2.granted")
    assert second.result() is True
    assert scene.asked == []


async def test_word_may_come_before_the_grant(scene: Scene) -> None:
    await scene.tell("1.granted")
    [word] = scene.expect("1.granted", patiently=False)
    assert word.result() is True
    assert scene.asked == []


@pytest.mark.parametrize("scene", [0.05], indirect=True)
async def test_lost_word_is_asked_for(scene: Scene) -> None:
    scene.on_record = {"1.granted"}
    told, lost, absent = scene.expect("0.granted", "1.granted", "2.granted")
    await scene.tell("0.granted")
    assert await lost is True
    assert await absent is False
    assert told.result() is True
    assert scene.asked == [("1.granted", "2.granted")]


async def test_what_comes_again_is_asked_for_at_once(scene: Scene) -> None:
    scene.on_record = {"1.granted"}
    [word] = scene.expect("1.granted", patiently=False)
    assert await word is True


async def test_garbled_word_confirms_nothing(scene: Scene) -> None:
    [word] = scene.expect("1.granted")
    for body in (b"", b"{}", b'{"event_ids": "1.granted", "head": 1}', b'{"event_ids": ["1.granted"]}', b"\xff" * 9):
        await scene.tell(body=body)
        assert not word.done()
    await scene.tell("1.granted")
    assert word.result() is True


async def test_no_word_while_audit_is_away(scene: Scene) -> None:
    await scene.audit.connection.close()
    [word] = scene.expect("1.granted", patiently=False)
    assert await word is False
    [again] = scene.expect("1.granted", patiently=False)
    assert again is not word, "each delivery asks for itself"


async def test_a_grant_expected_twice_is_waited_for_once(scene: Scene) -> None:
    [word] = scene.expect("1.granted")
    assert scene.confirmations.expect("1.granted") is word
