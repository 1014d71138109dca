"""Providers' answers read by our codecs, from a body or from the events of a stream."""

import json
from dataclasses import dataclass, replace

from shapes import route_to

from aistrale.models import JSON, Chunk, Completion
from aistrale.providers import codec_of
from aistrale.transport.sse import EventStreamDecoder


def read(provider: str, body: JSON) -> Completion:
    """The completion in a body, which may not have been changed by reading it."""
    route = route_to(f"{provider}/asked-model")
    before = json.dumps(body)
    completion = codec_of(route.profile.protocol).decode(body, route)
    assert json.dumps(body) == before
    return completion


@dataclass
class Streamed:
    """What a stream gave: its chunks, and the completion they add up to."""

    chunks: list[Chunk]
    completion: Completion
    complete: bool
    ended: bool

    def text(self, index: int = 0) -> str:
        return "".join(chunk.text for chunk in self.chunks if chunk.index == index)

    def reasoning(self, index: int = 0) -> str:
        return "".join(chunk.reasoning for chunk in self.chunks if chunk.index == index)

    def calls(self, index: int = 0) -> list[tuple[str, str, str]]:
        """The tool calls as a reader of chunks puts them together: id, name and arguments."""
        calls: dict[int, list[str]] = {}
        for piece in (piece for chunk in self.chunks if chunk.index == index for piece in chunk.tool_calls):
            call = calls.setdefault(piece.index, ["", "", ""])
            call[0], call[1] = call[0] + (piece.id or ""), call[1] + (piece.name or "")
            call[2] += piece.arguments
        return [(id, name, arguments) for id, name, arguments in calls.values()]


def read_stream(provider: str, *events: JSON | str) -> Streamed:
    """The reading of a stream; an event is its data, or its text as it stands in the stream."""
    route = route_to(f"{provider}/asked-model")
    codec = codec_of(route.profile.protocol)
    decoder, chunks = codec.stream_decoder(route), []
    text = "".join(event if isinstance(event, str) else f"data: {json.dumps(event)}\n\n" for event in events)
    for event in EventStreamDecoder().feed(text.encode()):
        chunks += decoder.feed(event)
    return Streamed(chunks, codec.decode(decoder.body(), route), decoder.complete, decoder.ended)


def without_raw(completion: Completion) -> Completion:
    """A completion in what it says, apart from the body it was read from."""
    return replace(completion, raw={})
