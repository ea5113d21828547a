-- What an agent that registered itself said of itself.
ALTER TABLE agent ADD COLUMN agent_type text COLLATE "C";
ALTER TABLE agent ADD COLUMN version text;
CREATE INDEX agent_by_type ON agent (agent_type, agent_id);

-- Packages of agents as they were found last, one of a type.
CREATE TABLE package (
    agent_type    text COLLATE "C" PRIMARY KEY,
    body          text NOT NULL,          -- JSON
    discovered_at timestamptz NOT NULL,
    changed_at    timestamptz NOT NULL
);
-- What is wrong in the folders with packages, as the last scan found it.
CREATE TABLE package_scan (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    folders   text[] NOT NULL,
    errors    text NOT NULL               -- JSON
);

-- What agents register with. Of the secret the SHA-256 is kept, of the NATS user that can only register its public key.
CREATE TABLE discovery_token (
    token_id     text COLLATE "C" PRIMARY KEY,
    sha256       text NOT NULL UNIQUE,
    nkey         text NOT NULL UNIQUE,
    agent_type   text NOT NULL,
    owner_team   text NOT NULL,
    owner_oncall text,
    profile      text NOT NULL,
    environments text[] NOT NULL,
    heartbeat_s  int NOT NULL,
    uses         int NOT NULL CHECK (uses > 0),
    used         int NOT NULL DEFAULT 0 CHECK (used BETWEEN 0 AND uses),
    created_at   timestamptz NOT NULL,
    created_by   text NOT NULL,
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    revoked_by   text
);

-- Who registered with a token, by the key it registered with: again with both is the same agent.
CREATE TABLE registration (
    nkey          text PRIMARY KEY,
    token_id      text COLLATE "C" NOT NULL REFERENCES discovery_token,
    agent_id      text COLLATE "C" NOT NULL REFERENCES agent,
    registered_at timestamptz NOT NULL
);
CREATE INDEX registration_by_token ON registration (token_id, registered_at);

-- Nonces that were signed, until they end by themselves: each counts once.
CREATE TABLE spent_nonce (
    nonce      text PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
CREATE INDEX spent_nonce_by_end ON spent_nonce (expires_at);
