-- One row for each webhook and event: what is to be posted, and what became of it.
CREATE TABLE webhook_delivery (
    webhook     text COLLATE "C" NOT NULL,
    event_id    text COLLATE "C" NOT NULL,
    type        text NOT NULL,
    approval_id text NOT NULL,
    body        bytea NOT NULL,              -- as it is posted and signed
    state       text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'given_up')),
    tries       int NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL,
    give_up_at  timestamptz NOT NULL,
    next_at     timestamptz NOT NULL,        -- while a try is under way: when another replica takes it for dead
    ended_at    timestamptz,
    last_status int,                         -- HTTP status of the last answer
    last_error  text,
    PRIMARY KEY (webhook, event_id)
);
CREATE INDEX webhook_delivery_due ON webhook_delivery (webhook, next_at) WHERE state = 'pending';
CREATE INDEX webhook_delivery_ended ON webhook_delivery (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX webhook_delivery_given_up ON webhook_delivery (webhook) WHERE state = 'given_up';
CREATE INDEX webhook_delivery_newest ON webhook_delivery (created_at DESC, webhook, event_id);
