"""Server-sent events out of bytes, as the standard reads them: WHATWG HTML, section 9.2."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistrale.http import ServerSentEvent
from aistrale.transport.sse import EventStreamDecoder

CASES: dict[str, tuple[bytes, list[tuple[str, str]]]] = {
    "LF": (b"data: a\n\ndata: b\n\n", [("message", "a"), ("message", "b")]),
    "CRLF": (b"data: a\r\n\r\ndata: b\r\n\r\n", [("message", "a"), ("message", "b")]),
    "CR": (b"data: a\r\rdata: b\r\rdata: c\n\n", [("message", "a"), ("message", "b"), ("message", "c")]),
    "CR to the end": (b"data: a\r\r", [("message", "a")]),
    "mixed line ends": (b"event: x\rdata: a\r\n\ndata: b\n\r\n", [("x", "a"), ("message", "b")]),
    "byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [("message", "a")]),
    "byte order mark later": (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [("message", "a")]),
    "data in several lines": (b"data: a\ndata:\ndata: b\n\n", [("message", "a\n\nb")]),
    "data without a space": (b"data:a\n\n", [("message", "a")]),
    "data with two spaces": (b"data:  a \n\n", [("message", " a ")]),
    "data with a colon": (b'data: {"a":1}\n\n', [("message", '{"a":1}')]),
    "data without a colon": (b"data\n\n", [("message", "")]),
    "an event's name": (b"event: ping\ndata: a\n\ndata: b\n\n", [("ping", "a"), ("message", "b")]),
    "an event without data": (b"event: ping\n\ndata: b\n\n", [("message", "b")]),
    "comments": (b": hi\n\n:\n\ndata: a\n: there\n\n", [("message", "a")]),
    "id and retry": (b"id: 1\nretry: 10\ndata: a\n\nid: 2\n\n", [("message", "a")]),
    "unknown fields": (b"datum: x\ndata2: y\nData: z\n data: v\ndata: a\n\n", [("message", "a")]),
    "UTF-8": ("data: Köln 😀\u2028\n\n".encode(), [("message", "Köln 😀\u2028")]),
    "bytes that are no UTF-8": (b"data: \xff\n\n", [("message", "\ufffd")]),
    "an event cut off": (b"data: a\n\ndata: b\n", [("message", "a")]),
    "nothing": (b"", []),
    "blank lines": (b"\n\n\r\n\r", []),
}


def events(*pieces: bytes) -> list[ServerSentEvent]:
    decoder = EventStreamDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


@pytest.mark.parametrize(("stream", "wanted"), CASES.values(), ids=CASES.keys())
def test_a_stream_is_read_as_the_standard_says(stream: bytes, wanted: list[tuple[str, str]]) -> None:
    """Whole, byte by byte, and with more to come."""
    expected = [ServerSentEvent(event, data) for event, data in wanted]
    assert events(stream) == expected
    assert events(*(stream[i : i + 1] for i in range(len(stream)))) == expected
    assert events(stream, b"", b": more") == expected


lines = st.sampled_from(
    [
        "data: a",
        "data:b",
        "data",
        "data:  c",
        "data: ö",
        "event: e",
        "event:",
        "event",
        "id: 1",
        ": x",
        ":",
        "other: y",
        "",
    ]
)
ends = st.sampled_from(["\n", "\r\n", "\r"])


def as_the_standard_says(text: str) -> list[ServerSentEvent]:
    """The standard's own steps, line by line, over a whole stream that ends in a line's end."""
    found, event, data = [], "", []
    for line in re.split("\r\n|\n|\r", text)[:-1]:
        name, colon, value = line.partition(":")
        value = value.removeprefix(" ") if colon else ""
        if not line:
            if data:
                found.append(ServerSentEvent(event or "message", "\n".join(data)))
            event, data = "", []
        elif name == "data":
            data.append(value)
        elif name == "event":
            event = value
    return found


@given(st.lists(st.tuples(lines, ends)), st.lists(st.integers(0, 200)))
def test_any_stream_is_read_as_the_standard_says_however_it_is_cut(
    written: list[tuple[str, str]], cuts: list[int]
) -> None:
    """Any fields, any line ends, cut anywhere: within a line end and within a character too."""
    text = "".join(line + end for line, end in written) + "\n"
    stream = text.encode()
    ends = sorted(min(cut, len(stream)) for cut in cuts)
    pieces = [stream[start:end] for start, end in zip([0, *ends], [*ends, len(stream)], strict=True)]
    assert events(*pieces) == as_the_standard_says(text)
