"""The tutorial is followed to the letter: its files, its commands, and what it says they print."""

from __future__ import annotations

from typing import Any

from .conftest import ROOT, free_ports


def test_the_tutorial_works_as_it_says(reader: Any) -> None:
    gateway, nats, shop, *health = free_ports(8)
    reader.instead = {
        "countersign up": f"countersign up --port {gateway} --nats-port {nats} --health-port {health[0]}",
        "8001": str(gateway),
        "4222": str(nats),
        "9000": str(shop),
    }
    reader.follow(ROOT / "docs" / "tutorial.md")
