-- PostgreSQL reads a check from its text, and plans it, for every statement that writes. The code's types say as much.
ALTER TABLE decision DROP CONSTRAINT decision_outcome_check, DROP CONSTRAINT decision_check;
