-- A deleted agent is revoked and listed no more. Its row stays: nobody else is ever given its id.
ALTER TABLE agent ADD COLUMN deleted_at timestamptz;
ALTER TABLE agent ADD COLUMN deleted_by text;
