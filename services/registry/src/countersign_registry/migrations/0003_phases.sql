-- How often an agent says that it lives; and what it is seen to do, which is apart from what people order (`status`).
-- One row an agent, written when that changes, never for a heartbeat.
ALTER TABLE agent ADD COLUMN heartbeat_s int NOT NULL DEFAULT 30 CHECK (heartbeat_s > 0);

CREATE TABLE phase (
    agent_id text COLLATE "C" PRIMARY KEY REFERENCES agent,
    phase    text NOT NULL CHECK (phase IN ('registered', 'running', 'stopped', 'failed')),
    since    timestamptz NOT NULL,
    cause    text NOT NULL
);
CREATE INDEX phase_by_phase ON phase (phase, agent_id);
