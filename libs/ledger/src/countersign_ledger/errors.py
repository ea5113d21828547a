"""Every error this library raises. Each class's docstring states the fact and is its default message.

    LedgerError
    ├── MalformedError (also a ValueError): what was given is not what it should be
    │   ├── InvalidAttribute
    │   ├── InvalidEntry
    │   ├── InvalidCheckpoint
    │   ├── InvalidSigningKey
    │   ├── InvalidTrustBundle
    │   └── InvalidExport          .line, .reason
    └── UntrustedError: well formed, but not to be believed
        ├── UnknownKey
        ├── NotEntitled
        ├── BadSignature
        └── WrongDeployment

Not here: what a verification found. Tampering is a result (`report.Finding`), not an exception.
"""

from __future__ import annotations


class LedgerError(Exception):
    """The ledger library refused."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class MalformedError(LedgerError, ValueError):
    """The input does not have the form it must have."""


class InvalidAttribute(MalformedError):
    """An attribute that is to be signed contains a character that may not be signed."""


class InvalidEntry(MalformedError):
    """The values cannot form a ledger entry."""


class InvalidCheckpoint(MalformedError):
    """The values cannot form a checkpoint."""


class InvalidSigningKey(MalformedError):
    """The document is not a signing key."""


class InvalidTrustBundle(MalformedError):
    """The document is not a trust bundle."""


class InvalidExport(MalformedError):
    """A line is not a line of a ledger export."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason

    def __reduce__(self) -> tuple[type[InvalidExport], tuple[int, str]]:
        return type(self), (self.line, self.reason)


class UntrustedError(LedgerError):
    """The signature does not prove what it should."""


class UnknownKey(UntrustedError):
    """The trust bundle holds no key of this id."""


class NotEntitled(UntrustedError):
    """The key may not sign this type of thing, or not at this time."""


class BadSignature(UntrustedError):
    """The signature does not match the key and the message."""


class WrongDeployment(UntrustedError):
    """It is signed for another deployment."""
