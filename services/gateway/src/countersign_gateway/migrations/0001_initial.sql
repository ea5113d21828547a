-- An accepted action. The row is committed before anyone is told `accepted`; `event_*` is the signed event as published,
-- so that re-driving sends exactly the same bytes.
CREATE TABLE action (
    request_id      uuid PRIMARY KEY,
    agent_id        text NOT NULL,
    session_id      text,
    env             text NOT NULL,
    tool            text NOT NULL,
    tool_version    int NOT NULL,
    digest          text NOT NULL,
    state           text NOT NULL CHECK (state IN ('accepted', 'held', 'granted', 'executing', 'succeeded', 'failed',
                                                   'unknown', 'denied', 'expired', 'cancelled')),
    decision        text,
    risk            text,
    reason          text,
    reasons         text,           -- JSON
    approval_id     text,
    result          text,           -- JSON of what the agent is told
    status_code     int,
    truncated       boolean NOT NULL DEFAULT false,
    channel         text NOT NULL CHECK (channel IN ('http', 'call', 'nats')),
    idempotency_key text,
    request_sha256  bytea NOT NULL,
    event_body      bytea NOT NULL,
    event_time      text NOT NULL,
    event_keyid     text NOT NULL,
    event_signature bytea NOT NULL,
    traceparent     text,
    accepted_at     timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    drive_at        timestamptz,    -- when the sweeper looks at it again; null once it has ended
    drives          int NOT NULL DEFAULT 0,
    cancel_by       text,           -- somebody asked to cancel it and the answer is outstanding
    cancel_reason   text
);
CREATE INDEX action_by_agent ON action (agent_id, request_id);
CREATE INDEX action_by_session ON action (session_id, request_id) WHERE session_id IS NOT NULL;
CREATE INDEX action_due ON action (drive_at) WHERE drive_at IS NOT NULL;
CREATE UNIQUE INDEX action_by_key ON action (agent_id, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- A declared change on its way to its owners: validated by all, then committed by each; re-driven until all have.
CREATE TABLE change (
    change_id  text PRIMARY KEY,
    by         text NOT NULL,
    documents  text NOT NULL,       -- JSON
    bases      text NOT NULL,       -- JSON: owner -> version it was prepared on
    pending    text[] NOT NULL,     -- owners that have not committed yet
    created_at timestamptz NOT NULL
);
