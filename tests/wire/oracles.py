"""What each provider's own SDK reads from the recorded bytes: the truth our codecs are held to.

Every SDK runs its public client over an in-process transport that answers with the recording.
A finish reason that no provider here is known to use fails the reading, except Google's.
"""

import json
import ssl
from typing import Any

import anthropic
import httpx
import httpx2
import openai
from google import genai
from google.genai import errors, types
from openai.lib.streaming.chat import ChatCompletionStreamState

from .exchanges import Exchange
from .story import Choice, Failure, FinishReason, Story, ToolCall, Usage

_ERRORS = (openai.APIStatusError, anthropic.APIStatusError, errors.APIError)
# No two providers mean different things by one name; `eos` is Together's.
_NAMES: dict[FinishReason, str] = {
    "stop": "stop eos end_turn stop_sequence pause_turn STOP",
    "length": "length model_length max_tokens model_context_window_exceeded MAX_TOKENS",
    "tool_calls": "tool_calls function_call tool_use",
    "content_filter": "content_filter refusal "
    "SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII LANGUAGE IMAGE_SAFETY",
    "error": "error",
}
_FINISH = {name: finish for finish, names in _NAMES.items() for name in names.split()}


def tell(exchange: Exchange) -> Story:
    """The story of a chat exchange, an error answer included, as its provider's SDK reads it."""
    read = {"openai.chat": _openai_chat, "anthropic.messages": _anthropic, "google.generate": _google_chat}
    try:
        return read[exchange.api](exchange)
    except _ERRORS as error:
        return Story(error=_failure(error))


def embeddings(exchange: Exchange) -> tuple[list[list[float]], int | None] | Failure:
    """The vectors of an embeddings exchange in input order, and its input tokens where counted."""
    read = {"openai.embeddings": _openai_embeddings, "google.embed": _google_embeddings}
    try:
        return read[exchange.api](exchange)
    except _ERRORS as error:
        return _failure(error)


def _failure(error: Any) -> Failure:
    status = error.code if isinstance(error, errors.APIError) else error.status_code
    return Failure(status, type(error).__name__)


def _http(exchange: Exchange, http: Any = httpx) -> Any:
    """A client of the module `http`, `httpx` or `httpx2`, whose every answer is the recorded one."""
    headers = {"content-type": exchange.content_type, "retry-after": exchange.retry_after}
    given = {name: value for name, value in headers.items() if value}
    response = http.Response(exchange.status, headers=given, content=exchange.response.encode())
    return http.Client(transport=http.MockTransport(lambda request: response))


def _openai(exchange: Exchange) -> openai.OpenAI:
    return openai.OpenAI(api_key="unused", http_client=_http(exchange), max_retries=0)


def _openai_chat(exchange: Exchange) -> Story:
    create = _openai(exchange).chat.completions.create
    if not exchange.streamed:
        completion: Any = create(model="any", messages=[])
        return Story(tuple(map(_openai_choice, completion.choices)), _openai_usage(completion.usage))
    state = ChatCompletionStreamState()
    usage = None
    for chunk in create(model="any", messages=[], stream=True):
        state.handle_chunk(chunk)
        # The SDK's snapshot keeps the usage of the last chunk, so it loses the count when another
        # follows with `"usage": null`, as OpenAI's moderation chunk does. No chunk takes it back.
        usage = chunk.usage or usage
    # Not get_final_completion(), which raises for an answer that was cut at its length.
    choices = state.current_completion_snapshot.choices
    return Story(tuple(map(_openai_choice, choices)), _openai_usage(usage))


def _openai_choice(choice: Any) -> Choice:
    finish = _FINISH[choice.finish_reason] if choice.finish_reason else None
    message = getattr(choice, "message", None)
    if message is None:  # Azure sends none when its filter withheld the answer
        return Choice(finish_reason=finish)
    calls = [_openai_call(call) for call in message.tool_calls or ()]
    if message.function_call and message.function_call.name:  # Snowflake always sends one, empty
        calls.append(_openai_function(message.function_call))
    # Mistral's reasoning models answer in parts.
    parts = message.content if isinstance(message.content, list) else []
    text = _texts(parts) if parts else message.content or ""
    thinking = "".join(_texts(part["thinking"]) for part in parts if part["type"] == "thinking")
    reasoning = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    if not reasoning:  # OpenRouter's form, which Snowflake sends alone
        reasoning = "".join(item.get("text") or "" for item in getattr(message, "reasoning_details", None) or ())
    return Choice(text, reasoning or thinking, tuple(calls), message.refusal or "", finish)


def _texts(parts: list[dict[str, Any]]) -> str:
    return "".join(part["text"] for part in parts if part["type"] == "text")


def _openai_call(call: Any) -> ToolCall:
    if call.type == "custom":
        return ToolCall(call.custom.name, call.custom.input)
    return _openai_function(call.function)


def _openai_function(function: Any) -> ToolCall:
    arguments = function.arguments or ""  # null in some streams
    try:
        return ToolCall(function.name, json.loads(arguments))
    except ValueError:
        return ToolCall(function.name, arguments)


def _openai_usage(usage: Any) -> Usage | None:
    if usage is None:
        return None
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    # Beside the counts: Together and Hugging Face, Mistral, DeepSeek.
    beside = ("cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens")
    cached = [getattr(prompt, "cached_tokens", None), *(getattr(usage, name, None) for name in beside)]
    return Usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        next((count for count in cached if count is not None), 0),
        getattr(prompt, "cache_write_tokens", None) or 0,
        getattr(completion, "reasoning_tokens", None) or 0,
    )


def _openai_embeddings(exchange: Exchange) -> tuple[list[list[float]], int | None]:
    answer = _openai(exchange).embeddings.create(model="any", input="any")
    vectors = [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]
    # Voyage counts the total alone, which for embeddings is the input.
    return vectors, getattr(answer.usage, "prompt_tokens", None) or answer.usage.total_tokens


def content_blocks(exchange: Exchange) -> list[dict[str, Any]]:
    """The blocks of Anthropic's answer, those of a stream put together, as its SDK would send them back."""
    blocks: list[dict[str, Any]] = _anthropic_message(exchange).to_dict(warnings=False)["content"]
    return blocks


def _anthropic_message(exchange: Exchange) -> Any:
    http = _http(exchange, httpx2)
    messages = anthropic.Anthropic(api_key="unused", http_client=http, max_retries=0).messages
    if exchange.streamed:
        with messages.stream(model="any", messages=[], max_tokens=1) as stream:
            return stream.get_final_message()
    return messages.create(model="any", messages=[], max_tokens=1)


def _anthropic(exchange: Exchange) -> Story:
    message = _anthropic_message(exchange)
    blocks, usage = message.content, message.usage
    choice = Choice(
        "".join(block.text for block in blocks if block.type == "text"),
        "".join(block.thinking for block in blocks if block.type == "thinking"),
        tuple(ToolCall(block.name, block.input) for block in blocks if block.type == "tool_use"),
        finish_reason=_FINISH[message.stop_reason] if message.stop_reason else None,
    )
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    thinking = getattr(usage.output_tokens_details, "thinking_tokens", None) or 0
    counts = Usage(usage.input_tokens + read + written, usage.output_tokens, read, written, thinking)
    return Story((choice,), counts)


# The client would read the machine's certificates three times over, for transports unused here.
_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _google(exchange: Exchange) -> Any:
    options = types.HttpOptions(
        httpx_client=_http(exchange),
        async_client_args={"verify": _NO_CERTIFICATES, "ssl": _NO_CERTIFICATES},
        retry_options=types.HttpRetryOptions(attempts=1),
    )
    vertex = exchange.host == "aiplatform.googleapis.com"
    return genai.Client(vertexai=vertex, api_key="unused", http_options=options).models


def _google_chat(exchange: Exchange) -> Story:
    models = _google(exchange)
    if exchange.streamed:  # the SDK joins no chunks
        chunks = list(models.generate_content_stream(model="any", contents="any"))
    else:
        chunks = [models.generate_content(model="any", contents="any")]
    choices: dict[int, list[types.Candidate]] = {}
    for candidate in (candidate for chunk in chunks for candidate in chunk.candidates or ()):
        choices.setdefault(candidate.index or 0, []).append(candidate)
    # The counts in a chunk are of the answer so far, and the prompt's is corrected in the last.
    counts = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    return Story(tuple(map(_google_choice, choices.values())), _google_usage(counts[-1]) if counts else None)


def _google_choice(pieces: list[types.Candidate]) -> Choice:
    parts = [part for piece in pieces if piece.content for part in piece.content.parts or ()]
    calls = tuple(
        ToolCall(part.function_call.name or "", part.function_call.args) for part in parts if part.function_call
    )
    named = [piece.finish_reason.value for piece in pieces if piece.finish_reason]
    finish = _FINISH.get(named[-1], "error") if named else None
    return Choice(
        "".join(part.text for part in parts if part.text and not part.thought),
        "".join(part.text for part in parts if part.text and part.thought),
        calls,
        finish_reason="tool_calls" if calls and finish == "stop" else finish,
    )


def _google_usage(counts: types.GenerateContentResponseUsageMetadata) -> Usage:
    thoughts = counts.thoughts_token_count or 0
    return Usage(
        (counts.prompt_token_count or 0) + (counts.tool_use_prompt_token_count or 0),
        (counts.candidates_token_count or 0) + thoughts,
        cache_read_tokens=counts.cached_content_token_count or 0,
        reasoning_tokens=thoughts,
    )


def _google_embeddings(exchange: Exchange) -> tuple[list[list[float]], int | None]:
    answer = _google(exchange).embed_content(model="any", contents="any")
    usage = answer.usage_metadata
    return [item.values for item in answer.embeddings], usage.prompt_token_count if usage else None
