"""TLS in front of the embedded PostgreSQL, which is built without it: the handshake of the protocol, then its bytes."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

from .certificates import Pair

#: The message by which a client asks for TLS (PostgreSQL protocol 3, SSLRequest).
_SSL_REQUEST = bytes.fromhex("00000008 04d2162f")


class TlsFront:
    """Listens on 127.0.0.1; refuses whoever does not ask for TLS."""

    def __init__(self) -> None:
        self.port = 0
        self.refused = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._socket = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, dsn: str, pair: Pair) -> None:
        """Stand before the server of ``dsn``, which is on a Unix socket."""
        asked = parse_qs(urlsplit(dsn).query)
        self._socket = f"{asked['host'][0]}/.s.PGSQL.{asked['port'][0]}"
        self.show(pair)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def show(self, pair: Pair) -> None:
        """The certificate for connections from now on."""
        self._context.load_cert_chain(pair.certificate, pair.key)

    async def stop(self) -> None:
        """Stop listening, and end what is connected."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        behind: asyncio.StreamWriter | None = None
        try:
            if await reader.readexactly(8) != _SSL_REQUEST:
                self.refused += 1
                return
            writer.write(b"S")
            await writer.drain()
            await writer.start_tls(self._context)
            answers, behind = await asyncio.open_unix_connection(self._socket)
            await asyncio.gather(_pipe(reader, behind), _pipe(answers, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass  # refused by the client, or gone
        finally:
            for each in (writer, behind):
                if each is not None:
                    each.close()
                    with suppress(OSError, asyncio.CancelledError):
                        await each.wait_closed()


async def _pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while block := await source.read(65536):
        target.write(block)
        await target.drain()
    raise ConnectionResetError  # one side has ended: both do
