"""The faults: each does its harm, and heals it. What a killed process needs to come back is the product's business."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from countersign_contracts.event import CORE_SERVICES
from countersign_harness.standstill import stand_still

from .bus import close_all_connections
from .downstream import CountingDownstream, Mood
from .system import System

PAUSE_S = 2.5
MOOD_S = 2.0
DISK_FULL_S = 3.0

#: Until traffic must have come by a failpoint. Some are reached by a vote or by an operator's change alone.
REACHED_S = 40.0

#: Every named point of the services that always run.
FAILPOINTS = (
    "gateway.before_commit",
    "gateway.after_commit_before_publish",
    "gateway.before_outcome_commit",
    "gateway.before_amendment_commit",
    "gateway.after_amendment_before_publish",
    "policy.before_commit",
    "policy.after_commit_before_publish",
    "policy.after_publish_before_ack",
    "approvals.after_commit_before_publish",
    "approvals.after_vote_before_publish",
    "approvals.after_timer_before_publish",
    "approvals.after_standing_before_publish",
    "approvals.after_change_before_publish",
    "approvals.after_void_before_publish",
    "approvals.after_webhook_before_mark",
    "audit.before_commit",
    "audit.after_commit_before_ack",
    "executor.after_claim_before_call",
    "executor.after_effect_before_record",
    "executor.after_record_before_publish",
    "executor.after_publish_before_ack",
    "registry.after_commit_before_publish",
    "registry.after_read_before_show",
    "registry.after_publish_before_mark",
    "registry.after_keep_before_ack",
    "registry.after_look_before_commit",
)

#: A service's clock is set off by so many seconds, for so long. More than any answer, token of a door or command is
#: good for: what leans on the time of day must show.
CLOCK_OFF_S = 100.0
CLOCK_S = 3.0

Kind = Literal["kill", "pause", "wipe", "cut", "die", "freeze", "clock", "disk", "downstream", "two"]


class NotReached(Exception):
    """Traffic did not come by a failpoint: the fault was none."""


@dataclass
class Scene:
    """What faults are done to."""

    system: System
    downstream: CountingDownstream
    wipes: int = 0


@dataclass(frozen=True)
class Fault:
    """``inject`` does the harm, and returns when it is over; recovery counts from then (for a kill: from the kill)."""

    kind: Kind
    what: str
    inject: Callable[[Scene], Awaitable[None]]
    victim: str = ""
    """The process that has to be started again, which the supervisor does ever more slowly if it dies often."""
    weight: float = 1.0

    @property
    def name(self) -> str:
        """For people and for ``--fault``, e.g. ``kill policy``."""
        return f"{self.kind} {self.what}"


def kill(name: str, weight: float) -> Fault:
    """kill -9 of a service, of `nats` or of `postgres`."""

    async def inject(scene: Scene) -> None:
        os.kill(await scene.system.pid(name), signal.SIGKILL)

    return Fault("kill", name, inject, name, weight)


def pause(name: str) -> Fault:
    """SIGSTOP, and SIGCONT after a while."""

    async def inject(scene: Scene) -> None:
        pid = await scene.system.pid(name)
        stand_still(pid)
        try:
            await asyncio.sleep(PAUSE_S)
        finally:
            os.kill(pid, signal.SIGCONT)

    return Fault("pause", name, inject, weight=0.5)


def die(point: str) -> Fault:
    """The service kills itself at a named point, with SIGKILL."""

    async def inject(scene: Scene) -> None:
        await _reached(scene, point, signal.SIGKILL.name)

    return Fault("die", point, inject, point.split(".")[0], weight=0.6)


def freeze(point: str) -> Fault:
    """The service stands still at a named point for a while, and goes on."""

    async def inject(scene: Scene) -> None:
        pid = await scene.system.pid(point.split(".")[0])
        try:
            await _reached(scene, point, signal.SIGSTOP.name)
            await asyncio.sleep(PAUSE_S)
        finally:
            os.kill(pid, signal.SIGCONT)

    return Fault("freeze", point, inject, weight=0.2)


def clock(service: str, seconds: float) -> Fault:
    """The service's time of day jumps, stays off for a while, and jumps back."""

    async def inject(scene: Scene) -> None:
        await _reached(scene, f"{service}.clock", f"{seconds} {CLOCK_S}")
        await asyncio.sleep(CLOCK_S)

    return Fault("clock", f"{service} {'ahead' if seconds > 0 else 'behind'}", inject, weight=0.4)


async def _reached(scene: Scene, point: str, wanted: str) -> None:
    file = scene.system.failpoints / point
    draft = scene.system.failpoints / f".{point}"
    draft.write_text(wanted)
    draft.rename(file)
    try:
        async with asyncio.timeout(REACHED_S):
            while file.exists():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise NotReached(f"nothing came by {point} within {REACHED_S:.0f} s") from None
    finally:
        file.unlink(missing_ok=True)


async def _wipe(scene: Scene) -> None:
    pid = await scene.system.pid("nats")
    stand_still(pid)  # it must not come back between the kill and the wiping
    store = scene.system.layout.nats / "jetstream"
    gone = store.with_name("jetstream.gone")
    store.rename(gone)
    scene.wipes += 1
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(shutil.rmtree, gone, ignore_errors=True)


async def _crash(scene: Scene) -> None:
    await scene.system.crash()


async def _cut_database(scene: Scene) -> None:
    await scene.system.as_superuser(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )


async def _cut_bus(scene: Scene) -> None:
    await close_all_connections(scene.system)


_FULL = """
CREATE OR REPLACE FUNCTION audit.faults_disk_full() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
CREATE OR REPLACE TRIGGER faults_disk_full BEFORE INSERT ON audit.entries
FOR EACH STATEMENT EXECUTE FUNCTION audit.faults_disk_full();
"""


async def _disk_full(scene: Scene) -> None:
    await scene.system.as_superuser(_FULL)
    try:
        await asyncio.sleep(DISK_FULL_S)
    finally:
        await scene.system.as_superuser("DROP TRIGGER IF EXISTS faults_disk_full ON audit.entries")


def downstream_is(mood: Mood) -> Fault:
    """The business system is slow, breaks, or takes the effect and hangs up, for a while."""

    async def inject(scene: Scene) -> None:
        scene.downstream.mood = mood
        try:
            await asyncio.sleep(MOOD_S)
        finally:
            scene.downstream.mood = "well"

    return Fault("downstream", mood, inject)


FAULTS: tuple[Fault, ...] = (
    *(kill(service, 1.0) for service in CORE_SERVICES),
    kill("nats", 2.0),
    kill("postgres", 2.0),
    *(pause(name) for name in (*CORE_SERVICES, "nats", "postgres")),
    *(die(point) for point in FAILPOINTS),
    *(freeze(point) for point in FAILPOINTS),
    Fault("kill", "everything", _crash, "everything", weight=1.0),
    Fault("wipe", "nats", _wipe, "nats", weight=2.0),
    Fault("cut", "postgres", _cut_database, weight=1.0),
    Fault("cut", "nats", _cut_bus, weight=1.0),
    # audit's clock is the one that the validators measure by
    *(clock(service, sign * CLOCK_OFF_S) for service in CORE_SERVICES if service != "audit" for sign in (1, -1)),
    Fault("disk", "full under the ledger", _disk_full, weight=0.7),
    downstream_is("slow"),
    downstream_is("drops"),
    downstream_is("cuts"),
    downstream_is("breaks"),
)


def at_once(first: Fault, second: Fault) -> Fault:
    """Both, side by side: the kill that falls into a pause, the wipe that finds a service dead."""

    async def inject(scene: Scene) -> None:
        await asyncio.gather(first.inject(scene), second.inject(scene))

    return Fault("two", "at once", inject, first.victim or second.victim)


def can_be_at_once(first: Fault, second: Fault) -> bool:
    """Whether they do not get into each other's way: other processes, and no waiting for traffic to come by."""
    whole = {"everything"}
    named = {each.victim or each.what for each in (first, second)}
    return len(named) == 2 and not named & whole and not {first.kind, second.kind} & {"die", "freeze", "clock"}


def by_name(names: list[str]) -> list[Fault]:
    """The faults so named; raises ``KeyError`` with what there is."""
    known = {fault.name: fault for fault in FAULTS}
    if unknown := [name for name in names if name not in known]:
        raise KeyError(f"no fault {', '.join(unknown)}; there are: {', '.join(known)}")
    return [known[name] for name in names]
