"""Faults under traffic: chosen by a seed, or given; after each, how long until the system works again."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .faults import FAULTS, Fault, NotReached, at_once, can_be_at_once
from .history import History
from .session import RECOVERY_S, Outcome, Recovery, Session, session
from .traffic import Pace

#: Between two deaths of one process: the supervisor waits ever longer for what dies again and again, and starts anew
#: with what was well for ten seconds. That is not what is measured.
REST_S = 12.0

#: How often a second fault falls into the first, where it can.
TWO_AT_ONCE = 0.25

#: How long traffic goes on, after the last fault, for what must have happened in a run.
ENOUGH_S = 120.0


async def explore(
    folder: Path,
    *,
    seed: int,
    seconds: float,
    say: Callable[[str], None],
    enough: Callable[[History], bool] | None = None,
) -> Outcome:
    """Faults by chance for so many seconds; one under way is finished. With ``enough`` traffic goes on until it was."""
    dice = random.Random(seed)
    outcome = Outcome(seed, seconds)
    async with session(folder, outcome, say) as here:
        until, hurt = time.monotonic() + seconds, dict[str, float]()
        while time.monotonic() < until:
            rested = [f for f in FAULTS if not f.victim or time.monotonic() - hurt.get(f.victim, -REST_S) >= REST_S]
            fault, other = dice.choices(rested, [each.weight for each in rested], k=2)
            await asyncio.sleep(dice.random())
            hurts = [fault.victim]
            if dice.random() < TWO_AT_ONCE and can_be_at_once(fault, other):
                here.tell(f"at once: {fault.name}, {other.name}")
                hurts.append(other.victim)
                fault = at_once(fault, other)
            if not await _suffer(here, fault):
                break
            hurt |= {victim: time.monotonic() for victim in hurts}
        until = time.monotonic() + ENOUGH_S
        while enough and not outcome.findings and time.monotonic() < until and not enough(await here.look()):
            here.tell("not everything has happened yet: traffic goes on")
            await asyncio.sleep(1)
    return outcome


async def suffer_all(
    folder: Path,
    faults: Sequence[Fault],
    *,
    seed: int,
    seconds: float,
    say: Callable[[str], None],
    pace: Pace | None = None,
) -> Outcome:
    """Each of ``faults`` in turn: once at least, and for so many seconds."""
    outcome = Outcome(seed, seconds)
    async with session(folder, outcome, say, pace) as here:
        until = time.monotonic() + seconds
        for turn in itertools.count():
            if turn >= len(faults) and time.monotonic() >= until:
                break
            if not await _suffer(here, faults[turn % len(faults)]):
                break
    return outcome


async def _suffer(here: Session, fault: Fault) -> bool:
    """One fault, and the recovery from it; False if there was none."""
    try:
        await here.system.until_ready(RECOVERY_S)
        began = time.monotonic()
        await fault.inject(here.scene)
    except NotReached as error:
        here.outcome.not_reached.append(fault.name)
        here.tell(str(error))
        return True
    except TimeoutError as error:
        here.outcome.findings.append(f"before `{fault.name}`: {error}")
        return False
    if fault.kind not in ("kill", "wipe", "cut"):
        began = time.monotonic()
    action = ready = None
    if await here.traffic.probe(RECOVERY_S):
        action = time.monotonic() - began
        try:
            await here.system.until_ready(RECOVERY_S)
            ready = time.monotonic() - began
        except TimeoutError as error:
            here.outcome.findings.append(f"after `{fault.name}`: {error}")
    else:
        here.outcome.findings.append(f"after `{fault.name}` no action succeeded within {RECOVERY_S:.0f} s")
    here.outcome.recoveries.append(Recovery(fault.kind, fault.name, action, ready))
    here.look_at_checkpoints()
    here.tell(f"{fault.name}: next action {_s(action)}, ready {_s(ready)}")
    return ready is not None


def _s(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.2f} s"
