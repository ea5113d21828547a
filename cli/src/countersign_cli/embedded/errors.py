"""The one error that running the embedded system raises for people to read."""

from __future__ import annotations


class EmbeddedError(Exception):
    """The embedded system cannot run as asked. Its text is one line: what, where, what to do."""


class MayPass(EmbeddedError):
    """The same, where another try may do: something did not answer yet."""
