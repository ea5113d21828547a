-- Alert rules in force. What they watch is written by whichever registry evaluates: `watching_since` is where it began
-- to look without a gap, `evaluated_at` when it looked last.
CREATE TABLE alert_rule (
    name           text COLLATE "C" PRIMARY KEY,
    version        int NOT NULL CHECK (version > 0),
    body           text NOT NULL,         -- JSON
    evaluated_at   timestamptz,
    watching_since timestamptz
);
-- Versions go on where a rule of that name was removed.
CREATE TABLE alert_rule_history (
    name    text COLLATE "C" NOT NULL,
    version int NOT NULL,
    body    text,                         -- JSON; null: removed
    by      text NOT NULL,
    at      timestamptz NOT NULL,
    PRIMARY KEY (name, version)
);

-- Agents of which a rule's condition holds, and not for long enough yet.
CREATE TABLE alert_pending (
    rule     text COLLATE "C" NOT NULL REFERENCES alert_rule ON DELETE CASCADE,
    agent_id text COLLATE "C" NOT NULL,
    since    timestamptz NOT NULL,
    PRIMARY KEY (rule, agent_id)
);

-- Alerts, those that are resolved too. What they say of their rule and agent is of when they were raised: the rule may
-- be gone. `clearing_since`: the condition holds no more, and not for long enough yet.
CREATE TABLE alert (
    alert_id       text COLLATE "C" PRIMARY KEY,
    rule           text COLLATE "C" NOT NULL,
    rule_version   int NOT NULL,
    severity       text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    description    text NOT NULL,
    agent_id       text COLLATE "C" NOT NULL,
    owner_team     text NOT NULL,
    summary        text NOT NULL,
    value          float8,
    routes         text[] NOT NULL,
    since          timestamptz NOT NULL,
    raised_at      timestamptz NOT NULL,
    clearing_since timestamptz,
    acked_by       text,
    acked_at       timestamptz,
    ack_comment    text,
    resolved_at    timestamptz,
    resolution     text,
    revision       int NOT NULL DEFAULT 1,
    CHECK ((resolved_at IS NULL) = (resolution IS NULL)),
    CHECK ((acked_at IS NULL) = (acked_by IS NULL))
);
CREATE UNIQUE INDEX alert_active ON alert (rule, agent_id) WHERE resolved_at IS NULL;
CREATE INDEX alert_by_agent ON alert (agent_id, alert_id);
CREATE INDEX alert_by_rule ON alert (rule, alert_id);
CREATE INDEX alert_by_age ON alert (resolved_at) WHERE resolved_at IS NOT NULL;

-- What rules count of logs, all agents together.
CREATE INDEX agent_log_serious ON agent_log (received_at, agent_id, severity) WHERE severity >= 2;
