"""What a follower of approvals is told when it reads slowly, or may have missed something."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from countersign_chassis.metrics import Metrics
from countersign_contracts.errors import CountersignError
from countersign_gateway.followers import MOST_BYTES, Follower, FollowerMetrics, Followers


async def blocks(stream: AsyncIterator[bytes], count: int) -> list[str]:
    async with asyncio.timeout(5):
        return [(await anext(stream)).decode() for _ in range(count)]


async def test_who_reads_too_slowly_is_told_how_many_are_lost_and_gets_the_newest() -> None:
    follower = Follower(most=3)
    stream = follower.events(60, lambda: None)
    await blocks(stream, 1)
    for n in range(5):
        follower.tell(f"{n}".encode())
    lost, *told = await blocks(stream, 4)
    assert lost.startswith("event: lost\n") and '"events":2' in lost
    assert told == ["2", "3", "4"]
    follower.tell(b"5")
    assert await blocks(stream, 1) == ["5"], "said once"


async def test_what_is_kept_for_a_slow_reader_is_bounded_in_bytes_too() -> None:
    follower = Follower(most=100)
    stream = follower.events(60, lambda: None)
    await blocks(stream, 1)
    for n in range(3):
        follower.tell(f"{n}".encode() * (MOST_BYTES // 2))
    lost, *told = await blocks(stream, 3)
    assert '"events":1' in lost and [each[0] for each in told] == ["1", "2"]
    follower.tell(b"3" * (MOST_BYTES + 1))
    assert len((await blocks(stream, 1))[0]) == MOST_BYTES + 1, "the newest is kept whatever its size"


async def test_who_may_have_missed_something_is_told_without_a_number() -> None:
    follower = Follower(most=3)
    stream = follower.events(60, lambda: None)
    await blocks(stream, 1)
    follower.missed()
    (lost,) = await blocks(stream, 1)
    assert lost.startswith("event: lost\n") and '"events":null' in lost


async def test_what_was_told_before_the_end_comes_before_it() -> None:
    follower = Follower(most=3)
    follower.tell(b"1")
    follower.end()
    stream = follower.events(60, lambda: None)
    _, told, end = await blocks(stream, 3)
    assert told == "1" and end.startswith("event: end\n")
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_nothing_is_told_to_who_may_not_read_any_more() -> None:
    allowed = [None, "the credential is not known, or was revoked"]
    follower = Follower(most=3)
    stream = follower.events(60, lambda: allowed.pop(0))
    follower.tell(b"1")
    _, told = await blocks(stream, 2)
    follower.tell(b"2")
    (end,) = await blocks(stream, 1)
    assert told == "1" and "revoked" in end
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_silence_is_broken_by_a_comment() -> None:
    stream = Follower(most=3).events(0.01, lambda: None)
    assert (await blocks(stream, 2))[1] == ": nothing new\n\n"


def test_who_follows_who_is_turned_away_and_what_is_not_told_is_counted() -> None:
    metrics = Metrics()
    followers: Followers[Follower] = Followers("agents", 2, FollowerMetrics(metrics))

    def counted() -> dict[str, float]:
        lines = [line.rsplit(" ", 1) for line in metrics.render().decode().splitlines() if 'of="agents"' in line]
        return {name.split("{")[0]: float(value) for name, value in lines if "_created" not in name}

    nothing = {"countersign_followers": 0, "countersign_followers_refused_total": 0}
    assert counted() == nothing | {"countersign_followers_untold_total": 0}
    slow, other = (followers.add(Follower(most=2)) for _ in range(2))
    with pytest.raises(CountersignError, match="2 clients follow agents here already"):
        followers.add(Follower(most=2))
    for said in range(5):
        slow.tell(f"{said}".encode())
    other.tell(b"0")
    followers.leave(other)
    followers.leave(other)
    assert counted() == {
        "countersign_followers": 1,
        "countersign_followers_refused_total": 1,
        "countersign_followers_untold_total": 3,
    }
