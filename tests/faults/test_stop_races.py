"""Promise 9 on the running product, while nats-server is killed: after its acknowledgement, a stop holds.

A thousand races, with figures: ``tests/faults/stop_latency.py``.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from countersign_faults.downstream import CountingDownstream
from countersign_faults.stop_races import Race, Races, breaches
from countersign_faults.system import NotAnswered, System
from countersign_harness.standstill import stand_still


async def test_nothing_starts_after_an_order_s_acknowledgement(tmp_path: Path) -> None:
    async with CountingDownstream() as downstream, System(tmp_path / "system") as system:
        races = Races(system, downstream, seed=1, at_once=3, kill_every_s=0.4)
        ran = await races.run(12)
        assert breaches(ran) == []
        assert races.kills > 0
        assert all(race.acknowledged_at > race.ordered_at for race in ran)


async def test_an_order_that_cannot_be_acknowledged_says_so(tmp_path: Path) -> None:
    async with System(tmp_path / "system") as system:
        order = {"scope": "all", "reason": "fire"}
        pid = await system.pid("executor")
        stand_still(pid)
        try:
            with pytest.raises(NotAnswered, match=r"^503: .*not confirmed: order it again until it is"):
                await system.ask("POST", "/api/v1/stops", order)
        finally:
            os.kill(pid, signal.SIGCONT)
        await system.until_ready(20)
        assert (await system.ok("POST", "/api/v1/stops", order))["scope"] == "all"


def raced(*, started: list[float], arrived: int | None = None) -> Race:
    """A race whose order was acknowledged at 100 s."""
    count = len(started) if arrived is None else arrived
    return Race("race-00001", 99.9, 100.0, started=started, arrived=[100.0] * count)


@pytest.mark.parametrize(
    ("race", "said"),
    [
        (raced(started=[99.0, 99.99]), []),
        (raced(started=[99.0, 100.002]), ["race-00001: a call started 2.00 ms after the order's acknowledgement"]),
        (raced(started=[99.0], arrived=2), ["race-00001: more calls arrived than the ledger tells of"]),
        (raced(started=[]), ["in 1 of 1 races nothing started before the stop: they say nothing"]),
    ],
)
def test_a_breach_is_named(race: Race, said: list[str]) -> None:
    assert breaches([race]) == said
