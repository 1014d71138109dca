"""A forward proxy on the loopback interface that only tunnels (CONNECT, RFC 9110 section 9.3.6), and notes for whom."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from upstream import BOUND


@dataclass
class TunnelProxy:
    """Where it listens, and the targets and credentials it was asked with."""

    host: str = ""
    targets: list[str] = field(default_factory=list)
    credentials: list[str | None] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator["TunnelProxy"]:
        """Tunnel until the block ends."""
        started = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), name="proxy", daemon=True)
        thread.start()
        assert started.wait(BOUND), "the proxy does not start"
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stopped.set)
            thread.join(BOUND)

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._tunnel, "127.0.0.1", 0)
        self.host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        await self._stopped.wait()
        server.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = first.split(" ")
        assert method == "CONNECT", first
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.targets.append(target)
        self.credentials.append(headers.get("proxy-authorization"))
        host, _, port = target.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
