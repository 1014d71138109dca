"""Proxies on the loopback interface: one tunnels (CONNECT, RFC 9110 section 9.3.6) and notes for whom, one can stop."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
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


@dataclass
class Forwarder:
    """Carries bytes to an address and back: late, or not at all for a while, with its connections open or reset."""

    target: str
    delay: float = 0.0
    """Seconds that each piece of an answer takes longer."""
    host: str = ""
    accepted: int = 0
    pieces: int = 0
    """How many pieces were carried to the target."""
    refuses: bool = False
    _last: bytes = b""
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @contextmanager
    def running(self) -> Iterator["Forwarder"]:
        """Forward until the block ends."""
        started = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), name="forwarder", daemon=True)
        thread.start()
        assert started.wait(BOUND), "the forwarder does not start"
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stopped.set)
            thread.join(BOUND)

    def freeze(self, *, only_old: bool = False) -> None:
        """Carry nothing more, or nothing more of the connections there are."""
        self._set(self._flows.clear)
        if only_old:
            self._flows = asyncio.Event()
            self._set(self._flows.set)

    def thaw(self) -> None:
        """Carry on, with what has come meanwhile."""
        self._set(self._flows.set)

    def refuse(self, *, after: bytes = b"") -> None:
        """Reset all connections, and let nobody in: at once, or when a piece with this in it was carried to the target,
        to which no answer comes then.
        """
        if after:
            self._last = after
        else:
            self._set(self._refuse)

    def accept(self) -> None:
        """Let others in again."""
        asyncio.run_coroutine_threadsafe(self._listen(int(self.host.rpartition(":")[2])), self._loop).result(BOUND)

    def _refuse(self) -> None:
        self.refuses, self._last = True, b""
        self._server.close()
        for writer in self._open:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _listen(self, port: int) -> None:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", port)
        self.refuses = False

    def _set(self, change: Callable[[], None]) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (change(), done.set()))
        assert done.wait(BOUND)

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stopped, self._flows = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        self._flows.set()
        await self._listen(0)
        self.host = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        started.set()
        await self._stopped.wait()
        self._server.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._open.add(writer)
        try:
            await self._carry_both(reader, writer, self._flows)
        except asyncio.CancelledError:  # the forwarder is stopped, frozen or not
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _carry_both(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event
    ) -> None:
        await flows.wait()
        host, _, port = self.target.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        try:
            await asyncio.gather(self._there(reader, far_writer, flows), self._back(far_reader, writer, flows))
        finally:
            far_writer.close()

    async def _there(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                await flows.wait()
                self.pieces += 1
                writer.write(data)
                if self._last and self._last in data:
                    self._refuse()
        writer.close()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                await asyncio.sleep(self.delay)
                await flows.wait()
                writer.write(data)
        writer.close()
