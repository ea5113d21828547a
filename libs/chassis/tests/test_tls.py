"""Certificates: what is refused and in which words, and that a renewed one is taken into use."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from countersign_chassis.http import HttpServer
from countersign_chassis.tls import CertificateError, Renewal, ServerCertificate, trusting
from countersign_harness.certificates import DAY, Authority, Pair


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def test_whom_to_believe_must_be_an_authority_s_valid_certificate(authority: Authority, tmp_path: Path) -> None:
    assert trusting(None) is None
    context = trusting(authority.file)
    assert context is not None and context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED
    nothing = tmp_path / "nothing.crt"
    nothing.write_text("nothing")
    expired = authority.issue(tmp_path / "expired", starts=-2 * DAY, ends=-DAY).certificate
    for file, why in (
        (tmp_path / "missing.crt", f"cannot read the certificate {tmp_path}/missing.crt: No such file or directory"),
        (nothing, "nothing.crt holds no certificate in PEM"),
        (expired, "expired at .*: put a renewed one in its place"),
    ):
        with pytest.raises(CertificateError, match=why):
            trusting(file)


def test_a_server_s_certificate_that_cannot_serve_is_refused_in_one_line(authority: Authority, tmp_path: Path) -> None:
    pair, other = authority.issue(tmp_path / "one"), authority.issue(tmp_path / "other")
    expired = authority.issue(tmp_path / "expired", starts=-2 * DAY, ends=timedelta(seconds=-1))
    early = authority.issue(tmp_path / "early", starts=DAY)
    for certificate, key, why in (
        (tmp_path / "missing.crt", pair.key, "cannot read the certificate .*missing.crt: No such file"),
        (pair.certificate, tmp_path / "missing.key", "cannot read the key .*missing.key: No such file"),
        (pair.key, pair.key, "holds no certificate in PEM"),
        (pair.certificate, other.key, "the key in .*other/tls.key is not that of the certificate in .*one/tls.crt"),
        (expired.certificate, expired.key, "expired/tls.crt expired at .*: put a renewed one in its place"),
        (early.certificate, early.key, "is not valid before .*: is this machine's clock right"),
    ):
        with pytest.raises(CertificateError, match=why) as refused:
            ServerCertificate(certificate, key)
        assert "\n" not in refused.value.detail


async def _shown(port: int, authority: Authority) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority.trusted())
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    assert (await reader.read()).endswith(b"served")
    writer.close()
    await writer.wait_closed()
    return found


def _der(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())


async def _page(_: Request) -> PlainTextResponse:
    return PlainTextResponse("served")


class _Log:
    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, what: str, **_: Any) -> None:
        self.said.append(what)

    def error(self, what: str, **more: Any) -> None:
        self.said.append(more["reason"])


async def test_a_renewed_certificate_is_shown_without_a_restart(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue(tmp_path / "served", ends=DAY)
    first = _der(pair)
    certificate = ServerCertificate(pair.certificate, pair.key)
    server = HttpServer(Starlette(routes=[Route("/", _page)]), "127.0.0.1", 0, certificate)
    log = _Log()
    renewal = Renewal(certificate, log, 3600)
    await server.start()
    running = asyncio.create_task(renewal.run())
    try:
        assert await _shown(server.port, authority) == first
        assert 0 < certificate.seconds_left() <= 86_400

        shutil.copyfile(authority.issue(tmp_path / "another").key, pair.key)  # half of a pair
        renewal.look()
        await _until(lambda: len(log.said) == 1)
        assert "is not that of the certificate" in log.said[0]
        assert await _shown(server.port, authority) == first

        authority.issue(tmp_path / "served", starts=-2 * DAY, ends=-DAY)
        renewal.look()
        await _until(lambda: len(log.said) == 2)
        assert "expired at" in log.said[1]
        assert await _shown(server.port, authority) == first

        authority.issue(tmp_path / "served")
        renewal.look()
        await _until(lambda: log.said[2:] == ["certificate renewed"])
        assert await _shown(server.port, authority) == _der(pair) != first
        assert certificate.seconds_left() > 29 * 86_400
    finally:
        running.cancel()
        await server.stop()


async def test_what_expires_while_it_is_served_is_said(authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue(tmp_path / "served", ends=timedelta(seconds=2))
    certificate = ServerCertificate(pair.certificate, pair.key)
    assert certificate.trouble() is None
    await _until(lambda: certificate.trouble() is not None)
    assert "expired at" in str(certificate.trouble())
    assert certificate.seconds_left() < 0


async def _until(true: Any) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)
