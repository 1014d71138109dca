"""OpenAI's chat completions and embeddings, and everything that speaks them.

Source: https://platform.openai.com/docs/api-reference/chat and .../embeddings. Where a compatible
provider departs from it, the departure is either data in its Profile, or something more that is read here.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from array import array
from collections.abc import Container, Mapping, Sequence
from decimal import Decimal
from sys import byteorder
from typing import Any

from aistrale.exceptions import InvalidRequestError
from aistrale.http import HTTPRequest, ServerSentEvent, encode_json
from aistrale.models import (
    JSON,
    REQUEST_FIELDS,
    Choice,
    Chunk,
    Completion,
    CompletionRequest,
    Embedding,
    EmbeddingRequest,
    FinishReason,
    Message,
    ReasoningBlock,
    ToolCall,
    ToolCallChunk,
    Usage,
    listed,
)
from aistrale.parsing import parse_json
from aistrale.providers.errors import decode_error_body
from aistrale.providers.history import fit_id, in_writing, made_up_id
from aistrale.providers.merge import deep_merge, extend_lists, merge_delta
from aistrale.providers.numbers import count, dollars
from aistrale.providers.parts import neutral_parts
from aistrale.providers.profile import Profile, Route

logger = logging.getLogger("aistrale")

FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "model_length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "error": "error",
    "insufficient_system_resource": "error",
}

REASONING_FIELDS = ("reasoning_content", "reasoning")
"""Where compatible providers put readable reasoning; OpenAI itself gives none."""


_PARTS = frozenset(("text", "refusal", "image_url", "input_audio", "file", "video_url"))
_ANTHROPICS = frozenset(("citations", "context", "mime_type", "title"))
"""What parts may hold for other protocols, and OpenAI's refuses; a cache mark some that speak it take."""


class OpenAICodec:
    """The chat completions protocol."""

    def encode(self, request: CompletionRequest, route: Route, *, stream: bool) -> HTTPRequest:
        body = encode_body(request, route, stream=stream)
        return route.request(self.url(route, "chat/completions"), encode_json(body))

    def decode(self, body: JSON, route: Route) -> Completion:
        if not body["choices"] and not body.get("usage"):
            raise ValueError("it holds no choice")
        return Completion(
            choices=tuple(_decode_choice(choice, body) for choice in body["choices"]),
            model=body.get("model") or route.model,
            id=body.get("id"),
            usage=decode_usage(body),
            reported_cost=decode_cost(body),
            raw=body,
        )

    def stream_decoder(self, route: Route) -> OpenAIStreamDecoder:
        return OpenAIStreamDecoder(route)

    def encode_embedding(self, request: EmbeddingRequest, route: Route) -> HTTPRequest:
        body: JSON = {"model": route.model, "input": request.inputs}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        if request.user is not None:
            body["user"] = request.user
        return route.request(self.url(route, "embeddings"), encode_json(body | request.extra))

    def decode_embedding(self, body: JSON, route: Route) -> Embedding:
        rows = sorted(body["data"], key=lambda row: row.get("index", 0))
        return Embedding(
            vectors=[_decode_vector(row["embedding"]) for row in rows],
            model=body.get("model") or route.model,
            usage=decode_usage(body),
            reported_cost=decode_cost(body),
            raw=body,
        )

    def url(self, route: Route, path: str) -> str:
        return f"{route.base_url.rstrip('/')}/{path}"


# Requests


def encode_body(request: CompletionRequest, route: Route, *, stream: bool) -> JSON:
    """The JSON body of a chat completion request."""
    profile = route.profile
    body: JSON = {
        "model": route.model,
        "messages": [_encode_message(message, profile) for message in request.messages],
    }
    for name in REQUEST_FIELDS:
        value = getattr(request, name)
        if value is not None and _is_taken(name, request, profile):
            body[profile.renames.get(name, name)] = value
    newer = profile.new_limit_models
    if "max_tokens" in body and newer is not None and re.match(newer, route.model):
        body.setdefault("max_completion_tokens", body.pop("max_tokens"))
    if isinstance(request.tool_choice, str):
        body["tool_choice"] = encode_tool_choice(request.tool_choice)
    if request.extra.get("stream") and not stream:
        raise InvalidRequestError("extra_body cannot ask for a stream: call stream() instead of run()")
    if stream:
        body["stream"] = True
        if profile.stream_usage:
            body["stream_options"] = {"include_usage": True}
    return deep_merge(body, request.extra) | ({"stream": True} if stream else {})


def decode_request(body: Mapping[str, Any]) -> tuple[CompletionRequest, bool]:
    """An OpenAI-shaped request body, and whether it asks for a stream; encoding it again loses nothing.

    What has no field of its own, explicit nulls included, is kept in `extra`.
    """
    known: JSON = {}
    extra: JSON = {}
    for key, value in body.items():
        if key in REQUEST_FIELDS and value is not None:
            known[key] = value
        elif key not in ("model", "messages"):
            extra[key] = value
    if "tools" in known:
        known["tools"] = tuple(listed(known["tools"], "tools"))
    messages = tuple(Message.from_dict(message) for message in listed(body.get("messages"), "messages"))
    stream = bool(extra.get("stream"))
    if stream:
        del extra["stream"]
    return CompletionRequest(messages=messages, model=body.get("model"), extra=extra, **known), stream


def decode_embedding_request(body: Mapping[str, Any]) -> EmbeddingRequest:
    """An OpenAI-shaped embeddings body; encoding it again loses nothing."""
    known = {key: body[key] for key in ("dimensions", "user") if body.get(key) is not None}
    inputs = body.get("input", "")
    extra = {key: value for key, value in body.items() if key not in ("model", "input", *known)}
    inputs = inputs if isinstance(inputs, str) else tuple(listed(inputs, "input"))
    return EmbeddingRequest(inputs=inputs, model=body.get("model"), extra=extra, **known)


def encode_tool_choice(choice: str) -> str | JSON:
    """A tool choice word as the wire has it; any other text is a tool's name."""
    words = {"auto": "auto", "none": "none", "required": "required", "any": "required"}
    return words.get(choice) or {"type": "function", "function": {"name": choice}}


def _is_taken(name: str, request: CompletionRequest, profile: Profile) -> bool:
    if name in profile.drops:
        logger.warning("%s takes no %s: it is not sent", profile.name, name)
        return False
    if name != "metadata" or profile.takes_metadata == "always":
        return True
    # Elsewhere it is for the caller's own handlers and spans.
    return profile.takes_metadata == "with store" and bool(request.extra.get("store"))


def _encode_message(message: Message, profile: Profile) -> JSON:
    if not profile.takes_audio_ids:
        message = in_writing(message)
    body = {key: value for key, value in message.to_dict().items() if key not in profile.message_drops}
    if message.role == "developer" and not profile.takes_developer:
        body["role"] = "system"
    if isinstance(message.content, list) and profile.name != "aistrale":  # which passes them on itself
        parts = _encode_parts(message.content, _ANTHROPICS | profile.message_drops)
        body["content"] = parts if parts or not message.content else ""
    if message.role == "tool" and message.name is not None:
        body["name"] = message.name  # what some refuse of people they take of tools
    if message.reasoning_blocks and profile.reasoning_field and message.role == "assistant":
        body.setdefault(profile.reasoning_field, _encode_reasoning(message, profile.reasoning_field))
    audio = body.get("audio")
    if isinstance(audio, dict) and "id" in audio:  # an earlier spoken answer is named, not sent again
        body["audio"] = {"id": audio["id"]}
    if length := profile.tool_call_id_length:
        for call in body.get("tool_calls") or ():
            call["id"] = fit_id(call["id"], length)
        if "tool_call_id" in body:
            body["tool_call_id"] = fit_id(body["tool_call_id"], length)
    if message.role == "assistant" and "content" not in body and (profile.needs_content or not message.tool_calls):
        body["content"] = None if message.tool_calls else ""
    return body


def _encode_parts(parts: list[JSON], drops: Container[str]) -> list[JSON]:
    return [_encode_part(neutral, drops) for part in parts for neutral in neutral_parts(part)]


def _encode_part(part: JSON, drops: Container[str]) -> JSON:
    """A part without what other providers are told of it; one of a type of the provider's own stays as it is."""
    if part["type"] not in _PARTS:
        return part
    body = {key: value for key, value in part.items() if key not in drops}
    file = part.get("file")
    if isinstance(file, dict) and file.get("file_data") and not file.get("filename"):
        body["file"] = {**file, "filename": "file"}  # OpenAI takes no data without a name
    return body


def _encode_reasoning(message: Message, field: str) -> Any:
    if field != "reasoning_details":
        return message.reasoning
    return [block.detail or _encode_detail(block) for block in message.reasoning_blocks]


def _encode_detail(block: ReasoningBlock) -> JSON:
    """Another provider's reasoning as OpenRouter has it: https://openrouter.ai/docs/use-cases/reasoning-tokens"""
    if block.data is not None:
        return {"type": "reasoning.encrypted", "data": block.data}
    return {"type": "reasoning.text", "text": block.text, "signature": block.signature}


# Answers


def _decode_choice(choice: JSON, body: JSON) -> Choice:
    # Azure leaves the message out where its filter took it away.
    message = _decode_message(choice.get("message") or {}, body, choice.get("index") or 0)
    reason = decode_finish_reason(choice.get("finish_reason"))
    return Choice(message, reason, choice.get("index") or 0, choice.get("logprobs"))


def decode_finish_reason(reason: str | None) -> FinishReason | None:
    """Our name for a finish reason; a provider's own word for an ordinary end is `stop`."""
    return FINISH_REASONS.get(reason, "stop") if reason else None


def _decode_message(message: JSON, body: JSON, index: int) -> Message:
    content = message.get("content")
    text = content if isinstance(content, str | None) else _parts_text(content, "text")
    extra = {key: message[key] for key in ("annotations", "images") if message.get(key)}
    if (message.get("audio") or {}).get("id"):
        extra["audio"] = message["audio"]
    return Message(
        "assistant",
        text,
        tool_calls=_decode_tool_calls(message, body, index),
        refusal=message.get("refusal") or None,
        reasoning_blocks=_decode_reasoning(message, content),
        extra=extra,
    )


def _decode_tool_calls(message: JSON, body: JSON, index: int) -> tuple[ToolCall, ...]:
    calls = []
    for position, call in enumerate(message.get("tool_calls") or ()):
        identifier = call.get("id") or made_up_id(body.get("id"), index, position)
        extra = {k: v for k, v in call.items() if k not in ("id", "type", "function", "custom", "index")}
        custom = call.get("custom")
        if custom and "function" not in call:
            calls.append(ToolCall(identifier, custom["name"], custom.get("input", ""), "custom", extra))
        else:
            function = call["function"]
            arguments = function.get("arguments") or ""
            # Some servers send the arguments as an object.
            arguments = arguments if isinstance(arguments, str) else json.dumps(arguments)
            calls.append(ToolCall(identifier, function["name"], arguments, "function", extra))
    legacy = message.get("function_call") or {}
    if legacy.get("name"):  # the predecessor of tools
        identifier = made_up_id(body.get("id"), index, len(calls))
        calls.append(ToolCall(identifier, legacy["name"], legacy.get("arguments") or ""))
    return tuple(calls)


def _decode_reasoning(message: JSON, content: Any) -> tuple[ReasoningBlock, ...]:
    text = next((message[key] for key in REASONING_FIELDS if message.get(key) and isinstance(message[key], str)), "")
    if isinstance(content, list):  # Mistral: parts of type "thinking"
        text += "".join(_parts_text(p.get("thinking"), "text") for p in content if p.get("type") == "thinking")
    details = message.get("reasoning_details")
    if not isinstance(details, list) or not details:
        return (ReasoningBlock(text),) if text else ()
    blocks = [
        ReasoningBlock(
            _detail_text(detail),
            detail.get("signature"),
            detail.get("data"),
            detail,
        )
        for detail in details
    ]
    if text and not any(block.text for block in blocks):
        blocks.insert(0, ReasoningBlock(text))
    return tuple(blocks)


def _detail_text(detail: JSON) -> str:
    return detail.get("text") or detail.get("summary") or ""


def _parts_text(parts: Any, key: str) -> str:
    if isinstance(parts, str):
        return parts
    return "".join(part.get(key) or "" for part in parts or () if part.get("type") == "text")


def decode_usage(body: JSON) -> Usage | None:
    """Token counts; compatible providers keep cached tokens in places of their own."""
    usage = body.get("usage") or (body.get("x_groq") or {}).get("usage")
    if not usage:
        return None
    prompt = usage.get("prompt_tokens_details") or {}
    answer = usage.get("completion_tokens_details") or {}
    given = usage.get("prompt_tokens")
    input_tokens = count(usage.get("total_tokens") if given is None else given)  # Voyage counts the total only
    output_tokens = count(usage.get("completion_tokens"))
    reasoning = count(answer.get("reasoning_tokens"))
    if reasoning and usage.get("total_tokens") == input_tokens + output_tokens + reasoning:
        output_tokens += reasoning  # xAI counts reasoning beside the answer, not within it
    cached = (
        prompt.get("cached_tokens")
        or usage.get("prompt_cache_hit_tokens")
        or usage.get("cached_tokens")
        or usage.get("num_cached_tokens")
    )
    return Usage(input_tokens, output_tokens, count(cached), count(prompt.get("cache_write_tokens")), reasoning)


def decode_cost(body: JSON) -> Decimal | None:
    """What the provider says the call cost, in US dollars.

    OpenRouter's `usage.cost` is its own charge; with the user's own upstream key, the upstream's comes on top.
    Source: https://openrouter.ai/docs/use-cases/usage-accounting
    """
    usage = body.get("usage") or {}
    cost = dollars(usage.get("cost"))
    if cost is None or not usage.get("is_byok"):
        return cost
    return cost + (dollars((usage.get("cost_details") or {}).get("upstream_inference_cost")) or 0)


def _decode_vector(value: Sequence[float] | str) -> list[float]:
    if not isinstance(value, str):
        return list(value)
    floats = array("f", base64.b64decode(value))  # little-endian float32
    if byteorder == "big":
        floats.byteswap()
    return floats.tolist()


# Streams


_PER_EVENT = frozenset(("choices", "object", "obfuscation"))
"""What an event says for itself; everything else beside the choices belongs to the answer as a whole."""


class OpenAIStreamDecoder:
    """Adds `chat.completion.chunk` events up to the `chat.completion` they are pieces of."""

    def __init__(self, route: Route) -> None:
        self.complete = self.ended = False
        self._route = route
        self._head: JSON = {}
        self._choices: dict[int, _ChoiceParts] = {}

    def feed(self, event: ServerSentEvent) -> list[Chunk]:
        if event.data == "[DONE]":
            self.complete = self.ended = True
            return []
        body = parse_json(event.data)
        if not isinstance(body, dict):
            raise ValueError("an event is no JSON object")
        if body.get("error"):
            raise decode_error_body(body, self._route)
        choices = body.get("choices") or ()
        usage = decode_usage(body) if body.get("usage") or "x_groq" in body else None
        for key, value in body.items():
            if value is not None and key not in _PER_EVENT:
                self._head[key] = value
        chunks = [chunk for choice in choices if (chunk := self._take_choice(choice, body))]
        if usage:
            if chunks:
                chunks[-1].usage = usage
            else:
                chunks.append(Chunk(usage=usage, raw=body))
        return chunks

    def body(self) -> JSON:
        choices = [parts.choice(index) for index, parts in sorted(self._choices.items())]
        return {**self._head, "object": "chat.completion", "choices": choices}

    def _take_choice(self, choice: JSON, body: JSON) -> Chunk | None:
        index = choice.get("index") or 0
        parts = self._choices.get(index)
        if parts is None:
            parts = self._choices[index] = _ChoiceParts(self._head.get("id"), index)
        delta = choice.get("delta") or {}
        text, reasoning, calls = parts.add(delta)
        if isinstance(likely := choice.get("logprobs"), dict):
            extend_lists(parts.logprobs, likely)
        reason = choice.get("finish_reason")
        if reason:
            self.complete = True
            parts.finish_reason = reason
        if text or reasoning or calls or reason:
            return Chunk(text, reasoning, calls, decode_finish_reason(reason), None, index, body)
        return None


class _ChoiceParts:
    """The pieces of one choice's message so far."""

    def __init__(self, response_id: str | None, index: int) -> None:
        self.finish_reason: str | None = None
        self.logprobs: JSON = {}
        self._id, self._index = response_id, index
        self._texts: dict[str, list[str]] = {}
        self._calls: list[JSON] = []
        self._call_at: dict[int, int] = {}
        self._other: JSON = {}

    def add(self, delta: JSON) -> tuple[str, str, tuple[ToolCallChunk, ...]]:
        """Take a delta in; returns its text, its reasoning and its pieces of tool calls."""
        text = reasoning = ""
        calls: tuple[ToolCallChunk, ...] = ()
        for key, value in delta.items():
            if value is None or key == "role":
                continue
            if isinstance(value, str):
                self._texts.setdefault(key, []).append(value)
                if key == "content":
                    text = value
                elif key in REASONING_FIELDS:
                    reasoning = value or reasoning
            elif key == "tool_calls":
                calls = tuple([self._add_call(call) for call in value])
            elif key == "content":  # Mistral: a list of parts
                text, reasoning = self._add_parts(value)
            else:
                self._other[key] = merge_delta(self._other.get(key), value)
                if key == "function_call":
                    calls = (self._function_call_piece(value),)
                elif key == "reasoning_details" and not reasoning:
                    reasoning = "".join(_detail_text(detail) for detail in value)
        return text, reasoning, calls

    def choice(self, index: int) -> JSON:
        """The choice as an unstreamed answer has it."""
        texts = {key: "".join(pieces) for key, pieces in self._texts.items()}
        message: JSON = {"role": "assistant", "content": None, **texts, **self._other}
        if self._calls:
            message["tool_calls"] = self._calls
        about = {"logprobs": self.logprobs} if self.logprobs else {}
        return {"index": index, "message": message, **about, "finish_reason": self.finish_reason}

    def _function_call_piece(self, piece: JSON) -> ToolCallChunk:
        """A piece of the predecessor of tool calls, which had no ids."""
        position = len(self._calls)
        name = piece.get("name") or None
        identifier = made_up_id(self._id, self._index, position) if name else None
        return ToolCallChunk(position, identifier, name, piece.get("arguments") or "")

    def _add_parts(self, parts: list[JSON]) -> tuple[str, str]:
        text = _parts_text(parts, "text")
        reasoning = "".join(_parts_text(p.get("thinking"), "text") for p in parts if p.get("type") == "thinking")
        self._texts.setdefault("content", []).append(text)
        if reasoning:
            self._texts.setdefault("reasoning_content", []).append(reasoning)
        return text, reasoning

    def _add_call(self, delta: JSON) -> ToolCallChunk:
        position = self._position(delta)
        is_new = position == len(self._calls)
        if is_new:
            self._calls.append({"id": delta.get("id") or made_up_id(self._id, self._index, position)})
        call = self._calls[position]
        kind = "custom" if "custom" in delta else "function"
        piece = delta.get(kind) or {}
        arguments = piece.get("input" if kind == "custom" else "arguments") or ""
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments)
        body = call.setdefault(kind, {"name": "", "input" if kind == "custom" else "arguments": ""})
        body["name"] = body["name"] or piece.get("name") or ""
        body["input" if kind == "custom" else "arguments"] += arguments
        for key, value in delta.items():
            if key not in ("id", "index", "function", "custom") and value is not None:
                call[key] = value
        return ToolCallChunk(position, call["id"] if is_new else None, piece.get("name") or None, arguments)

    def _position(self, delta: JSON) -> int:
        """Which call a piece belongs to; not every server numbers them, and some number all of them 0."""
        index, identifier = delta.get("index"), delta.get("id")
        name = (delta.get("function") or delta.get("custom") or {}).get("name")
        if index is None:
            known = next((i for i, call in enumerate(self._calls) if identifier and call["id"] == identifier), None)
            if known is not None:
                return known
            return len(self._calls) if identifier or name or not self._calls else len(self._calls) - 1
        position = self._call_at.get(index)
        if position is None or (name and identifier and self._calls[position]["id"] != identifier):
            position = self._call_at[index] = len(self._calls)
        return position
