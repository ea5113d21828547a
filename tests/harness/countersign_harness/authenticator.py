"""An authenticator app: one-time codes from a secret (RFC 6238), written a second time, apart from the product's."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time


class Authenticator:
    """Gives codes; each counts once, so it gives each once, up to one step ahead of the clock."""

    def __init__(self, secret: str) -> None:
        self._key = base64.b32decode(secret + "=" * (-len(secret) % 8))
        self._next = 0

    def code(self) -> str:
        """The next code that counts. Raises if that is not yet: only so many come in 30 seconds."""
        now = int(time.time()) // 30
        step = max(self._next, now - 1)
        if step > now + 1:
            raise RuntimeError("no further code counts now")
        self._next = step + 1
        digest = hmac.digest(self._key, step.to_bytes(8, "big"), hashlib.sha1)
        at = digest[-1] & 15
        return f"{(int.from_bytes(digest[at : at + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06}"
