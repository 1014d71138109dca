"""What a wire codec does: values in, bytes out, and back. No codec performs I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from aistrale.http import HTTPRequest, ServerSentEvent
    from aistrale.models import JSON, Chunk, Completion, CompletionRequest, Embedding, EmbeddingRequest
    from aistrale.providers.profile import Route


class StreamDecoder(Protocol):
    """Reads one streamed answer, event by event, and adds it up to the body it would have been unstreamed.

    So `Codec.decode` is the only reading of an answer, streamed or not.
    """

    complete: bool
    """What has arrived makes a whole answer: the stream may end here."""

    ended: bool
    """The provider said that nothing more will come."""

    def feed(self, event: ServerSentEvent) -> list[Chunk]:
        """The chunks an event holds. Raises ValueError for an event that is no JSON, APIError for an error."""

    def body(self) -> JSON:
        """The answer so far, in the shape of an unstreamed body."""


class Codec(Protocol):
    """A wire protocol: OpenAI's, Anthropic's, Google's, or a third party's by entry point."""

    def encode(self, request: CompletionRequest, route: Route, *, stream: bool) -> HTTPRequest:
        """Raises InvalidRequestError for what the protocol cannot say."""

    def decode(self, body: JSON, route: Route) -> Completion:
        """Read an answer. Raises KeyError, TypeError, AttributeError or ValueError if it is none."""

    def stream_decoder(self, route: Route) -> StreamDecoder: ...

    def encode_embedding(self, request: EmbeddingRequest, route: Route) -> HTTPRequest: ...

    def decode_embedding(self, body: JSON, route: Route) -> Embedding: ...
