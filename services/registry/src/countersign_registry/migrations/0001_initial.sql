-- An agent. `revision` grows by one with every change that others see.
CREATE TABLE agent (
    agent_id      text COLLATE "C" PRIMARY KEY,
    name          text NOT NULL,
    owner_team    text NOT NULL,
    owner_oncall  text,
    profile       text NOT NULL,
    environments  text[] NOT NULL,
    status        text NOT NULL CHECK (status IN ('active', 'paused', 'revoked')),
    status_by     text NOT NULL,
    status_reason text,
    status_at     timestamptz NOT NULL,
    revision      int NOT NULL CHECK (revision > 0),
    created_by    text NOT NULL,
    created_at    timestamptz NOT NULL
);
CREATE INDEX agent_by_team ON agent (owner_team, agent_id);

-- A credential's public part, kept after it is void: a NATS user must stay revoked for as long as its JWT lasts.
CREATE TABLE credential (
    credential_id text COLLATE "C" PRIMARY KEY,
    agent_id      text COLLATE "C" NOT NULL REFERENCES agent,
    kind          text NOT NULL CHECK (kind IN ('http', 'nats')),
    sha256        text UNIQUE,            -- http: of the bearer token
    nkey          text UNIQUE,            -- nats: the user's public key
    issued_at     timestamptz NOT NULL,
    issued_by     text NOT NULL,
    expires_at    timestamptz,
    voided_at     timestamptz,
    voided_by     text,
    CHECK (CASE kind WHEN 'http' THEN sha256 IS NOT NULL AND nkey IS NULL ELSE nkey IS NOT NULL AND sha256 IS NULL END)
);
CREATE INDEX credential_live ON credential (agent_id) WHERE voided_at IS NULL;
CREATE INDEX credential_voided_nats ON credential (nkey) WHERE kind = 'nats' AND voided_at IS NOT NULL;

-- What an agent last said of itself; apart from `agent`, since it is written all the time.
CREATE TABLE heartbeat (
    agent_id  text COLLATE "C" PRIMARY KEY REFERENCES agent,
    last_seen timestamptz NOT NULL,
    body      text NOT NULL               -- JSON
) WITH (fillfactor = 70);

CREATE TABLE person (
    name         text COLLATE "C" PRIMARY KEY,
    roles        text[] NOT NULL,
    token_sha256 text NOT NULL UNIQUE,
    status       text NOT NULL CHECK (status IN ('active', 'removed')),
    revision     int NOT NULL CHECK (revision > 0),
    created_at   timestamptz NOT NULL
);

-- Events of committed changes, sealed as they are published. They stay for a while after the stream acknowledged them:
-- a nats-server that is killed may forget what it had acknowledged right before.
CREATE TABLE outbox (
    seq          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject      text NOT NULL,           -- NATS subject
    stream       text NOT NULL,
    event_id     text NOT NULL,
    type         text NOT NULL,
    source       text NOT NULL,
    about        text NOT NULL,           -- ce-subject
    time         text NOT NULL,
    keyid        text NOT NULL,
    signature    bytea NOT NULL,
    body         bytea NOT NULL,
    published_at timestamptz              -- acknowledged; null: to be published
);
CREATE INDEX outbox_pending ON outbox (seq) WHERE published_at IS NULL;

-- Declared changes that were committed, so that committing one again answers the same.
CREATE TABLE declared_change (
    change_id    text PRIMARY KEY,
    plan         text NOT NULL,           -- JSON
    committed_at timestamptz NOT NULL
);

-- The JWT of account AGENTS minted last: the next one must be issued later.
CREATE TABLE agents_account (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    jwt       text NOT NULL
);
