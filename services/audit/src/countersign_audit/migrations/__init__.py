"""Forward-only SQL migrations of audit's schema."""
