-- Which event ended the action: the gateway asks audit whether it is on record.
ALTER TABLE action ADD COLUMN end_event text;
-- Rows end roughly in the order in which they were accepted: a few pages hold what ended lately.
CREATE INDEX action_by_update ON action USING brin (updated_at) WITH (autosummarize = on);

-- What ended before `until` is on record, but for the ended rows that are to be driven still.
CREATE TABLE on_record (until timestamptz NOT NULL);
INSERT INTO on_record VALUES (now());
