-- Actions are listed by when they were accepted: request ids sort by time only where agents made them honestly.
CREATE INDEX action_by_acceptance ON action (accepted_at, request_id);
CREATE INDEX action_by_agent_acceptance ON action (agent_id, accepted_at, request_id);
CREATE INDEX action_by_session_acceptance ON action (session_id, accepted_at, request_id) WHERE session_id IS NOT NULL;
DROP INDEX action_by_agent, action_by_session;
