"""Real servers for tests: one PostgreSQL a session, a fresh nats-server, database and keys for each stack."""
