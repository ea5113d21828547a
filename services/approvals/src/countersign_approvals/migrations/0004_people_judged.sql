-- The newest record of each person that votes were judged by. A vote locks the row of who votes, and so does the look at
-- what they voted on once they changed: a vote is either seen by that look, or judged by the changed record.
CREATE TABLE person_judged (
    name     text PRIMARY KEY,
    revision bigint NOT NULL
);
