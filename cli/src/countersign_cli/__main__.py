"""`python -m countersign_cli` is `countersign`."""

from .main import app

app()
