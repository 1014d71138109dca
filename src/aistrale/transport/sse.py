"""Server-sent events out of bytes, however the bytes are cut.

Source: WHATWG HTML, section 9.2.6 "Interpreting an event stream".
"""

from __future__ import annotations

from aistrale.http import ServerSentEvent


class EventStreamDecoder:
    """Feed it bytes, get the events they complete. Comments, ids and retry times are passed over.

    It holds at most one unfinished event. An event that the stream's end cuts off is dropped, as the
    standard says; whether the answer was whole is for the codec to know.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._event = ""
        self._data: list[str] = []
        self._started = False

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        buffer = self._buffer + data if self._buffer else data
        if not self._started:
            if len(buffer) < 3 and b"\xef\xbb\xbf".startswith(buffer):
                self._buffer = buffer
                return []
            buffer = buffer.removeprefix(b"\xef\xbb\xbf")
            self._started = True
        if b"\r" in buffer:
            buffer, held = _one_kind_of_line_end(buffer)
        else:
            held = b""
        end = buffer.rfind(b"\n")
        if end < 0:
            self._buffer = buffer + held
            return []
        self._buffer = buffer[end + 1 :] + held
        return self._take(buffer[:end].split(b"\n"))

    def _take(self, lines: list[bytes]) -> list[ServerSentEvent]:
        """The events that whole lines complete."""
        events = []
        for line in lines:
            if not line:
                if self._data:
                    events.append(ServerSentEvent(self._event or "message", "\n".join(self._data)))
                    self._data = []
                self._event = ""
            elif line.startswith(b"data:"):
                start = 6 if line.startswith(b"data: ") else 5
                self._data.append(line[start:].decode("utf-8", "replace"))
            elif line.startswith(b"event:"):
                self._event = line[6:].removeprefix(b" ").decode("utf-8", "replace")
            elif line == b"data":
                self._data.append("")
        return events


def _one_kind_of_line_end(buffer: bytes) -> tuple[bytes, bytes]:
    """`buffer` with CRLF and CR as LF, and the CR at its end that may yet turn out to be half of a CRLF."""
    held = b"\r" if buffer.endswith(b"\r") else b""
    whole = buffer[: len(buffer) - len(held)]
    return whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n"), held
