"""A scriptable upstream on the loopback interface: raw HTTP/1.1, so that it can lie, stall and hang up.

A test says how the next requests are answered. An answer is a list of steps, or a function of the
request that returns one; without word from the test, a request is echoed.

    bytes       is written as it stands
    float       is a pause of so many seconds
    Gate        is waited for until the test opens it
    function    is called
    HANG        nothing more comes until the client leaves
    CLOSE       hangs up, whatever was promised (RESET: with a TCP reset)
"""

import asyncio
import gzip
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

import pytest

BOUND = 5.0
"""Seconds that a test waits for an event at most."""


class Gate:
    """Holds an answer back until the test opens it."""

    def __init__(self) -> None:
        self._opened: Future[None] = Future()
        self._reached = threading.Event()

    def open(self) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    def wait_until_reached(self) -> None:
        """Return once an answer has come this far."""
        assert self._reached.wait(BOUND), "no answer came as far as this gate"

    async def passed(self) -> None:
        self._reached.set()
        await asyncio.shield(asyncio.wrap_future(self._opened))


class End(Enum):
    """How an answer ends, if not well."""

    HANG = "hang"
    CLOSE = "close"
    RESET = "reset"


HANG, CLOSE, RESET = End.HANG, End.CLOSE, End.RESET
END_OF_BODY = b"0\r\n\r\n"
Step: TypeAlias = bytes | float | Gate | End | Callable[[], object]


@dataclass(frozen=True)
class Request:
    """A request as it arrived: header names in lower case, the body parsed, and when (`time.time()` seconds)."""

    path: str
    headers: dict[str, str]
    body: Any
    connection: int
    at: float = field(default_factory=time.time)


Answer: TypeAlias = list[Step] | Callable[[Request], list[Step]]


# Answers


def plain(body: Any, status: int = 200, **headers: str) -> list[Step]:
    """An answer with a length: bytes and text as they stand (HTML, unless said otherwise), all else as JSON."""
    kind = "text/html" if isinstance(body, str | bytes) else "application/json"
    data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    fields = {"Content-Type": kind, "Content-Length": str(len(data))}
    fields |= {name.replace("_", "-").title(): value for name, value in headers.items()}
    return [head(status, fields) + data]


def head(status: int, fields: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def zipped(body: Any) -> list[Step]:
    """A JSON answer, compressed."""
    return plain(gzip.compress(json.dumps(body).encode()), content_type="application/json", content_encoding="gzip")


def completion(text: str = "Hello", finish_reason: str = "stop") -> dict[str, Any]:
    """An OpenAI-shaped answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-test", "choices": [choice], "usage": usage}


def failure(status: int, message: str = "no", code: str | None = None, **headers: str) -> list[Step]:
    """An OpenAI-shaped error."""
    return plain({"error": {"message": message, "type": "some_error", "code": code}}, status, **headers)


def events(*pieces: str | Step) -> list[Step]:
    """An event stream without its end: a text is a delta, all else a step; bytes are an event's data."""
    return [
        head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}),
        *(_piece(piece) for piece in pieces),
    ]


def stream(*pieces: str | Step, finish_reason: str = "stop") -> list[Step]:
    """An event stream to its end: finish, usage, `[DONE]`, and the end of the body."""
    return [*events(*pieces), *finish(finish_reason), END_OF_BODY]


def finish(finish_reason: str = "stop") -> list[Step]:
    """The events that say a stream is over; the body's end is not among them."""
    usage = {**_event([]), "usage": completion()["usage"]}
    last = _event([{"index": 0, "delta": {}, "finish_reason": finish_reason}])
    return [_chunk(json.dumps(last).encode()), _chunk(json.dumps(usage).encode()), _chunk(b"[DONE]")]


def echo(request: Request) -> list[Step]:
    """What was asked, as the answer: word by word if a stream was asked for."""
    text = request.body["messages"][-1]["content"]
    return stream(*re.findall(r"\S+\s*|\s+", text)) if request.body.get("stream") else plain(completion(text))


def dripping(steps: list[Step], pause: float) -> list[Step]:
    """The same answer a byte at a time, `pause` seconds apart."""
    data = b"".join(step for step in steps if isinstance(step, bytes))
    return [step for byte in data for step in (bytes([byte]), pause)]


def _event(choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-test", "choices": choices}


def _piece(piece: str | Step) -> Step:
    if isinstance(piece, str):
        delta = {"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}
        return _chunk(json.dumps(_event([delta])).encode())
    return _chunk(piece) if isinstance(piece, bytes) else piece


def _chunk(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(event), event)


# The server


class Upstream:
    """The server: what it is to answer, what it was asked, and how many connections it has and has had."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.open = self.accepted = 0
        self._tls = tls
        self.default: Answer = echo
        self._answers: deque[Answer] = deque()
        self._changed = threading.Condition()
        self._connections: set[_Connection] = set()
        self._faults: list[BaseException] = []
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.host = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.url = f"{'https' if tls else 'http'}://{self.host}/v1"

    def will(self, *answers: Answer) -> None:
        """Answer the next requests so, in this order; those after them by `default`."""
        self._answers.extend(answers)

    def wait_until_open(self, connections: int) -> None:
        """Return once exactly so many connections are open."""
        self._wait(lambda: self.open == connections, lambda: f"{self.open} connections are open, not {connections}")

    def wait_for_requests(self, number: int) -> None:
        """Return once so many requests have arrived."""
        self._wait(lambda: len(self.requests) >= number, lambda: f"{len(self.requests)} of {number} requests came")

    def hang_up(self) -> None:
        """Close every connection, as a server does that no longer wants an idle one."""
        for connection in list(self._connections):
            self._loop.call_soon_threadsafe(connection.transport.close)

    @contextmanager
    def running(self) -> Iterator["Upstream"]:
        """Serve until the block ends; an answer that could not be given fails it."""
        started = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), name="upstream", daemon=True)
        thread.start()
        assert started.wait(BOUND), "the upstream does not start"
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stopped.set)
            thread.join(BOUND)
        if self._faults:
            raise self._faults[0]

    async def _serve(self, started: threading.Event) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await self._loop.create_server(lambda: _Connection(self), sock=self._socket, ssl=self._tls)
        started.set()
        await self._stopped.wait()
        server.close()
        for connection in self._connections:
            connection.transport.abort()
        await asyncio.sleep(0)  # the connections hear of it

    def _wait(self, condition: Callable[[], bool], otherwise: Callable[[], str]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, BOUND), otherwise()

    # Told by the connections, in the server's thread

    def connected(self, connection: "_Connection") -> int:
        with self._changed:
            self._connections.add(connection)
            self.open += 1
            self.accepted += 1
            self._changed.notify_all()
            return self.accepted

    def disconnected(self, connection: "_Connection") -> None:
        with self._changed:
            self._connections.discard(connection)
            self.open -= 1
            self._changed.notify_all()

    def steps_for(self, request: Request) -> list[Step]:
        with self._changed:
            self.requests.append(request)
            answer = self._answers.popleft() if self._answers else self.default
            self._changed.notify_all()
        return answer(request) if callable(answer) else answer

    def failed(self, error: BaseException) -> None:
        self._faults.append(error)


class _Connection(asyncio.Protocol):
    """One connection: reads requests one after the other, and performs the steps of their answers."""

    transport: asyncio.Transport

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._buffer = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._number = self._upstream.connected(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()
        asyncio.get_running_loop().call_soon(self._upstream.disconnected, self)  # the socket is closed by then

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def _next(self) -> None:
        """Start to answer the next request, if it is here and nothing is being answered."""
        top, mark, rest = self._buffer.partition(b"\r\n\r\n")
        if self._task is not None or not mark:
            return
        first, *lines = top.decode("utf-8").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self._buffer = rest[length:]
        request = Request(first.split(" ")[1], headers, json.loads(rest[:length] or b"null"), self._number)
        self._task = asyncio.get_running_loop().create_task(self._answer(request))

    async def _answer(self, request: Request) -> None:
        try:
            for step in self._upstream.steps_for(request):
                await self._perform(step)
        except Exception as error:  # noqa: BLE001 - told to the test
            self._upstream.failed(error)
            self.transport.abort()
        self._task = None
        self._next()

    async def _perform(self, step: Step) -> None:
        match step:
            case bytes():
                self.transport.write(step)
            case float():
                await asyncio.sleep(step)
            case Gate():
                await step.passed()
            case End.HANG:
                await asyncio.get_running_loop().create_future()
            case End.CLOSE:
                self.transport.close()
            case End.RESET:
                connection = self.transport.get_extra_info("socket")
                with suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.transport.abort()
            case _:
                step()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """An upstream that runs for the length of the test."""
    with Upstream().running() as running:
        yield running


@pytest.fixture
def other_upstream() -> Iterator[Upstream]:
    """Another one, at another address."""
    with Upstream().running() as running:
        yield running
