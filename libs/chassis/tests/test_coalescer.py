"""Many concurrent submits, one flush."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from countersign_chassis import Coalescer


async def test_what_arrives_during_a_flush_goes_together_into_the_next() -> None:
    batches: list[list[int]] = []
    first, go = asyncio.Event(), asyncio.Event()

    async def flush(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        first.set()
        await go.wait()
        return [item * 2 for item in items]

    coalescer: Coalescer[int, int] = Coalescer(flush, max_batch=3)
    tasks = [asyncio.create_task(coalescer.submit(1))]
    await first.wait()
    tasks += [asyncio.create_task(coalescer.submit(n)) for n in range(2, 7)]
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 10, 12]
    assert batches == [[1], [2, 3, 4], [5, 6]]


async def test_a_failed_flush_fails_its_own_batch_only() -> None:
    async def flush(items: Sequence[int]) -> list[int]:
        if 1 in items:
            raise ValueError("no")
        return list(items)

    coalescer: Coalescer[int, int] = Coalescer(flush, max_batch=1)
    results = await asyncio.gather(*(coalescer.submit(n) for n in range(3)), return_exceptions=True)
    assert results[0] == 0 and isinstance(results[1], ValueError) and results[2] == 2


async def test_a_cancelled_submitter_harms_nobody() -> None:
    go = asyncio.Event()

    async def flush(items: Sequence[int]) -> list[int]:
        await go.wait()
        return list(items)

    coalescer: Coalescer[int, int] = Coalescer(flush)
    one, two = asyncio.create_task(coalescer.submit(1)), asyncio.create_task(coalescer.submit(2))
    await asyncio.sleep(0)
    one.cancel()
    go.set()
    assert await two == 2
    with pytest.raises(asyncio.CancelledError):
        await one
