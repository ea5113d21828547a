-- Who was given a NATS user that can ask which agents run: of it, its public key, to have it refused before it ends.
CREATE TABLE observer (
    observer_id text COLLATE "C" PRIMARY KEY,
    nkey        text NOT NULL UNIQUE,
    created_at  timestamptz NOT NULL,
    created_by  text NOT NULL,
    expires_at  timestamptz NOT NULL,
    revoked_at  timestamptz,
    revoked_by  text
);
CREATE INDEX observer_by_end ON observer (expires_at);
