"""Whatever an agent names its arguments, its action ends: each of these never did, and held a place for ever."""

from __future__ import annotations

from typing import Any

HOSTILE: dict[str, dict[str, Any]] = {
    "U+0000 in a name, which PostgreSQL keeps in no text": {"a\0b": 1},
    "more names than a denial can repeat on the bus": {f"name_{n}": n for n in range(9000)},
    "a name of 40,000 characters that are six bytes each": {"\x01" * 40_000: 1},
}


async def test_an_action_with_hostile_names_of_arguments_is_denied_and_ends(world: Any) -> None:
    for what, hostile in HOSTILE.items():
        asked = await world.submit("write_thing", {"thing_id": 1, "status": "open", **hostile}, wait=20)
        # the caller hears of the event; the row is what ends the action
        assert await world.until(asked["request_id"], "denied", seconds=30) == "denied", what
        view = await world.ok("GET", f"/api/v1/actions/{asked['request_id']}")
        assert "does not allow the field" in view["reason"] and len(view["reasons"]) <= 21, what
        assert all(len(reason["message"]) <= 2001 for reason in view["reasons"]), what
    assert (await world.ok("GET", "/api/v1/deadletters"))["items"] == []
    assert not world.downstream.calls
