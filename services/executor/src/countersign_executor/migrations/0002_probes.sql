-- How often it was looked up what became of an unknown outcome, and when it is looked up next ('infinity': never).
ALTER TABLE executions
    ADD COLUMN probes int NOT NULL DEFAULT 0,
    ADD COLUMN probe_at timestamptz;
