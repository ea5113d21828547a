-- PostgreSQL reads a check from its text, and plans it, for every statement that writes. What follows on what is the
-- hashes' matter.
ALTER TABLE entries DROP CONSTRAINT entries_seq_check;
