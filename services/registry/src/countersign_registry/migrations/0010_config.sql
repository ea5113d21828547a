-- Layers of agents' configuration, every version of each: `type:…`, `agent:…`, `runtime:…`. The highest one counts.
CREATE TABLE config (
    scope           text COLLATE "C" NOT NULL,
    version         int NOT NULL CHECK (version > 0),
    body            text NOT NULL,            -- JSON
    settings_schema text,                     -- JSON Schema, of a type
    by              text NOT NULL,
    at              timestamptz NOT NULL,
    reason          text NOT NULL,
    PRIMARY KEY (scope, version)
);

-- What an agent said last of a configuration.
CREATE TABLE config_applied (
    agent_id text COLLATE "C" PRIMARY KEY REFERENCES agent,
    digest   text NOT NULL,
    result   text NOT NULL CHECK (result IN ('applied', 'rejected')),
    reason   text,
    at       timestamptz NOT NULL
);
