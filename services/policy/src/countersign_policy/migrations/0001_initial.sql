-- The policy service's tables. Authority: what is declared, what was decided, what guardrails have counted.

-- The one policy set in force. A decision is written only under the version it was made with.
CREATE TABLE policy_set (
    the_one boolean PRIMARY KEY DEFAULT true CHECK (the_one),
    version text NOT NULL,
    changed_at timestamptz NOT NULL
);

-- Profiles (canonical JSON) and hand-written policies (Cedar text), as they are now.
CREATE TABLE declaration (
    kind text NOT NULL CHECK (kind IN ('profile', 'policy')),
    name text NOT NULL,
    body text NOT NULL,
    revision int NOT NULL CHECK (revision >= 1),
    change_id text NOT NULL,
    PRIMARY KEY (kind, name)
);

-- What they were, for whoever asks what was in force.
CREATE TABLE declaration_history (
    kind text NOT NULL,
    name text NOT NULL,
    revision int NOT NULL,
    body text NOT NULL,
    change_id text NOT NULL,
    PRIMARY KEY (kind, name, revision)
);

-- Each applied change with its event, sealed; published_at is set once the stream has it.
CREATE TABLE policy_change (
    change_id text PRIMARY KEY,
    base text NOT NULL,
    version text NOT NULL,
    by text NOT NULL,
    at timestamptz NOT NULL,
    event_type text NOT NULL,
    event_time text NOT NULL,
    keyid text NOT NULL,
    signature bytea NOT NULL,
    body bytea NOT NULL,
    published_at timestamptz
);

CREATE INDEX policy_change_unpublished ON policy_change (at) WHERE published_at IS NULL;

-- One row per action: decided once. The event that told of it is kept as sealed, and told again as it is.
-- `cancelled` before any decision has no event, `cancelled` while held keeps the event that held it.
CREATE TABLE decision (
    request_id uuid PRIMARY KEY,
    agent_id text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('allow', 'deny', 'hold', 'cancelled')),
    decided_at timestamptz NOT NULL,
    policy_version text,
    event_type text,
    event_time text,
    keyid text,
    signature bytea,
    body bytea,
    refused boolean NOT NULL DEFAULT false,
    cancelled_by text,
    cancel_reason text,
    CHECK (outcome = 'cancelled' OR body IS NOT NULL)
);

-- Reservations: what an action counts towards a guardrail's counter, from its decision on, given back by deletion.
-- id orders the reservations of one counter: they are written while the counter's lock is held.
CREATE TABLE guardrail_usage (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    counter text NOT NULL,
    request_id uuid NOT NULL,
    amount numeric NOT NULL,
    at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    UNIQUE (request_id, counter)
);

CREATE INDEX guardrail_usage_window ON guardrail_usage (counter, at) INCLUDE (amount);
CREATE INDEX guardrail_usage_expiry ON guardrail_usage (expires_at);

-- Lock counters until the transaction ends, always in the same order, so that replicas wait and never deadlock.
CREATE FUNCTION lock_counters(keys text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    lock bigint;
BEGIN
    FOR lock IN SELECT DISTINCT hashtextextended(key, 0) AS h FROM unnest(keys) AS key ORDER BY h LOOP
        PERFORM pg_advisory_xact_lock(lock);
    END LOOP;
END $$;

-- For new decisions: lock the counters, then read what is true under the locks. Each statement in here has a snapshot
-- of its own, taken after the locks: in a single statement the counts would be from before the wait.
CREATE FUNCTION begin_decisions(ids uuid[], keys text[], windows_s int[], moment timestamptz)
RETURNS TABLE (version text, known uuid[], used numeric[]) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_counters(keys);
    RETURN QUERY SELECT
        (SELECT p.version FROM policy_set p),
        ARRAY(SELECT d.request_id FROM decision d WHERE d.request_id = ANY (ids)),
        ARRAY(
            SELECT coalesce(
                (SELECT sum(u.amount) FROM guardrail_usage u
                 WHERE u.counter = k.key AND u.at > moment - make_interval(secs => k.window_s)),
                0)
            FROM unnest(keys, windows_s) WITH ORDINALITY AS k (key, window_s, n) ORDER BY k.n);
END $$;

-- For a held action, which may hold a reservation already: that one is judged as of when it was made, so that what
-- others used since does not count against it. The row stays locked until the transaction ends.
CREATE FUNCTION begin_resolution(request uuid, keys text[], windows_s int[], moment timestamptz)
RETURNS TABLE (version text, held boolean, used numeric[]) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_counters(keys);
    PERFORM 1 FROM decision d WHERE d.request_id = request FOR UPDATE;
    RETURN QUERY SELECT
        (SELECT p.version FROM policy_set p),
        EXISTS (SELECT FROM decision d WHERE d.request_id = request AND d.outcome = 'hold'),
        ARRAY(
            SELECT coalesce(
                (SELECT sum(u.amount) FROM guardrail_usage u
                 WHERE u.counter = k.key
                   AND u.at > coalesce(own.at, moment) - make_interval(secs => k.window_s)
                   AND u.request_id <> request
                   AND (own.id IS NULL OR u.id < own.id)),
                0)
            FROM unnest(keys, windows_s) WITH ORDINALITY AS k (key, window_s, n)
            LEFT JOIN guardrail_usage own ON own.request_id = request AND own.counter = k.key
            ORDER BY k.n);
END $$;
