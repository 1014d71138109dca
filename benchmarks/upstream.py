"""An OpenAI-compatible upstream that costs next to nothing, in a process of its own.

`python -m benchmarks.upstream` prints its port and serves until its standard input closes. A request
whose body asks for a stream gets 100 deltas, a finish chunk, a usage chunk and `[DONE]`; every other
request gets one chat completion. The answers are made once, before the first connection.
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle, islice

DELTAS = 100
WORDS = (
    "The",
    " Aistrale",
    " River",
    " carries",
    " caf\u00e9",
    " words",
    ",",
    " each",
    " delta",
    " whole",
    ".",
)
PIECES = tuple(islice(cycle(WORDS), DELTAS))
STREAMED_TEXT = "".join(PIECES)
TEXT = "Hello! How can I help you today? Na\u00efve questions are as welcome as hard ones."

IDENTITY = {
    "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
    "created": 1741569952,
    "model": "gpt-4o-2024-08-06",
}
FINGERPRINT = {"service_tier": "default", "system_fingerprint": "fp_b8bc95a0ac"}
USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": DELTAS,
    "total_tokens": 11 + DELTAS,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def completion() -> bytes:
    """The body of the answer to a plain request."""
    message: dict[str, object] = {"role": "assistant", "content": TEXT, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return _json({**IDENTITY, "object": "chat.completion", "choices": [choice], "usage": USAGE, **FINGERPRINT})


def _chunk(choices: list[dict[str, object]], **more: object) -> bytes:
    fingerprint = FINGERPRINT["system_fingerprint"]
    head = {**IDENTITY, "object": "chat.completion.chunk", "system_fingerprint": fingerprint}
    return _json({**head, "choices": choices, **more})


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def stream_payloads() -> Iterator[bytes]:
    """What follows `data: ` in each event of the answer to a streaming request."""
    yield _chunk([_choice({"role": "assistant", "content": PIECES[0]})])
    for piece in PIECES[1:]:
        yield _chunk([_choice({"content": piece})])
    yield _chunk([_choice({}, "stop")])
    yield _chunk([], usage=USAGE)
    yield b"[DONE]"


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _plain_response(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nx-request-id: req_bench\r\n" % status
    return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


ANSWER = _plain_response(b"200 OK", completion())
LENGTH_REQUIRED = _plain_response(b"411 Length Required", b'{"error":{"message":"send a Content-Length"}}')
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nx-request-id: req_bench\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
STREAM_EVENTS = tuple(_http_chunk(b"data: %b\n\n" % payload) for payload in stream_payloads())
STREAM_END = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Pace:
    """How an answer leaves: seconds before it, seconds between events, and whether events share a write."""

    delay: float = 0.0
    between: float = 0.0
    burst: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    stream: bool
    close: bool


class LengthRequiredError(Exception):
    """The request has a body without a Content-Length."""


CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)")
CLOSE = re.compile(rb"\r\nconnection:[ \t]*close")


def take_request(received: bytearray) -> Request | None:
    """Take the first whole request off `received`; None leaves it as it is: more bytes are needed."""
    end_of_head = received.find(b"\r\n\r\n")
    if end_of_head < 0:
        return None
    head = bytes(received[:end_of_head]).lower()
    if b"\r\ntransfer-encoding:" in head:
        raise LengthRequiredError
    length = CONTENT_LENGTH.search(head)
    start = end_of_head + 4
    end = start + (int(length[1]) if length else 0)
    if len(received) < end:
        return None
    body = received[start:end]
    del received[:end]
    return Request(stream=b'"stream":true' in body or b'"stream": true' in body, close=CLOSE.search(head) is not None)


class Connection(asyncio.Protocol):
    """One kept-alive connection: requests are answered one after another, in the order they came."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._received = bytearray()
        self._answering: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._proceed()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answering is not None:
            self._answering.cancel()

    def _proceed(self) -> None:
        try:
            while self._answering is None and not self._transport.is_closing():
                request = take_request(self._received)
                if request is None:
                    return
                self._answer(request)
        except LengthRequiredError:
            self._transport.write(LENGTH_REQUIRED)
            self._transport.close()

    def _answer(self, request: Request) -> None:
        if not request.stream and not self._pace.delay:
            self._transport.write(ANSWER)
            if request.close:
                self._transport.close()
            return
        self._answering = asyncio.get_running_loop().create_task(self._answer_slowly(request))

    async def _answer_slowly(self, request: Request) -> None:
        if self._pace.delay:
            await asyncio.sleep(self._pace.delay)
        if request.stream:
            await self._stream()
        else:
            self._transport.write(ANSWER)
        self._answering = None
        if request.close:
            self._transport.close()
        else:
            self._proceed()

    async def _stream(self) -> None:
        write = self._transport.write
        if self._pace.burst:
            write(STREAM_HEAD + b"".join(STREAM_EVENTS) + STREAM_END)
            return
        write(STREAM_HEAD)
        for event in STREAM_EVENTS:
            write(event)
            await asyncio.sleep(self._pace.between)
        write(STREAM_END)


def _call_at_end_of_input(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    sys.stdin.buffer.read()
    loop.call_soon_threadsafe(stop.set)


async def serve(pace: Pace) -> None:
    """Serve on a free loopback port, printed first, until standard input closes."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    threading.Thread(target=_call_at_end_of_input, args=(loop, stop), daemon=True).start()
    server = await loop.create_server(lambda: Connection(pace), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stop.wait()
    server.close()


@contextmanager
def running(*options: str) -> Iterator[str]:
    """A running upstream's base URL, for as long as the block lasts."""
    command = [sys.executable, "-m", "benchmarks.upstream", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.stdin.close()
            process.wait(timeout=10)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.upstream", description=__doc__)
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS", help="wait before each answer")
    parser.add_argument(
        "--between", type=float, default=0.0, metavar="SECONDS", help="wait after each event of a stream"
    )
    parser.add_argument("--burst", action="store_true", help="write a whole stream at once, not each event alone")
    options = parser.parse_args(arguments)
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(Pace(delay=options.delay, between=options.between, burst=options.burst)))


if __name__ == "__main__":
    main()
