"""How often agents say that they are there. Apart from the fleet's models, so that a command knows it without them."""

from __future__ import annotations

#: Seconds between two heartbeats of an agent, where its owner says nothing else.
HEARTBEAT_S = 30
