-- The ledger: one row an entry, exactly the fields that its hash is over, and what it is found by.

CREATE TABLE entries (
    seq         bigint      PRIMARY KEY CHECK (seq > 0),
    -- where it was received from
    stream      text        COLLATE "C" NOT NULL,
    epoch       bigint      NOT NULL,
    stream_seq  bigint      NOT NULL,
    -- the event as received
    event_id    text        COLLATE "C" NOT NULL,
    type        text        COLLATE "C" NOT NULL,
    source      text        COLLATE "C" NOT NULL,
    subject     text        COLLATE "C" NOT NULL,
    time        text        COLLATE "C" NOT NULL,
    keyid       text        COLLATE "C" NOT NULL,
    signature   bytea       NOT NULL,
    recorded_at text        COLLATE "C" NOT NULL,
    body        bytea       NOT NULL,
    -- its place in the chain
    prev_hash   bytea       NOT NULL,
    hash        bytea       NOT NULL,
    -- what it is found by; no hash is over these: they are read out of the fields above
    at          timestamptz NOT NULL,
    agent_id    text        COLLATE "C",
    session_id  text        COLLATE "C",
    request_id  text        COLLATE "C",
    CONSTRAINT entries_event_id UNIQUE (event_id)
) WITH (
    -- bodies of a few kilobytes stay in the row, uncompressed: compressing them would cost more than the hashing
    toast_tuple_target = 8160,
    -- rows are never updated or deleted, so vacuum has only to freeze them and to mark pages all-visible
    autovacuum_vacuum_insert_scale_factor = 0.05
);

CREATE INDEX entries_agent ON entries (agent_id, seq) WHERE agent_id IS NOT NULL;
CREATE INDEX entries_session ON entries (session_id, seq) WHERE session_id IS NOT NULL;
CREATE INDEX entries_request ON entries (request_id, seq) WHERE request_id IS NOT NULL;
CREATE INDEX entries_type ON entries (type, seq);
CREATE INDEX entries_at ON entries (at);
-- how far each stream is on record
CREATE INDEX entries_place ON entries (stream, epoch, stream_seq);

-- Signed statements over the head. The same lines stand in a file outside the database, and on the bus.
CREATE TABLE checkpoints (
    seq        bigint PRIMARY KEY CHECK (seq >= 0),
    deployment text   COLLATE "C" NOT NULL,
    hash       bytea  NOT NULL,
    time       text   COLLATE "C" NOT NULL,
    keyid      text   COLLATE "C" NOT NULL,
    signature  bytea  NOT NULL
);

-- A seatbelt, not a lock: the role owns these tables and could drop the triggers, and so could a superuser. What proves
-- that nothing was changed is the chain with its checkpoints outside.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
