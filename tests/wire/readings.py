"""What our own codecs read from recorded bytes, in the form the oracles tell theirs."""

import json
from itertools import pairwise

from aistrale.exceptions import APIError, OutputError
from aistrale.models import Chunk, Completion, Embedding, ToolCall
from aistrale.models import Usage as OurUsage
from aistrale.providers import Route, codec_of, find_profile
from aistrale.providers.errors import decode_error
from aistrale.transport.sse import EventStreamDecoder

from . import story
from .exchanges import Exchange

PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "google": "google"}


def route_of(exchange: Exchange) -> Route:
    """A route of the protocol an exchange was recorded in."""
    profile = find_profile(PROVIDERS[exchange.api.partition(".")[0]])
    assert profile is not None
    return Route(profile, "asked-model", "https://replayed.example", "sk-secret")


def read(exchange: Exchange, cuts: list[int] | None = None) -> Completion | APIError:
    """Our reading of a chat exchange; an event stream is fed in pieces, cut at `cuts`."""
    route = route_of(exchange)
    codec = codec_of(route.profile.protocol)
    body = exchange.response.encode()
    if exchange.status >= 400:
        return decode_error(exchange.status, {}, body, route)
    if not exchange.streamed:
        return codec.decode(json.loads(body), route)
    events, decoder = EventStreamDecoder(), codec.stream_decoder(route)
    for start, end in pairwise([0, *sorted(cuts or ()), len(body)]):
        for event in events.feed(body[start:end]):
            decoder.feed(event)
    assert decoder.complete
    return codec.decode(decoder.body(), route)


def pieces(exchange: Exchange) -> list[Chunk]:
    """The chunks of a streamed exchange."""
    events, decoder = (
        EventStreamDecoder(),
        codec_of(route_of(exchange).profile.protocol).stream_decoder(route_of(exchange)),
    )
    return [chunk for event in events.feed(exchange.response.encode()) for chunk in decoder.feed(event)]


def read_embedding(exchange: Exchange) -> Embedding | APIError:
    """Our reading of an embeddings exchange."""
    route = route_of(exchange)
    body = exchange.response.encode()
    if exchange.status >= 400:
        return decode_error(exchange.status, {}, body, route)
    return codec_of(route.profile.protocol).decode_embedding(json.loads(body), route)


def story_of(answer: Completion | APIError) -> story.Story:
    """A reading in the oracles' form. The name of an SDK's exception has no counterpart and is left out."""
    if isinstance(answer, APIError):
        assert answer.status is not None
        return story.Story(error=story.Failure(answer.status, ""))
    choices = tuple(
        story.Choice(
            choice.message.text,
            choice.message.reasoning or "",
            tuple(story.ToolCall(call.name, _arguments(call)) for call in choice.message.tool_calls),
            choice.message.refusal or "",
            choice.finish_reason,
        )
        for choice in answer.choices
    )
    return story.Story(choices, usage_of(answer.usage))


def usage_of(usage: OurUsage | None) -> story.Usage | None:
    """Token counts in the oracles' form."""
    if usage is None:
        return None
    return story.Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    )


def _arguments(call: ToolCall) -> object:
    if call.type == "custom" or not call.arguments:
        return call.arguments
    try:
        return call.args
    except OutputError:
        return call.arguments
