"""TLS: whom a service believes when it connects, and the certificate that it shows when it listens.

Everything is refused with one line that names the file: missing, no certificate, a key that does not fit, expired.
A server's certificate is read again when its files change, without a restart; connections that stand go on with the
old one.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from countersign_contracts.errors import CountersignError


class CertificateError(CountersignError):
    """A file of TLS cannot be used; the text says which, why, and what is wanted."""


def trusting(authority: Path | None) -> ssl.SSLContext | None:
    """For connections to a server whose certificate `authority` (PEM, one or several) signed; None without one.

    The server's name is checked. Raises :class:`CertificateError`.
    """
    if authority is None:
        return None
    _require_valid(_certificates(authority), authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=str(authority))
    return context


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What tells that a file is another one: mounted secrets change by a new link, others by being written."""

    inode: int
    size: int
    changed_ns: int


class ServerCertificate:
    """The certificate (PEM, the chain after it) and key with which a service listens. ``context`` stays the same."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._stamps: tuple[_Stamp, ...] = ()
        self._expires = datetime.min.replace(tzinfo=UTC)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load()

    def load(self) -> None:
        """Read both files, for new connections. Raises :class:`CertificateError`, and then changes nothing."""
        stamps = self._look()
        chain = _certificates(self._certificate)
        _require_valid(chain[:1], self._certificate)
        # into a context of its own first: the one in use must not be left with half of a pair
        self._into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        self._into(self.context)
        self._stamps, self._expires = stamps, chain[0].not_valid_after_utc

    def load_if_changed(self) -> bool:
        """The same if a file is another one than was read; whether it was. Raises :class:`CertificateError`."""
        if self._look() == self._stamps:
            return False
        self.load()
        return True

    def seconds_left(self) -> float:
        """Until what was loaded expires; negative once it has."""
        return (self._expires - datetime.now(UTC)).total_seconds()

    def trouble(self) -> str | None:
        """Why nobody can connect: it has expired."""
        return _expired(self._certificate, self._expires) if self.seconds_left() <= 0 else None

    def _into(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self._certificate, self._key)
        except ssl.SSLError as error:
            raise CertificateError(
                f"the key in {self._key} is not that of the certificate in {self._certificate}, or no unencrypted PEM:"
                f" {error.reason or error}"
            ) from None

    def _look(self) -> tuple[_Stamp, ...]:
        stamps = []
        for path, what in ((self._certificate, "certificate"), (self._key, "key")):
            try:
                found = path.stat()
                with path.open("rb"):
                    pass
            except OSError as error:
                raise CertificateError(f"cannot read the {what} {path}: {error.strerror}") from None
            stamps.append(_Stamp(found.st_ino, found.st_size, found.st_mtime_ns))
        return tuple(stamps)


class Renewal:
    """Takes a renewed certificate into use. What cannot be used is logged once, and the old one stays."""

    def __init__(self, certificate: ServerCertificate, log: Any, every_s: float) -> None:
        self._certificate = certificate
        self._log = log
        self._every_s = every_s
        self._wanted = asyncio.Event()
        self._said = ""

    def look(self) -> None:
        """Do so now."""
        self._wanted.set()

    async def run(self) -> None:
        """Look every so many seconds, for ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._wanted.wait()
            self._wanted.clear()
            self._renew()

    def _renew(self) -> None:
        try:
            if self._certificate.load_if_changed():
                left = self._certificate.seconds_left() / 86_400
                self._log.info("certificate renewed", days_left=round(left, 1))
            self._said = ""
        except CertificateError as error:
            if error.detail != self._said:
                self._said = error.detail
                self._log.error("the renewed certificate cannot be used; the old one stays", reason=error.detail)


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise CertificateError(f"cannot read the certificate {path}: {error.strerror}") from None
    except ValueError:
        raise CertificateError(f"{path} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)") from None


def _require_valid(found: list[x509.Certificate], path: Path) -> None:
    """At least one must be valid now: of several authorities an old one may still stand there."""
    now = datetime.now(UTC)
    if all(each.not_valid_after_utc <= now for each in found):
        raise CertificateError(_expired(path, max(each.not_valid_after_utc for each in found)))
    if all(each.not_valid_before_utc > now for each in found):
        first = min(each.not_valid_before_utc for each in found)
        raise CertificateError(
            f"the certificate in {path} is not valid before {first:%Y-%m-%dT%H:%M:%SZ}: is this machine's clock right?"
        )


def _expired(path: Path, at: datetime) -> str:
    return f"the certificate in {path} expired at {at:%Y-%m-%dT%H:%M:%SZ}: put a renewed one in its place"
