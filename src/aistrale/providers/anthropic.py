"""Anthropic's Messages API.

Source: https://docs.anthropic.com/en/api/messages and .../messages-streaming.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from aistrale.exceptions import InvalidRequestError
from aistrale.http import HTTPRequest, ServerSentEvent, encode_json
from aistrale.models import (
    JSON,
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
)
from aistrale.parsing import parse_json
from aistrale.providers.errors import decode_error_body
from aistrale.providers.history import arguments_object, calls_of, check_has_turn, fit_id, in_writing
from aistrale.providers.merge import deep_merge, merge_delta
from aistrale.providers.numbers import count
from aistrale.providers.parts import Media, media_of
from aistrale.providers.profile import Route
from aistrale.schema import closed, without

logger = logging.getLogger("aistrale")

PROTOCOL = "anthropic"
VERSION = "2023-06-01"
"""The `anthropic-version` header: https://docs.anthropic.com/en/api/versioning"""

DEFAULT_MAX_TOKENS = 16_384
"""The API requires a limit."""

MOST_TOKENS = {
    ("claude-3-7",): 64_000,
    ("claude-3-",): 4096,
    ("claude-opus-4-0", "claude-opus-4-1", "claude-opus-4-2"): 32_000,
}
"""The longest answers of older models, by their names' beginnings; later ones give 64,000 tokens and more.
Source: https://docs.anthropic.com/en/docs/about-claude/models/overview."""

BUDGET_MODELS = (
    "claude-3-7",
    "claude-sonnet-4-0",
    "claude-sonnet-4-2",
    "claude-sonnet-4-5",
    "claude-opus-4-0",
    "claude-opus-4-1",
    "claude-opus-4-2",
    "claude-opus-4-5",
    "claude-haiku-4-5",
)
"""Models whose thinking is measured by a budget of tokens; those after them adapt it to an effort."""

MIN_BUDGET = 1024
BUDGETS = {"minimal": 1024, "low": 1024, "medium": 4096, "high": 16_384, "xhigh": 32_768, "max": 32_768}

STOP_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

SAMPLED_MODELS = ("claude-3", "claude-sonnet-4-", "claude-haiku-4-", *(f"claude-opus-4-{n}" for n in "012456"))
"""Models that can be tuned by temperature and the like; those after them refuse it."""

_TOLD_OF = {"image": ("cache_control",), "document": ("cache_control", "citations", "context", "title")}
"""What may be said of a part beside its content."""

_NEVER_TAKEN = ("seed", "frequency_penalty", "presence_penalty")
_SAMPLING = ("temperature", "top_p", "top_k")

_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_NO_BOUNDS = frozenset((*_BOUNDS, "minLength", "maxLength", "minItems", "maxItems"))
"""What the schemas of structured outputs may not hold; `completion.parsed` checks it all the same.
Source: https://docs.anthropic.com/en/docs/build-with-claude/structured-outputs"""


class AnthropicCodec:
    """The Messages protocol."""

    def encode(self, request: CompletionRequest, route: Route, *, stream: bool) -> HTTPRequest:
        body = deep_merge(encode_body(request, route), request.extra)
        if stream:
            body["stream"] = True
        base = route.base_url.rstrip("/").removesuffix("/v1")
        return route.request(f"{base}/v1/messages", encode_json(body), **{"anthropic-version": VERSION})

    def decode(self, body: JSON, route: Route) -> Completion:
        reason = body.get("stop_reason")
        choice = Choice(decode_content(body["content"]), STOP_REASONS.get(reason, "stop") if reason else None)
        return Completion(
            choices=(choice,),
            model=body.get("model") or route.model,
            id=body.get("id"),
            usage=decode_usage(body.get("usage")),
            raw=body,
        )

    def stream_decoder(self, route: Route) -> AnthropicStreamDecoder:
        return AnthropicStreamDecoder(route)

    def encode_embedding(self, request: EmbeddingRequest, route: Route) -> HTTPRequest:
        raise InvalidRequestError("Anthropic has no embeddings; take another provider for them")

    def decode_embedding(self, body: JSON, route: Route) -> Embedding:
        raise InvalidRequestError("Anthropic has no embeddings; take another provider for them")


# Requests


def encode_body(request: CompletionRequest, route: Route) -> JSON:
    """The JSON body of a Messages request."""
    left_out = _left_out(request, route.model)
    limit = request.output_limit
    body: JSON = {
        "model": route.model,
        "max_tokens": limit or min(DEFAULT_MAX_TOKENS, _most_tokens(route.model)),
        "messages": _encode_messages(request.messages),
    }
    check_has_turn(body["messages"], request, "Anthropic")
    if system := _encode_system(request.messages):
        body["system"] = system
    for name in _SAMPLING:
        if name not in left_out and (value := getattr(request, name)) is not None:
            body[name] = value
    if request.stop is not None:
        body["stop_sequences"] = [request.stop] if isinstance(request.stop, str) else request.stop
    if request.user is not None:
        body["metadata"] = {"user_id": request.user}
    if request.tools:
        body["tools"] = [_encode_tool(tool) for tool in request.tools]
    if choice := _encode_tool_choice(request):
        body["tool_choice"] = choice
    if request.reasoning_effort is not None:
        _add_thinking(body, request.reasoning_effort, route.model, limited=limit is not None)
        if body.get("thinking", {}).get("type") == "enabled":
            for name in [name for name in ("temperature", "top_k") if body.pop(name, None) is not None]:
                logger.warning("anthropic takes no %s while a model thinks: it is not sent", name)
    if form := _encode_format(request.response_format):
        body["output_config"] = {**body.get("output_config", {}), "format": form}
    return body


def _is_untuned(model: str) -> bool:
    return model.startswith("claude-") and not model.startswith(SAMPLED_MODELS)


def _left_out(request: CompletionRequest, model: str) -> list[str]:
    """The fields that only tune and that the model refuses; they are logged."""
    if request.n is not None and request.n != 1:
        raise InvalidRequestError("Anthropic gives one answer a call: leave n out, or make several calls")
    refused = _NEVER_TAKEN + _SAMPLING if _is_untuned(model) else _NEVER_TAKEN
    names = [name for name in refused if getattr(request, name) is not None]
    for name in names:
        logger.warning("anthropic takes no %s: it is not sent", name)
    return names


def _most_tokens(model: str) -> int:
    return next((most for prefixes, most in MOST_TOKENS.items() if model.startswith(prefixes)), 64_000)


def _encode_system(messages: Iterable[Message]) -> str | list[JSON]:
    blocks: list[JSON] = []
    for message in messages:
        if message.role in ("system", "developer"):
            blocks += _encode_parts(message)
    if all(set(block) == {"type", "text"} for block in blocks):
        return "\n\n".join(block["text"] for block in blocks)
    return blocks


def _encode_messages(messages: Iterable[Message]) -> list[JSON]:
    """Alternating turns: a tool's result is the user's, and neighbours of one role become one turn."""
    turns: list[JSON] = []
    for message in messages:
        if message.role in ("system", "developer"):
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _encode_turn(message)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return turns


def _encode_turn(message: Message) -> list[JSON]:
    if message.role == "assistant":
        return _encode_answer(in_writing(message))
    if message.role in ("tool", "function"):
        return [_encode_result(message)]
    return _encode_parts(message)


def _encode_result(message: Message) -> JSON:
    """A tool's result. A cache mark is on all of it: the API refuses one on a part."""
    result: JSON = {"type": "tool_result", "tool_use_id": fit_id(message.tool_call_id or message.name or "")}
    if isinstance(message.content, str):
        result |= {"content": message.content} if message.content else {}
    elif message.content:
        parts = _encode_parts(message)
        marks = [part["cache_control"] for part in parts if part.get("cache_control")]
        result["content"] = [{k: v for k, v in part.items() if k != "cache_control"} for part in parts]
        result |= {"cache_control": marks[-1]} if marks else {}
    return result | {key: value for key, value in message.extra.items() if key in ("is_error", "cache_control")}


def _encode_answer(message: Message) -> list[JSON]:
    """An earlier answer: as Anthropic sent it, unless it was changed since or came from elsewhere."""
    own = message.provider_content.get(PROTOCOL)
    if own is not None and _same_story(decode_content(own), message):
        return [_sent_back(block) for block in own if not _is_blank(block)]
    blocks: list[JSON] = []
    for block in message.reasoning_blocks:
        origin = block.origin or (block.detail or {}).get("format") or PROTOCOL
        if not origin.startswith(PROTOCOL):
            continue  # signed by another, and refused
        if block.data:
            blocks.append({"type": "redacted_thinking", "data": block.data})
        elif block.signature:  # unsigned thinking is refused, too
            blocks.append({"type": "thinking", "thinking": block.text, "signature": block.signature})
    blocks += [block for block in _encode_parts(message) if not _is_blank(block)]
    for call in calls_of(message):
        blocks.append({"type": "tool_use", "id": fit_id(call.id), "name": call.name, "input": arguments_object(call)})
    return blocks


def _is_blank(block: JSON) -> bool:
    """A text of nothing: models give one now and then, and the API refuses it."""
    return bool(block["type"] == "text" and not block["text"].strip())


def _sent_back(block: JSON) -> JSON:
    """A block of an earlier answer: input that was cut off is no object, and must be one."""
    return {**block, "input": {"arguments": block["input"]}} if isinstance(block.get("input"), str) else block


def _same_story(own: Message, message: Message) -> bool:
    return (own.content, own.tool_calls, own.reasoning_blocks) == (
        message.content,
        message.tool_calls,
        message.reasoning_blocks,
    )


def _encode_parts(message: Message) -> list[JSON]:
    if isinstance(message.content, str) or message.content is None:
        return [{"type": "text", "text": message.content}] if message.content else []
    return [_encode_part(part) for part in message.content]


def _encode_part(part: JSON) -> JSON:
    medium = media_of(part)
    if medium is None:
        if part["type"] == "refusal":
            return {"type": "text", "text": part["refusal"]}
        return part  # text, and Anthropic's own blocks, which are taken as they are
    block = _encode_medium(medium)
    return block | {key: part[key] for key in _TOLD_OF[block["type"]] if key in part}


def _encode_medium(medium: Media) -> JSON:
    if medium.kind in ("audio", "video"):
        raise InvalidRequestError(f"Anthropic takes no {medium.kind}; send text, images or documents")
    kind = "image" if medium.mime_type.startswith("image/") else "document"
    source: JSON
    if medium.data is not None and medium.mime_type.startswith("text/"):
        text = base64.b64decode(medium.data).decode("utf-8", "replace")
        source = {"type": "text", "media_type": "text/plain", "data": text}
    elif medium.data is not None:
        source = {"type": "base64", "media_type": medium.mime_type, "data": medium.data}
    elif medium.url is not None:
        source = {"type": "url", "url": medium.url}
    else:
        source = {"type": "file", "file_id": medium.file_id}
    return {
        "type": kind,
        "source": source,
        **({"title": medium.name} if kind == "document" and medium.name else {}),
    }


def _encode_tool(tool: JSON) -> JSON:
    kind = tool.get("type", "function")
    if kind == "custom":
        raise InvalidRequestError("Anthropic has no free-text tools; give the tool a JSON schema")
    if kind != "function":
        return tool
    function = tool["function"]
    body = {
        "name": function["name"],
        "description": function.get("description"),
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
        "strict": function.get("strict"),
    }
    more = {key: value for key, value in tool.items() if key not in ("type", "function")}
    return {key: value for key, value in body.items() if value is not None} | more


def _encode_tool_choice(request: CompletionRequest) -> JSON | None:
    choice = request.tool_choice
    body: JSON | None
    if choice is None:
        body = {"type": "auto"} if request.parallel_tool_calls is False else None
    elif isinstance(choice, str):
        words = {"auto": "auto", "none": "none", "required": "any", "any": "any"}
        body = {"type": words[choice]} if choice in words else {"type": "tool", "name": choice}
    elif "function" in choice:
        body = {"type": "tool", "name": choice["function"]["name"]}
    else:
        body = dict(choice)
    if body and request.parallel_tool_calls is False and body["type"] != "none":
        body["disable_parallel_tool_use"] = True
    return body


def _add_thinking(body: JSON, effort: str, model: str, *, limited: bool) -> None:
    if effort == "none" and not _is_untuned(model):
        body["thinking"] = {"type": "disabled"}
    elif effort == "none":  # they cannot do without
        body["output_config"] = {"effort": "low"}
    elif model.startswith(BUDGET_MODELS):
        if effort not in BUDGETS:
            raise InvalidRequestError(f"reasoning_effort must be one of none, {', '.join(BUDGETS)}, not {effort!r}")
        if not limited:  # thinking counts towards the limit
            body["max_tokens"] = min(body["max_tokens"] + BUDGETS[effort], _most_tokens(model))
        if body["max_tokens"] > MIN_BUDGET:  # and must leave room for the answer
            budget = max(MIN_BUDGET, min(BUDGETS[effort], body["max_tokens"] // 2))
            body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    else:
        body["thinking"] = {"type": "adaptive"}
        body["output_config"] = {"effort": "low" if effort == "minimal" else effort}


def _encode_format(form: JSON | None) -> JSON | None:
    if form is None or form["type"] == "text":
        return None
    if form["type"] == "json_object":
        raise InvalidRequestError("Anthropic answers in JSON only to a schema: pass one as response_format")
    return {"type": "json_schema", "schema": without(_NO_BOUNDS, closed(form["json_schema"]["schema"]))}


# Answers


def decode_content(blocks: list[JSON]) -> Message:
    """The message that content blocks make. What has no neutral form (citations, server tools) stays in the blocks."""
    texts: list[str] = []
    reasoning: list[ReasoningBlock] = []
    calls: list[ToolCall] = []
    for block in blocks:
        kind = block["type"]
        if kind == "text":
            texts.append(block["text"])
        elif kind == "thinking":
            reasoning.append(ReasoningBlock(block["thinking"], block.get("signature") or None, origin=PROTOCOL))
        elif kind == "redacted_thinking":
            reasoning.append(ReasoningBlock(data=block["data"], origin=PROTOCOL))
        elif kind == "tool_use":
            calls.append(ToolCall(block["id"], block["name"], _arguments(block["input"])))
    return Message(
        "assistant",
        "".join(texts) if texts or not calls else None,
        tool_calls=tuple(calls),
        reasoning_blocks=tuple(reasoning),
        provider_content={PROTOCOL: blocks},
    )


def _arguments(value: Any) -> str:
    """Tool input as JSON text; a text is input that was cut off before it was JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def decode_usage(usage: Mapping[str, Any] | None) -> Usage | None:
    """Token counts; Anthropic counts cached input beside `input_tokens`, OpenTelemetry within."""
    if not usage:
        return None
    read = count(usage.get("cache_read_input_tokens"))
    written = count(usage.get("cache_creation_input_tokens"))
    return Usage(
        count(usage.get("input_tokens")) + read + written,
        count(usage.get("output_tokens")),
        read,
        written,
        count((usage.get("output_tokens_details") or {}).get("thinking_tokens")),
    )


# Streams


class AnthropicStreamDecoder:
    """Adds a message's events up to the message."""

    def __init__(self, route: Route) -> None:
        self.complete = self.ended = False
        self._route = route
        self._message: JSON = {"type": "message", "role": "assistant"}
        self._blocks: dict[int, JSON] = {}
        self._pieces: dict[int, list[str]] = {}
        self._calls: dict[int, int] = {}

    def feed(self, event: ServerSentEvent) -> list[Chunk]:
        body = parse_json(event.data)
        kind = body.get("type")
        if kind == "content_block_delta":
            chunk = self._take_delta(body)
        elif kind == "content_block_start":
            chunk = self._start_block(body)
        elif kind == "message_start":
            self._message = dict(body["message"])
            chunk = None
        elif kind == "message_delta":
            chunk = self._take_message_delta(body)
        elif kind == "error":
            raise decode_error_body(body, self._route)
        else:
            if kind == "message_stop":
                self.complete = self.ended = True
            chunk = None
        return [chunk] if chunk else []

    def body(self) -> JSON:
        blocks = [self._whole_block(index) for index in sorted(self._blocks)]
        return {**self._message, "content": blocks}

    def _start_block(self, body: JSON) -> Chunk | None:
        index, block = body["index"], dict(body["content_block"])
        self._blocks[index] = block
        self._pieces[index] = []
        if block["type"] == "tool_use":
            position = self._calls[index] = len(self._calls)
            return Chunk(tool_calls=(ToolCallChunk(position, block["id"], block["name"]),), raw=body)
        if block["type"] == "text" and block.get("text"):
            return Chunk(block["text"], raw=body)
        return None

    def _take_delta(self, body: JSON) -> Chunk | None:
        index, delta = body["index"], body["delta"]
        kind = delta["type"]
        if kind == "text_delta":
            self._pieces[index].append(delta["text"])
            return Chunk(delta["text"], raw=body)
        if kind == "thinking_delta":
            self._pieces[index].append(delta["thinking"])
            return Chunk("", delta["thinking"], raw=body)
        if kind == "input_json_delta":
            self._pieces[index].append(delta["partial_json"])
            if index not in self._calls:
                return None  # a server's own tool: not the caller's to run
            return Chunk(tool_calls=(ToolCallChunk(self._calls[index], arguments=delta["partial_json"]),), raw=body)
        block = self._blocks[index]
        if kind == "citations_delta":
            block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
        else:  # signature_delta, and what is yet to come
            for key, value in delta.items():
                if key != "type":
                    block[key] = merge_delta(block.get(key), value)
        return None

    def _take_message_delta(self, body: JSON) -> Chunk:
        for key, value in body.get("delta", {}).items():
            if value is not None or key not in self._message:
                self._message[key] = value
        counted = {key: value for key, value in (body.get("usage") or {}).items() if value is not None}
        self._message["usage"] = {**(self._message.get("usage") or {}), **counted}
        reason = self._message.get("stop_reason")
        finish = STOP_REASONS.get(reason, "stop") if reason else None
        self.complete = self.complete or finish is not None
        return Chunk(finish_reason=finish, usage=decode_usage(self._message["usage"]), raw=body)

    def _whole_block(self, index: int) -> JSON:
        block = dict(self._blocks[index])
        text = "".join(self._pieces[index])
        if block["type"] == "text":
            block["text"] = block.get("text", "") + text
        elif block["type"] == "thinking":
            block["thinking"] = block.get("thinking", "") + text
        elif text:
            try:
                block["input"] = json.loads(text)
            except ValueError:  # cut off: kept as far as it came
                block["input"] = text
        return block
