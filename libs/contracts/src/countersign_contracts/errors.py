"""Every error a caller can meet, with its stable code, HTTP status and what to do about it.

The tree::

    CountersignError
    ├── Malformed            the bytes are not what they should be: nothing was done
    ├── Refused              understood, and not allowed
    └── Unavailable          a part is down: try again

Over HTTP an error is an RFC 9457 problem whose ``type`` is ``urn:countersign:problem:<code>``; over NATS the same
object is the body of the reply.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PROBLEM_PREFIX = "urn:countersign:problem:"
#: The media type of a problem over HTTP.
PROBLEM_JSON = "application/problem+json"

#: code -> (HTTP status, title). The code is stable: clients may branch on it.
PROBLEMS: Mapping[str, tuple[int, str]] = {
    "malformed": (400, "The request could not be read"),
    "unknown_version": (400, "No such version of the API"),
    "invalid": (422, "The request is not valid"),
    "unauthenticated": (401, "No valid credential"),
    "forbidden": (403, "Not allowed"),
    "wrong_code": (403, "The one-time code is not accepted"),
    "fresh_login": (403, "It takes a login of the last minutes"),
    "identity_mismatch": (403, "The credential belongs to another agent"),
    "not_entitled": (403, "Not entitled to decide on this"),
    "not_enrolled": (403, "Nobody is enrolled under this identity"),
    "assurance": (403, "It must be surer who decides"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "Method not allowed"),
    "conflict": (409, "Conflict"),
    "idempotency_conflict": (409, "The key was used with another body"),
    "already_final": (409, "The action has already ended"),
    "digest_mismatch": (409, "The digest is not the one to approve"),
    "stale": (409, "Somebody else changed it first"),
    "too_large": (413, "Too large"),
    "unsupported_media_type": (415, "Unsupported media type"),
    "locked_out": (429, "Too many wrong codes"),
    "overloaded": (429, "The agent has too many actions open"),
    "internal": (500, "Something went wrong on our side"),
    "at_capacity": (503, "As many actions are under way as are taken at once"),
    "unavailable": (503, "A part of the control plane is not available"),
}


class CountersignError(Exception):
    """Base of every error this product raises on purpose.

    ``code`` is one of :data:`PROBLEMS`; ``detail`` is for people: what was wrong, where, what is allowed, what to do.
    ``extra`` carries machine-readable members (for example ``errors``: a list of field errors).
    """

    code = "internal"

    def __init__(self, detail: str, *, code: str | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.extra = extra

    @property
    def status(self) -> int:
        """The HTTP status this error is answered with."""
        return PROBLEMS[self.code][0]

    def problem(self) -> dict[str, Any]:
        """The RFC 9457 problem object."""
        status, title = PROBLEMS[self.code]
        return {
            "type": PROBLEM_PREFIX + self.code,
            "title": title,
            "status": status,
            "detail": self.detail,
            **self.extra,
        }

    @classmethod
    def from_problem(cls, problem: Mapping[str, Any]) -> CountersignError:
        """The error that ``problem`` describes; an unknown type becomes ``internal``."""
        code = str(problem.get("type", "")).removeprefix(PROBLEM_PREFIX)
        known = {"type", "title", "status", "detail"}
        return CountersignError(
            str(problem.get("detail", problem.get("title", "unknown error"))),
            code=code if code in PROBLEMS else "internal",
            **{k: v for k, v in problem.items() if k not in known},
        )


class Malformed(CountersignError):
    """The bytes could not be read as what they should be."""

    code = "malformed"


class Unreadable(Malformed):
    """A service signed it, and this version cannot read it: a newer version wrote it, or it is wrong."""


class Refused(CountersignError):
    """Understood, and not allowed."""

    code = "forbidden"


class Unavailable(CountersignError):
    """A part that is needed does not answer; the same call may succeed later."""

    code = "unavailable"
