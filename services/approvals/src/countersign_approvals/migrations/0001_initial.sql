-- An approval is for exactly one action digest. `held` is the event's body as received: what people are shown is read
-- from it, never rebuilt.
CREATE TABLE approval (
    approval_id  text PRIMARY KEY,
    request_id   uuid NOT NULL UNIQUE,
    agent_id     text NOT NULL,
    digest       text NOT NULL,
    state        text NOT NULL CHECK (state IN ('pending', 'approved', 'rejected', 'expired', 'cancelled')),
    held         bytea NOT NULL,
    requested_at timestamptz NOT NULL,
    deadline     timestamptz NOT NULL,
    resolved_at  timestamptz,
    traceparent  text
);
CREATE INDEX approval_by_time ON approval (requested_at DESC, approval_id DESC);
CREATE INDEX approval_pending_by_time ON approval (requested_at DESC, approval_id DESC) WHERE state = 'pending';
CREATE INDEX approval_due ON approval (deadline) WHERE state = 'pending';
CREATE INDEX approval_by_agent ON approval (agent_id, requested_at DESC);

-- One vote a person.
CREATE TABLE vote (
    approval_id text NOT NULL REFERENCES approval,
    voter       text NOT NULL,
    vote        text NOT NULL CHECK (vote IN ('approve', 'reject')),
    digest      text NOT NULL,
    channel     text NOT NULL,
    comment     text,
    voted_at    timestamptz NOT NULL,
    PRIMARY KEY (approval_id, voter)
);

-- Approvals whose last event may not have been published: votes and deadlines are no messages, so nothing unacked
-- remembers them. The row is written with the change and removed once the stream has the events.
CREATE TABLE unpublished (
    approval_id text PRIMARY KEY REFERENCES approval,
    since       timestamptz NOT NULL
);
