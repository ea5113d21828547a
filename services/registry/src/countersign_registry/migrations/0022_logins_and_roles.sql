-- Of the person's record in bucket `logins`; 0: they never logged in, and have none.
ALTER TABLE person ADD COLUMN logins_revision int NOT NULL DEFAULT 0;

-- A login that has not ended: one that did is in the ledger alone.
CREATE TABLE login (
    login_id       text COLLATE "C" PRIMARY KEY,
    person         text COLLATE "C" NOT NULL REFERENCES person,
    proof          text NOT NULL,
    refresh_sha256 text NOT NULL UNIQUE,      -- of the refresh token that counts
    started_at     timestamptz NOT NULL,
    refreshed_at   timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL
);
CREATE INDEX login_of_person ON login (person, login_id);

-- Refresh tokens that were exchanged: who brings one has a copy of what somebody else used, or was robbed of it.
CREATE TABLE spent_refresh (
    sha256   text PRIMARY KEY,
    login_id text COLLATE "C" NOT NULL REFERENCES login ON DELETE CASCADE,
    spent_at timestamptz NOT NULL
);
CREATE INDEX spent_refresh_of_login ON spent_refresh (login_id);

-- Roles that are declared; the built-in ones are in the code.
CREATE TABLE role (
    name        text COLLATE "C" PRIMARY KEY,
    description text NOT NULL,
    permissions text[] NOT NULL
);

-- Whose roles are said by the OpenID provider's groups: who was added by logging in, and no admin changed since.
ALTER TABLE person ADD COLUMN provisioned boolean NOT NULL DEFAULT false;

-- The account of the OpenID provider that a person first logged in with: an address that is given to somebody else there
-- does not make them this person.
CREATE TABLE provider_identity (
    person   text COLLATE "C" PRIMARY KEY REFERENCES person,
    issuer   text NOT NULL,
    subject  text NOT NULL,
    bound_at timestamptz NOT NULL,
    UNIQUE (issuer, subject)
);
