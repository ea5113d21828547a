"""A command counts near the time at which it was made; whoever is refused for it is told to come back, and why."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from countersign_contracts.command import Done, read_reply
from countersign_contracts.commands import CancelAction
from countersign_contracts.envelope import seal
from countersign_contracts.errors import CountersignError
from countersign_contracts.ids import new_id
from countersign_contracts.model import now


@pytest.mark.parametrize("seconds", [-100, 100])
async def test_a_command_of_another_time_is_not_carried_out(stack: Any, seconds: int) -> None:
    """Found by faults: a service whose clock was off had its callers told that they were forbidden to."""
    carried_out: list[CancelAction] = []
    policy, gateway = await stack.bus("policy"), await stack.bus("gateway")

    async def cancel(command: CancelAction) -> Done:
        carried_out.append(command)
        return Done()

    await policy.answer(CancelAction, cancel)
    await policy.connection.barrier()
    command = CancelAction(request_id=new_id(), agent_id="worker-1", by="person:alice", reason=None)

    async def sent(off_s: float) -> bytes:
        time = now() + timedelta(seconds=off_s)
        rpc, key = CancelAction.rpc, stack.key("gateway")
        envelope = seal(command.to_bytes(), id=new_id(), type=rpc.type, subject=rpc.subject, time=time, key=key)
        reply = await gateway.connection.request(rpc.subject, envelope.body, envelope.headers(), 5)
        body: bytes = reply.data
        return body

    why = rf"service gateway made its command {-seconds} s ago by the clock of service policy"
    with pytest.raises(CountersignError, match=why) as refused:
        read_reply(await sent(seconds), Done)
    assert refused.value.code == "unavailable"
    assert carried_out == []
    read_reply(await sent(seconds / 2), Done)
    assert carried_out == [command]
