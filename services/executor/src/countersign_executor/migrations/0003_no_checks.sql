-- PostgreSQL reads a check from its text, and plans it, for every statement that writes. The code's types say as much.
ALTER TABLE executions
    DROP CONSTRAINT executions_state_check,
    DROP CONSTRAINT executions_reconciled_check,
    DROP CONSTRAINT executions_check;
