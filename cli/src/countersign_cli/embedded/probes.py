"""Readiness probes: they answer at once, and False instead of raising."""

from __future__ import annotations

import http.client

from countersign_cli.embedded.specs import Probe

_TIMEOUT_SECONDS = 0.5


def http_ready(host: str, port: int, path: str = "/health/ready") -> Probe:
    """A probe that asks for a path and is satisfied by status 200."""

    def probe() -> bool:
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return probe
