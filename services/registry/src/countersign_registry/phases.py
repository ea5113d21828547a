"""What an agent is seen to do, from what it says and from its silence. Pure.

``registered → running ⇄ stopped``, and ``running → failed → running``. A crash is a silence: an agent that ends in
order says so, with status `stopping`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from countersign_contracts.fleet import AgentPhase

#: An agent has failed after so many intervals without a heartbeat: less than three, the time to notice included.
PATIENCE = 2.5

Sign = Literal["alive", "stopping", "silent"]


def sign_of(heartbeat: Mapping[str, Any]) -> Sign:
    """What a heartbeat shows."""
    return "stopping" if heartbeat.get("status") == "stopping" else "alive"


def phases_after(before: AgentPhase, sign: Sign) -> tuple[AgentPhase, ...]:
    """The phases an agent goes through from ``before``, in order; none if nothing changes.

    Whoever says that it stops has been running, whatever was seen of it before.
    """
    if sign == "alive":
        return () if before == "running" else ("running",)
    if sign == "stopping":
        match before:
            case "stopped":
                return ()
            case "running":
                return ("stopped",)
            case _:
                return ("running", "stopped")
    return ("failed",) if before == "running" else ()


def is_silent(silence_s: float, heartbeat_s: int) -> bool:
    """Whether nobody can have heard the agent for too long."""
    return silence_s > PATIENCE * heartbeat_s


def cause_of(sign: Sign, *, heartbeat_s: int, silence_s: float, status: str) -> str:
    """Why, for people."""
    if sign == "alive":
        return "a heartbeat"
    if sign == "stopping":
        return "it said that it stops"
    if status == "revoked":
        return "it was revoked, and is silent"
    return f"no heartbeat for {silence_s:.0f} s, where one is due every {heartbeat_s} s"
