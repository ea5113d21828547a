-- The catalogue: each tool as it is now, and every version that ever was.
CREATE TABLE tools (
    name text PRIMARY KEY,
    version int NOT NULL,
    body bytea NOT NULL
);

CREATE TABLE tool_versions (
    name text NOT NULL,
    version int NOT NULL,
    body bytea NOT NULL,
    change_id text NOT NULL,
    PRIMARY KEY (name, version)
);

-- One row: how often the catalogue changed. A change is refused if this moved since it was prepared.
CREATE TABLE catalogue (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    revision bigint NOT NULL
);
INSERT INTO catalogue (revision) VALUES (0);

-- What a committed change answered, so that committing it again answers the same.
CREATE TABLE catalogue_changes (
    change_id text PRIMARY KEY,
    plan bytea NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT now()
);

-- Kill-switch orders. The same order by the same person is one row while it is in force.
CREATE TABLE stops (
    stop_id text PRIMARY KEY,
    scope text NOT NULL,
    reason text NOT NULL,
    set_by text NOT NULL,
    set_at timestamptz NOT NULL,
    lifted_by text,
    lifted_at timestamptz
);
CREATE UNIQUE INDEX stops_in_force ON stops (scope, set_by, md5(reason)) WHERE lifted_at IS NULL;

-- What a command decided and the bus has yet to hear: written in the command's transaction, deleted once published.
CREATE TABLE announcements (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type text NOT NULL,
    body bytea NOT NULL
);

-- Executor processes, each under a name of its own, and when each last showed that it lives.
CREATE TABLE owners (
    owner text PRIMARY KEY,
    seen_at timestamptz NOT NULL
);

-- One row an action: started (committed before the call), then how it ended. The fence counts its claims.
CREATE TABLE executions (
    request_id uuid PRIMARY KEY,
    execution_id text NOT NULL,
    digest text NOT NULL,
    state text NOT NULL CHECK (state IN ('authorised', 'started', 'succeeded', 'failed', 'unknown', 'refused')),
    fence int NOT NULL,
    owner text,
    claimed_at timestamptz,
    event bytea,
    finished_at timestamptz,
    reconciled text CHECK (reconciled IN ('succeeded', 'failed')),
    reconciled_event bytea,
    CHECK ((event IS NULL) = (state IN ('authorised', 'started')))
);
-- The few outcomes that nobody knows.
CREATE INDEX executions_unknown ON executions (finished_at) WHERE state = 'unknown' AND reconciled IS NULL;

-- Claims a batch in one round trip: stop rows and the tool's version are read in the transaction that commits the claim.
-- The lock makes a stop wait for the claims under way; what is read below was committed before it was taken.
-- Scopes are separated by spaces, which no scope can hold.
CREATE FUNCTION claim_executions(
    p_owner text, p_requests uuid[], p_executions text[], p_digests text[], p_tools text[], p_versions int[], p_scopes text[]
) RETURNS TABLE (verdict text, fence int, execution_id text, stop_id text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext(current_schema() || '.stops'));
    RETURN QUERY
    WITH asked AS (
        SELECT * FROM unnest(p_requests, p_executions, p_digests, p_tools, p_versions, p_scopes) WITH ORDINALITY
            AS a (request_id, execution_id, digest, tool, version, scopes, place)
    ), judged AS (
        SELECT a.*, stop.stop_id, tools.name IS NULL AS changed
          FROM asked a
          LEFT JOIN tools ON tools.name = a.tool AND tools.version = a.version
          LEFT JOIN LATERAL (
              SELECT s.stop_id FROM stops s
               WHERE s.lifted_at IS NULL AND s.scope = ANY (string_to_array(a.scopes, ' '))
               ORDER BY s.set_at LIMIT 1
          ) stop ON true
    ), claimed AS (
        INSERT INTO executions AS e (request_id, execution_id, digest, state, fence, owner, claimed_at)
        SELECT request_id, execution_id, digest, 'started', 1, p_owner, clock_timestamp()
          FROM judged WHERE stop_id IS NULL AND NOT changed
        ON CONFLICT (request_id) DO UPDATE
           SET state = 'started', fence = e.fence + 1, owner = p_owner, claimed_at = clock_timestamp()
         WHERE e.state = 'authorised' AND e.digest = excluded.digest
        RETURNING e.request_id, e.fence, e.execution_id
    )
    SELECT CASE WHEN judged.stop_id IS NOT NULL THEN 'stopped'
                WHEN judged.changed THEN 'tool_changed'
                WHEN claimed.fence IS NULL THEN 'exists'
                ELSE 'claimed' END,
           claimed.fence, claimed.execution_id, judged.stop_id
      FROM judged LEFT JOIN claimed USING (request_id)
     ORDER BY judged.place;
END
$$;
