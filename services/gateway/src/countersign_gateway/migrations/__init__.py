"""Forward-only SQL migrations of the gateway's schema."""
