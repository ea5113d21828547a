-- PostgreSQL reads a check from its text, and plans it, for every statement that writes. The code's types say as much.
ALTER TABLE action DROP CONSTRAINT action_state_check, DROP CONSTRAINT action_channel_check;
