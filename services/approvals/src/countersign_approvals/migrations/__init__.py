"""Forward-only SQL migrations of the approvals' schema."""
