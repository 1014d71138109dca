"""The oracles are sound: every recording is read, and what they read is what lies in it."""

import pytest

from .exchanges import ABSENT, Exchange, exchanges, params
from .oracles import embeddings, tell
from .story import Choice, Failure, Story, ToolCall, Usage


def recorded(id: str) -> Exchange:
    if not exchanges():
        pytest.skip(ABSENT)
    return next(exchange for exchange in exchanges() if exchange.id == id)


@pytest.mark.parametrize("exchange", params("openai.chat") + params("anthropic.messages") + params("google.generate"))
def test_every_chat_exchange_tells_a_story(exchange: Exchange) -> None:
    """An answer says something, or that it was withheld; a rejected request is an error."""
    story = tell(exchange)
    if exchange.status >= 400:
        assert story.error
        assert (story.error.status, story.choices) == (exchange.status, ())
        return
    assert story.error is None
    assert story.choices
    for choice in story.choices:
        assert choice.text or choice.tool_calls or choice.finish_reason == "content_filter"
    assert story.usage or (exchange.api == "openai.chat" and exchange.streamed)


@pytest.mark.parametrize("exchange", params("openai.embeddings") + params("google.embed"))
def test_every_embeddings_exchange_has_vectors_or_fails(exchange: Exchange) -> None:
    """A vector comes back for each input that was sent."""
    answer = embeddings(exchange)
    if isinstance(answer, Failure):
        assert answer.status == exchange.status >= 400
        return
    sent = exchange.request.get("requests") or exchange.request["input"]
    assert len(answer[0]) == (len(sent) if isinstance(sent, list) else 1)
    assert all(isinstance(number, float) for vector in answer[0] for number in vector)


WEATHER = tuple(ToolCall("get_weather", {"location": city}) for city in ("Boston", "New Delhi"))
SAID = {
    # Usage in the last chunk but one, null in the last.
    "f35caee7eb": (Choice("Paris.", finish_reason="stop"), Usage(13, 11)),
    # A streamed call whose arguments are null.
    "06eea4116a": (Choice("", "", (ToolCall("llm_version", ""),), "", "tool_calls"), Usage(57, 17)),
    # Withheld by the filter, without a message.
    "7ba738a98e": (Choice(finish_reason="content_filter"), Usage(15, 19)),
    # An empty finish reason and function call: neither counts.
    "2842b6afda": (Choice("It's currently sunny and 25°C in Mexico City! ☀️"), Usage(651, 20)),
    # Written to the cache, so counted beside `input_tokens`.
    "b280dc473f": (
        Choice("", "", (ToolCall("lookup_refund_policy", {"order_id": "order-123"}),), "", "tool_calls"),
        Usage(1076, 60, cache_write_tokens=1069),
    ),
    # Two calls in one candidate that says STOP.
    "8194dbb9c8": (Choice(tool_calls=WEATHER, finish_reason="tool_calls"), Usage(64, 11)),
    # Tokens of the provider's tool and thoughts, beside the prompt's and the candidate's.
    "402a80303c": (
        Choice("Pydantic AI Gateway is now available!", finish_reason="stop"),
        Usage(4642, 62, reasoning_tokens=37),
    ),
}
FAILED = {
    "e1c8aec48d": Failure(429, "RateLimitError"),
    "4338bada5e": Failure(400, "BadRequestError"),
    "a346e27df2": Failure(400, "ClientError"),
}


@pytest.mark.parametrize("id", [*SAID, *FAILED])
def test_a_known_exchange_tells_its_story(id: str) -> None:
    """The oracle says what a reader of the recording sees."""
    choice, usage = SAID.get(id, (None, None))
    assert tell(recorded(id)) == Story((choice,) if choice else (), usage, FAILED.get(id))


def test_thinking_and_the_providers_own_tools_are_not_the_answer() -> None:
    """Of five blocks, thinking and code run by the provider among them, the texts alone remain."""
    story = tell(recorded("c6f17d8f9c"))
    assert story.choices[0].reasoning == "Let me calculate this mathematical expression."
    assert story.choices[0].text.startswith("I'll calculate tha")
    assert (story.choices[0].tool_calls, story.usage) == ((), Usage(4714, 304))


def test_a_vector_in_base64_is_decoded() -> None:
    """Base64 of 32-bit floats; a provider without `prompt_tokens` counts its total."""
    answer = embeddings(recorded("d0336ea285"))
    assert not isinstance(answer, Failure)
    (vector,), tokens = answer
    assert (len(vector), tokens) == (1024, 4)
    assert sum(number * number for number in vector) == pytest.approx(1, abs=1e-3)
