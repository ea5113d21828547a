-- What agents tell of their work. One partition a day, made ahead and dropped whole when it is too old; what a batch
-- brought is there once, however often it comes: its partition is that of the day on which it was received.
-- `telemetry_batch` is kept for longer than the stream keeps messages, no more.
CREATE TABLE telemetry_batch (
    agent_id    text COLLATE "C" NOT NULL,
    kind        text COLLATE "C" NOT NULL CHECK (kind IN ('logs', 'metrics')),
    batch       text COLLATE "C" NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (agent_id, kind, batch)
);
CREATE INDEX telemetry_batch_by_age ON telemetry_batch (received_at);

CREATE TABLE agent_log (
    agent_id    text COLLATE "C" NOT NULL,
    at          timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    batch       text COLLATE "C" NOT NULL,
    place       int NOT NULL,
    severity    smallint NOT NULL CHECK (severity BETWEEN 0 AND 4),  -- debug, info, warning, error, critical
    text        text NOT NULL,
    logger      text,
    fields      text,                     -- JSON
    request_id  uuid
) PARTITION BY RANGE (received_at);
CREATE INDEX agent_log_newest ON agent_log (agent_id, at DESC, batch DESC, place DESC);
-- few among many, and what is looked for first
CREATE INDEX agent_log_troubles ON agent_log (agent_id, at DESC, batch DESC, place DESC) WHERE severity >= 2;

CREATE TABLE agent_metrics (
    agent_id               text COLLATE "C" NOT NULL,
    at                     timestamptz NOT NULL,
    received_at            timestamptz NOT NULL,
    batch                  text COLLATE "C" NOT NULL,
    interval_s             float8 NOT NULL CHECK (interval_s > 0),
    events_succeeded       bigint NOT NULL,
    events_failed          bigint NOT NULL,
    processing_s           float8 NOT NULL,
    cpu_s                  float8,
    memory_bytes           bigint,
    disk_read_bytes        bigint,
    disk_written_bytes     bigint,
    network_received_bytes bigint,
    network_sent_bytes     bigint,
    own                    text           -- JSON: the agent's own metrics
) PARTITION BY RANGE (received_at);
CREATE INDEX agent_metrics_newest ON agent_metrics (agent_id, at DESC, batch DESC);
CREATE INDEX agent_metrics_by_age ON agent_metrics (received_at);
