"""The gateway: the only door for agents and people, and the list of accepted actions with their state."""
