"""Forward-only SQL migrations of the Slack service's schema."""
