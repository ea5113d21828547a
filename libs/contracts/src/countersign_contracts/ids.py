"""Identifiers and the names that may stand in a subject: their patterns, and how new ones are made."""

from __future__ import annotations

import os
import re
import time
from typing import Annotated
from uuid import UUID

from pydantic import StringConstraints

#: One NATS subject token, one file name, one URL segment: lower case, no dots, no wildcards.
AGENT_ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
TOOL_NAME_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"
PROFILE_NAME_PATTERN = r"^[a-z][a-z0-9_-]{0,62}$"
ENV_PATTERN = r"^[a-z][a-z0-9-]{0,31}$"
SESSION_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"
PRINCIPAL_PATTERN = r"^(person|system|agent):[A-Za-z0-9][A-Za-z0-9._@+:/-]{0,253}$"
UUID_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"

AgentId = Annotated[str, StringConstraints(pattern=AGENT_ID_PATTERN)]
ToolName = Annotated[str, StringConstraints(pattern=TOOL_NAME_PATTERN)]
ProfileName = Annotated[str, StringConstraints(pattern=PROFILE_NAME_PATTERN)]
Env = Annotated[str, StringConstraints(pattern=ENV_PATTERN)]
SessionId = Annotated[str, StringConstraints(pattern=SESSION_ID_PATTERN)]
PrincipalId = Annotated[str, StringConstraints(pattern=PRINCIPAL_PATTERN)]
RequestId = Annotated[str, StringConstraints(pattern=UUID_PATTERN)]
Digest = Annotated[str, StringConstraints(pattern=DIGEST_PATTERN)]

_REQUEST_ID = re.compile(UUID_PATTERN)


def new_id() -> str:
    """A new UUIDv7 (RFC 9562): sorts by the time it was made, in milliseconds."""
    millis = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10))
    value = (millis & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | (random >> 68) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    return str(UUID(int=value))


def is_request_id(text: str) -> bool:
    """Whether ``text`` has the form of a request id: a UUID in lower case."""
    return _REQUEST_ID.fullmatch(text) is not None


def prefixed(prefix: str) -> str:
    """A new short id with a prefix that says what it names, e.g. ``apr_`` for an approval."""
    return f"{prefix}_{new_id().replace('-', '')}"
