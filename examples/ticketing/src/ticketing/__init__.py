"""A small ticketing business: an HTTP API over SQLite, and a support agent that works its queue.

It stands for "the business system" that Countersign protects. It knows nothing of Countersign.
"""
