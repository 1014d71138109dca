"""Every recorded answer decodes to what its provider's own SDK reads from the same bytes."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistrale.exceptions import APIError
from aistrale.models import Completion, Embedding

from .exchanges import Exchange, params
from .oracles import embeddings, tell
from .readings import pieces, read, read_embedding, story_of
from .story import Failure, Story

CHAT = [*params("openai.chat"), *params("anthropic.messages"), *params("google.generate")]


def truth(exchange: Exchange) -> Story:
    told = tell(exchange)
    return replace(told, error=told.error and replace(told.error, exception=""))


EMBEDDINGS = [*params("openai.embeddings"), *params("google.embed")]
STREAMED = [param for param in CHAT if param.values[0] is None or param.values[0].streamed]


@pytest.mark.parametrize("exchange", CHAT)
def test_an_answer_reads_as_its_sdk_reads_it(exchange: Exchange) -> None:
    """Text, tool calls, reasoning, refusal, finish reason and usage agree."""
    assert story_of(read(exchange)) == truth(exchange)


@pytest.mark.parametrize("exchange", STREAMED)
def test_a_stream_reads_the_same_byte_by_byte(exchange: Exchange) -> None:
    """Where the network cuts a stream changes nothing: the cruellest cut."""
    size = len(exchange.response.encode())
    assert read(exchange, list(range(1, size))) == read(exchange)


@pytest.mark.parametrize("exchange", STREAMED)
@given(data=st.data())
@settings(max_examples=15)
def test_a_stream_reads_the_same_however_it_is_cut(exchange: Exchange, data: st.DataObject) -> None:
    """Where the network cuts a stream changes nothing: random cuts."""
    size = len(exchange.response.encode())
    cuts = data.draw(st.lists(st.integers(0, size), max_size=30))
    assert read(exchange, cuts) == read(exchange)


@pytest.mark.parametrize("exchange", STREAMED)
def test_chunks_add_up_to_the_completion(exchange: Exchange) -> None:
    """What a caller of a stream sees piece by piece is what the whole answer says."""
    chunks, completion = pieces(exchange), read(exchange)
    assert isinstance(completion, Completion)
    assert "".join(chunk.text for chunk in chunks) == completion.text
    assert "".join(chunk.reasoning for chunk in chunks) == (completion.reasoning or "")
    calls: dict[int, list[str]] = {}
    for piece in (piece for chunk in chunks for piece in chunk.tool_calls):
        call = calls.setdefault(piece.index, ["", "", ""])
        call[0] += piece.id or ""
        call[1] += piece.name or ""
        call[2] += piece.arguments
    assert [(i, n, json.loads(a or "{}")) for i, n, a in calls.values()] == [
        (call.id, call.name, call.args) for call in completion.tool_calls
    ]
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == [completion.finish_reason]
    assert [chunk.usage for chunk in chunks if chunk.usage][-1:] == ([completion.usage] if completion.usage else [])


@pytest.mark.parametrize("exchange", EMBEDDINGS)
def test_embeddings_read_as_their_sdk_reads_them(exchange: Exchange) -> None:
    """Vectors in the order of their texts, and the tokens counted."""
    told = embeddings(exchange)
    answer = read_embedding(exchange)
    if isinstance(told, Failure):
        assert isinstance(answer, APIError)
        assert answer.status == told.status
    else:
        assert isinstance(answer, Embedding)
        vectors, tokens = told
        assert answer.vectors == [pytest.approx(vector) for vector in vectors]
        assert (answer.usage.input_tokens if answer.usage else None) == tokens
