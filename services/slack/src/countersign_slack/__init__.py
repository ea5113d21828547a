"""Slack: approvals asked for and decided in channels, and the commands of `/countersign`."""
