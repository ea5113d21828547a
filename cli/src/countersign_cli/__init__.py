"""The `countersign` command: run, operate and verify a system; the embedded runner."""
