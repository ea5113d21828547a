"""The README's service can be built, and works."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from countersign_chassis import Delivery, ServiceSettings
from countersign_contracts.approval_commands import ApprovalView, GetApproval
from countersign_contracts.errors import CountersignError

README = Path(__file__).parents[1] / "README.md"


class Desk:
    """Stands for what a service does."""

    def __init__(self, *_: object) -> None:
        self.told: str | None = "not yet"

    async def actions(self, batch: list[Delivery]) -> None:
        """Nothing arrives."""

    async def get(self, command: GetApproval) -> ApprovalView:
        raise CountersignError(f"there is no approval {command.approval_id}", code="not_found")

    async def watch_deadlines(self) -> None:
        """Ends at once, as a loop may."""

    def unready(self) -> str | None:
        return self.told


async def test_the_service_in_the_readme_works(stack: Any) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    made: dict[str, Any] = {"Desk": Desk}
    exec(compile(code, str(README), "exec"), made)
    every = {name: value for name, value in stack.settings("approvals").items() if name in ServiceSettings.model_fields}
    service = made["build"](ServiceSettings(**every, log_level="warning"))
    assert service.unready() == ["not started", "desk: not yet"]
    await service.start()
    try:
        assert service.unready() == ["desk: not yet"]
        gateway = await stack.bus("gateway")
        try:
            await gateway.ask(GetApproval(approval_id="apr_none"))
        except CountersignError as error:
            assert error.code == "not_found"
        else:
            raise AssertionError("it was answered with something else")
    finally:
        await service.stop()
