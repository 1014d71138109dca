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
        self._held: list[bytes] = []
        self._event = ""
        self._data: list[str] = []
        self._started = self._after_cr = False

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        if self._after_cr and data:  # CR LF is one line end, also where the network cuts it in two
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if self._started and b"\n" not in data and b"\r" not in data:
            self._held.append(data)  # joined once its line ends: a long event comes in many pieces
            return []
        buffer = b"".join((*self._held, data)) if self._held else data
        self._held = []
        if not self._started:
            if len(buffer) < 3 and b"\xef\xbb\xbf".startswith(buffer):
                self._held = [buffer]
                return []
            buffer = buffer.removeprefix(b"\xef\xbb\xbf")
            self._started = True
        if b"\r" in buffer:
            self._after_cr = buffer.endswith(b"\r")
            buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = buffer.rfind(b"\n")
        if end < 0:
            self._held = [buffer]
            return []
        rest = buffer[end + 1 :]
        self._held = [rest] if rest else []
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
            elif line == b"event":
                self._event = ""
        return events
