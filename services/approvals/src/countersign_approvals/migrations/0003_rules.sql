-- Which rule people are asked by (as it was then), how far it is, and when something happens by itself.
ALTER TABLE approval DROP CONSTRAINT approval_state_check;
ALTER TABLE approval ADD CONSTRAINT approval_state_check
    CHECK (state IN ('pending', 'approved', 'rejected', 'expired', 'cancelled', 'amended'));
ALTER TABLE approval
    ADD COLUMN tool         text,
    ADD COLUMN env          text,
    ADD COLUMN risk         text,
    ADD COLUMN asked_by     text NOT NULL DEFAULT '{}',
    -- reminders and escalations in the order of their times, and how many of them have happened
    ADD COLUMN agenda       text NOT NULL DEFAULT '{}',
    ADD COLUMN agenda_done  int NOT NULL DEFAULT 0,
    ADD COLUMN next_at      timestamptz,
    ADD COLUMN escalated_to text[] NOT NULL DEFAULT '{}',
    ADD COLUMN overdue      boolean NOT NULL DEFAULT false,
    -- whom the open stage asks (`anyone`, `group:…`, `person:…`), and whose own it is, in lower case
    ADD COLUMN asks         text[] NOT NULL DEFAULT '{anyone}',
    ADD COLUMN barred       text[] NOT NULL DEFAULT '{}',
    -- what an approver made of it
    ADD COLUMN amendment    text;

-- `json`, not `jsonb`: an argument may hold an escaped NUL
UPDATE approval SET
    tool = convert_from(held, 'UTF8')::json -> 'action' ->> 'tool',
    env = convert_from(held, 'UTF8')::json -> 'action' ->> 'env',
    risk = convert_from(held, 'UTF8')::json -> 'decision' ->> 'risk',
    next_at = CASE WHEN state = 'pending' THEN deadline END;
ALTER TABLE approval ALTER COLUMN tool SET NOT NULL, ALTER COLUMN env SET NOT NULL;

DROP INDEX approval_due;
CREATE INDEX approval_due ON approval (next_at) WHERE state = 'pending';
CREATE INDEX approval_asks ON approval USING gin (asks) WHERE state = 'pending';

-- A person has one vote that counts; voided ones stay. `body` is the vote as it was published.
ALTER TABLE vote
    ADD COLUMN nth       int NOT NULL DEFAULT 1,
    ADD COLUMN body      text,
    ADD COLUMN voided_at timestamptz;
ALTER TABLE vote DROP CONSTRAINT vote_pkey;
ALTER TABLE vote ADD PRIMARY KEY (approval_id, voter, nth);
CREATE UNIQUE INDEX vote_that_counts ON vote (approval_id, voter) WHERE voided_at IS NULL;
CREATE INDEX vote_of_person ON vote (voter) WHERE voided_at IS NULL;

-- How many votes on an approval were refused in a minute: the first few are on the ledger.
CREATE TABLE refusal (
    approval_id text NOT NULL REFERENCES approval,
    minute      timestamptz NOT NULL,
    n           int NOT NULL,
    PRIMARY KEY (approval_id, minute)
);
CREATE INDEX refusal_by_time ON refusal (minute);

-- What approvers allowed ahead. `votes` are the ones it came of, which are cast again for each use.
CREATE TABLE standing (
    standing_id text PRIMARY KEY,
    approval_id text NOT NULL UNIQUE REFERENCES approval,
    agent_id    text NOT NULL,
    tool        text NOT NULL,
    env         text NOT NULL,
    resource    text NOT NULL,
    risk        text,
    granted_by  text[] NOT NULL,
    votes       text NOT NULL,
    granted_at  timestamptz NOT NULL,
    until       timestamptz NOT NULL,
    max_uses    int NOT NULL,
    used        int NOT NULL DEFAULT 0,
    revoked_by  text,
    revoked_at  timestamptz,
    CHECK (used <= max_uses)
);
CREATE INDEX standing_by_time ON standing (granted_at DESC, standing_id DESC);
CREATE INDEX standing_in_force ON standing (agent_id, tool, env) WHERE revoked_at IS NULL;
CREATE INDEX standing_of_people ON standing USING gin (granted_by) WHERE revoked_at IS NULL;

CREATE TABLE standing_use (
    approval_id text PRIMARY KEY REFERENCES approval,
    standing_id text NOT NULL REFERENCES standing,
    used_at     timestamptz NOT NULL
);
