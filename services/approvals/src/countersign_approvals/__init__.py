"""Approvals: the request to people, their votes, and what happens when nobody votes in time."""
