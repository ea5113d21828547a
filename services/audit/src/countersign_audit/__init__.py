"""The audit service: the only writer of the ledger. It records every event, and answers what is on record."""
