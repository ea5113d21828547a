-- What approval rules ask for.
ALTER TABLE person ADD COLUMN groups text[] NOT NULL DEFAULT '{}';

-- Who a person is in a channel, as they confirmed it. Nobody in a channel is two people.
CREATE TABLE channel_identity (
    channel     text NOT NULL,
    identity    text COLLATE "C" NOT NULL,
    person      text COLLATE "C" NOT NULL REFERENCES person,
    enrolled_at timestamptz NOT NULL,
    PRIMARY KEY (channel, identity)
);
CREATE INDEX channel_identity_of_person ON channel_identity (person);

-- The code that a person may type in a channel; a newer one takes its place. Kept as a keyed digest.
CREATE TABLE enrolment (
    person     text COLLATE "C" NOT NULL REFERENCES person,
    channel    text NOT NULL,
    digest     bytea NOT NULL UNIQUE,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (person, channel)
);

-- One-time code generators (RFC 6238). `secret` counts; `pending` will, once a code of it was given. Both encrypted.
CREATE TABLE totp (
    person        text COLLATE "C" PRIMARY KEY REFERENCES person,
    secret        bytea,
    pending       bytea,
    pending_until timestamptz,
    last_step     bigint NOT NULL DEFAULT 0    -- of the last code that was taken: none up to it is taken again
);

-- Wrong codes in a row: `totp:<person>`, `enrolment:<channel>:<identity>`, and `enrolment` for all of them.
CREATE TABLE wrong_tries (
    about        text COLLATE "C" PRIMARY KEY,
    wrong        int NOT NULL,
    last_at      timestamptz NOT NULL,
    locked_until timestamptz
);
CREATE INDEX wrong_tries_by_age ON wrong_tries (last_at);
