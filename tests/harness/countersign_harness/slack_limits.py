"""What the fake Slack refuses for its form alone: the limits that Slack documents."""

from __future__ import annotations

import json
from typing import Any


def fault_of(method: str, given: Any) -> str | None:
    """What Slack refuses for its form alone: its documented limits."""
    blocks = (given.get("view") or given).get("blocks") or []
    if len(blocks) > (100 if method == "views.open" else 50):
        return "invalid_blocks"
    view = given.get("view") or {}
    named = [view[name]["text"] for name in ("title", "submit", "close") if name in view]
    if len(view.get("private_metadata", "")) > 3000 or any(len(text) > 24 for text in named):
        return "invalid_arguments"
    for block in blocks:
        if block["type"] == "input" and (fault := _field_fault(block)):
            return fault
        texts = [block.get("text"), *block.get("fields", ())]
        limit = 150 if block["type"] == "header" else 3000
        sizes = [(len(text["text"]), limit if text is block.get("text") else 2000) for text in texts if text]
        pressed = [*block.get("elements", ()), *([block["accessory"]] if "accessory" in block else [])]
        sizes += [(len(e["value"]), 2000) for e in pressed if "value" in e]
        sizes += [(len(e["text"]["text"]), 75) for e in pressed if e["type"] == "button"]
        if len(block.get("fields", ())) > 10 or any(not 0 < size <= most for size, most in sizes):
            return "invalid_blocks"
    if len({block["block_id"] for block in blocks if "block_id" in block}) < sum("block_id" in b for b in blocks):
        return "invalid_blocks"
    if len(given.get("text", "")) > 40_000 or (blocks and len(json.dumps(blocks)) > 60_000):
        return "msg_too_long"
    return None


def _field_fault(block: dict[str, Any]) -> str | None:
    element = block["element"]
    sizes = [(len(block["label"]["text"]), 2000), (len(block["block_id"]), 255), (len(element["action_id"]), 255)]
    sizes += [(len(block["hint"]["text"]), 2000)] if "hint" in block else []
    if "initial_value" in element:
        sizes.append((len(element["initial_value"]), min(3000, element.get("max_length", 3000))))
    if "options" in element:
        sizes.append((len(element["options"]), 10))
        sizes += [(len(each["text"]["text"]), 75) for each in element["options"]]
        sizes += [(len(each["value"]), 150) for each in element["options"]]
    return None if all(0 < size <= most for size, most in sizes) else "invalid_arguments"
