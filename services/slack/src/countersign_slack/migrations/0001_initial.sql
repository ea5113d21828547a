-- Approvals that were, or are to be, shown in Slack. `looks` counts the events that asked for a look at the approval: a
-- rendering carries the number of its look, so that an older one never replaces a newer one, whichever replica made it.
CREATE TABLE approval (
    approval_id text PRIMARY KEY,
    request_id  text NOT NULL,
    looks       bigint NOT NULL DEFAULT 1,
    outcome     jsonb,
    seen_at     timestamptz NOT NULL
);
CREATE INDEX approval_by_request ON approval (request_id);
CREATE INDEX approval_by_time ON approval (seen_at);

-- The message about an approval in one channel. `content` is what is still to be sent; none: Slack shows the last one.
CREATE TABLE card (
    approval_id text NOT NULL REFERENCES approval ON DELETE CASCADE,
    channel     text NOT NULL,
    ts          text,
    look        bigint NOT NULL DEFAULT 0,
    content     text,
    sent_sha256 text,
    pending     boolean NOT NULL DEFAULT true,
    tries       int NOT NULL DEFAULT 0,
    wanted_at   timestamptz NOT NULL,
    PRIMARY KEY (approval_id, channel)
);
CREATE INDEX card_to_send ON card (channel, wanted_at) WHERE content IS NOT NULL;

-- What is said in the thread of a message, once for each event. `text` is what is still to be said; none: it was said.
CREATE TABLE note (
    note_id     bigint GENERATED ALWAYS AS IDENTITY,
    approval_id text NOT NULL,
    channel     text NOT NULL,
    event_id    text NOT NULL,
    text        text,
    tries       int NOT NULL DEFAULT 0,
    wanted_at   timestamptz NOT NULL,
    PRIMARY KEY (approval_id, channel, event_id),
    FOREIGN KEY (approval_id, channel) REFERENCES card ON DELETE CASCADE
);
CREATE INDEX note_to_say ON note (channel, note_id) WHERE text IS NOT NULL;

-- One queue for each channel, worked by one replica at a time; Slack's rate limit holds it up for all of them.
CREATE TABLE lane (
    channel      text PRIMARY KEY,
    not_before   timestamptz NOT NULL,
    leased_until timestamptz NOT NULL,
    lease        text,
    failures     int NOT NULL DEFAULT 0
);
