"""Forward-only SQL migrations of the registry's schema."""
