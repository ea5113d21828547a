-- What was heard of an action's approval, as JSON: its requester is told whom it waits for.
ALTER TABLE action ADD COLUMN approval text;
-- The action that an approver changed this one into.
ALTER TABLE action ADD COLUMN superseded_by uuid;
