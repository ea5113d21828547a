-- Approval rules and webhooks as declared, each with its version; `declared` counts the changes, so that two that were
-- prepared at once do not both commit.
CREATE TABLE declared (
    the_one  boolean PRIMARY KEY DEFAULT true CHECK (the_one),
    revision bigint NOT NULL
);
INSERT INTO declared (revision) VALUES (0);

CREATE TABLE declaration (
    kind      text NOT NULL CHECK (kind IN ('approval_rule', 'webhook')),
    name      text NOT NULL,
    version   int NOT NULL,
    body      jsonb NOT NULL,
    change_id text NOT NULL,
    PRIMARY KEY (kind, name)
);

CREATE TABLE declaration_history (
    kind      text NOT NULL,
    name      text NOT NULL,
    version   int NOT NULL,
    body      jsonb NOT NULL,
    change_id text NOT NULL,
    PRIMARY KEY (kind, name, version)
);

-- What a change answered when it was committed: again is answered the same.
CREATE TABLE declared_change (
    change_id text PRIMARY KEY,
    plan      bytea NOT NULL
);

-- Every event, signed, as it goes into its stream: written in the transaction of what it tells of, so that no crash
-- loses it, and kept with its approval, so that a repeat tells the same.
CREATE TABLE event (
    seq          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id     text NOT NULL UNIQUE,
    approval_id  text,
    subject      text NOT NULL,
    stream       text NOT NULL,
    type         text NOT NULL,
    about        text NOT NULL,
    time         text NOT NULL,
    keyid        text NOT NULL,
    signature    bytea NOT NULL,
    body         bytea NOT NULL,
    traceparent  text,
    written_at   timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz
);
CREATE INDEX event_of_approval ON event (approval_id, seq) WHERE approval_id IS NOT NULL;
CREATE INDEX event_unpublished ON event (written_at) WHERE published_at IS NULL;
