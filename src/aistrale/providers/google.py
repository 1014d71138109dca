"""Google's generateContent and batchEmbedContents (Gemini API; Vertex AI answers in the same shapes).

Source: https://ai.google.dev/api/generate-content, .../embeddings and docs/thought-signatures.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

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
from aistrale.providers.history import arguments_object, calls_of, check_has_turn, in_writing, made_up_id, strict_json
from aistrale.providers.merge import deep_merge, extend_lists
from aistrale.providers.numbers import count
from aistrale.providers.parts import Media, media_of, neutral_parts
from aistrale.providers.profile import Route

logger = logging.getLogger("aistrale")

PROTOCOL = "google"

FOREIGN_SIGNATURE = "skip_thought_signature_validator"
"""What stands for the signature of a call that another model made, which Gemini 3 and later ask for.
Source: https://ai.google.dev/gemini-api/docs/thought-signatures"""

FINISH_REASONS: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "LANGUAGE": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}

GENERATION_FIELDS = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "n": "candidateCount",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
}

BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576}
"""Thinking budgets in tokens of Gemini 2.5: https://ai.google.dev/gemini-api/docs/openai#thinking"""


class GoogleCodec:
    """The generateContent protocol."""

    def encode(self, request: CompletionRequest, route: Route, *, stream: bool) -> HTTPRequest:
        body = deep_merge(encode_body(request, route), request.extra)
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return route.request(_url(route, method), encode_json(body))

    def decode(self, body: JSON, route: Route) -> Completion:
        candidates = body.get("candidates") or ()
        if not candidates and "usageMetadata" not in body and "promptFeedback" not in body:
            raise KeyError("candidates")
        choices = [_decode_candidate(candidate, position, body) for position, candidate in enumerate(candidates)]
        if not choices:  # the prompt was blocked
            choices = [Choice(Message("assistant", ""), "content_filter")]
        return Completion(
            choices=tuple(choices),
            model=body.get("modelVersion") or route.model,
            id=body.get("responseId"),
            usage=decode_usage(body.get("usageMetadata")),
            raw=body,
        )

    def stream_decoder(self, route: Route) -> GoogleStreamDecoder:
        return GoogleStreamDecoder(route)

    def encode_embedding(self, request: EmbeddingRequest, route: Route) -> HTTPRequest:
        entry: JSON = {"model": _model_path(route.model), **request.extra}
        if request.dimensions is not None:
            entry["outputDimensionality"] = request.dimensions
        requests = [{**entry, "content": {"parts": [{"text": text}]}} for text in request.texts]
        return route.request(_url(route, "batchEmbedContents"), encode_json({"requests": requests}))

    def decode_embedding(self, body: JSON, route: Route) -> Embedding:
        tokens = (body.get("usageMetadata") or {}).get("promptTokenCount")
        return Embedding(
            vectors=[list(entry["values"]) for entry in body["embeddings"]],
            model=route.model,
            usage=None if tokens is None else Usage(tokens),
            raw=body,
        )


def _url(route: Route, method: str) -> str:
    base = route.base_url.rstrip("/")
    if not re.search(r"/v\d[^/]*(/|$)", base):
        base += "/v1beta"
    return f"{base}/{quote(_model_path(route.model))}:{method}"


def _model_path(model: str) -> str:
    return model if "/" in model else f"models/{model}"


# Requests


def encode_body(request: CompletionRequest, route: Route) -> JSON:
    """The JSON body of a generateContent request."""
    if request.user is not None:
        logger.warning("google takes no user: it is not sent")
    if request.parallel_tool_calls is not None:
        logger.warning("google takes no parallel_tool_calls: it is not sent")
    body: JSON = {"contents": _encode_contents(request.messages, _is_budgeted(route.model))}
    check_has_turn(body["contents"], request, "Google")
    system = [part for message in request.messages if _is_system(message) for part in _encode_parts(message)]
    if system:
        body["systemInstruction"] = {"parts": system}
    if request.tools:
        body["tools"] = _encode_tools(request.tools)
    if request.tool_choice is not None:
        body["toolConfig"] = {"functionCallingConfig": _encode_tool_choice(request.tool_choice)}
    if config := _encode_config(request, route.model):
        body["generationConfig"] = config
    return body


def _is_system(message: Message) -> bool:
    return message.role in ("system", "developer")


def _is_budgeted(model: str) -> bool:
    """Gemini 2.5 and its predecessors think by a budget and check no signatures."""
    return model.rsplit("/", 1)[-1].startswith(("gemini-2", "gemini-1"))


def _encode_contents(messages: Iterable[Message], budgeted: bool) -> list[JSON]:
    """Turns of `user` and `model`; results of parallel calls belong into one turn."""
    contents: list[JSON] = []
    called: dict[str, JSON] = {}
    for message in messages:
        if _is_system(message):
            continue
        if message.role == "assistant":
            role, parts = "model", _encode_answer(in_writing(message), signed=not budgeted)
            asked = [part["functionCall"] for part in parts if "functionCall" in part]
            called.update(zip((call.id for call in calls_of(message)), asked, strict=False))
        elif message.role in ("tool", "function"):
            role, parts = "user", _encode_result(message, called)
        else:
            role, parts = "user", _encode_parts(message)
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"role": role, "parts": parts})
    return contents


def _encode_answer(message: Message, *, signed: bool) -> list[JSON]:
    """An earlier answer: as Google sent it (its signatures belong to its parts), unless it was changed since."""
    own = message.provider_content.get(PROTOCOL)
    if own is not None:
        told = decode_parts(own["parts"], own["id"], own["index"])
        if (told.content, told.tool_calls) == (message.content, message.tool_calls):
            parts = [part for part in own["parts"] if part != {"text": ""}]
            return _signed(parts) if signed else parts
    parts = _encode_parts(message)
    for call in calls_of(message):
        parts.append({"functionCall": {"name": call.name, "args": arguments_object(call)}})
    return _signed(parts) if signed else parts


def _signed(parts: list[JSON]) -> list[JSON]:
    """A turn as newer models want it: its first call has a signature, if not one of their own."""
    first = next((position for position, part in enumerate(parts) if "functionCall" in part), None)
    if first is None or "thoughtSignature" in parts[first]:
        return parts
    return [*parts[:first], {**parts[first], "thoughtSignature": FOREIGN_SIGNATURE}, *parts[first + 1 :]]


def _encode_result(message: Message, called: dict[str, JSON]) -> list[JSON]:
    """A tool's result, under the name (and the id, if Google gave one) of the call it answers."""
    call = called.get(message.tool_call_id or message.name or "", {})
    name = call.get("name") or message.name
    if not name:
        raise InvalidRequestError(
            f"Google needs to know which tool the result for {message.tool_call_id!r} is from: "
            "keep the assistant message with the call, or set the message's name"
        )
    parts = _neutral(message.content)
    text = "".join(part["text"] for part in parts if part["type"] == "text")
    response: JSON = {"name": name, "response": _result_object(text)}
    if "id" in call:
        response["id"] = call["id"]
    return [{"functionResponse": response}, *(_encode_part(part) for part in parts if media_of(part))]


def _result_object(text: str) -> JSON:
    """A function response must be an object; any other result is wrapped as Google's guide does."""
    value = strict_json(text, text)
    return value if isinstance(value, dict) else {"result": value}


def _encode_parts(message: Message) -> list[JSON]:
    return [_encode_part(part) for part in _neutral(message.content)]


def _neutral(content: str | list[JSON] | None) -> list[JSON]:
    if isinstance(content, str) or content is None:
        return [{"type": "text", "text": content}] if content else []
    return [neutral for part in content for neutral in neutral_parts(part)]


def _encode_part(part: JSON) -> JSON:
    medium = media_of(part)
    if medium is not None:
        return _encode_medium(medium)
    if part["type"] in ("text", "refusal"):
        return {"text": part[part["type"]]}
    if part["type"] in part:  # Google's own, by the name of its field
        return {key: value for key, value in part.items() if key != "type"}
    raise InvalidRequestError(f"Google takes no content part of type {part['type']!r}")


def _encode_medium(medium: Media) -> JSON:
    if medium.data is not None:
        return {"inlineData": {"mimeType": medium.mime_type, "data": medium.data}}
    return {"fileData": {"mimeType": medium.mime_type, "fileUri": medium.url or medium.file_id}}


def _encode_tools(tools: Iterable[JSON]) -> list[JSON]:
    declarations: list[JSON] = []
    own: list[JSON] = []
    for tool in tools:
        kind = tool.get("type", "function")
        if kind == "function":
            function = tool["function"]
            entry = {
                "name": function["name"],
                "description": function.get("description"),
                "parametersJsonSchema": function.get("parameters"),
            }
            declarations.append({key: value for key, value in entry.items() if value is not None})
        elif kind == "custom":
            raise InvalidRequestError("Google has no free-text tools; give the tool a JSON schema")
        else:  # Google's own tools, such as {"type": "google_search"}
            own.append({kind: {key: value for key, value in tool.items() if key != "type"}})
    return [*([{"functionDeclarations": declarations}] if declarations else []), *own]


def _encode_tool_choice(choice: str | JSON) -> JSON:
    modes = {"auto": "AUTO", "none": "NONE", "required": "ANY", "any": "ANY"}
    if isinstance(choice, str) and choice in modes:
        return {"mode": modes[choice]}
    name = choice if isinstance(choice, str) else (choice.get("function") or choice).get("name")
    return {"mode": "ANY", "allowedFunctionNames": [name]}


def _encode_config(request: CompletionRequest, model: str) -> JSON:
    config: JSON = {
        theirs: value for ours, theirs in GENERATION_FIELDS.items() if (value := getattr(request, ours)) is not None
    }
    if request.output_limit is not None:
        config["maxOutputTokens"] = request.output_limit
    if request.stop is not None:
        config["stopSequences"] = [request.stop] if isinstance(request.stop, str) else request.stop
    if request.reasoning_effort is not None:
        config["thinkingConfig"] = _encode_thinking(request.reasoning_effort, model)
    form = request.response_format
    if form is not None and form["type"] != "text":
        config["responseMimeType"] = "application/json"
        if form["type"] == "json_schema":
            config["responseJsonSchema"] = form["json_schema"]["schema"]
    return config


def _encode_thinking(effort: str, model: str) -> JSON:
    """Gemini 2.5 measures thinking by a budget, its successors by a level."""
    if not _is_budgeted(model):
        return {
            "thinkingLevel": "minimal" if effort == "none" else effort,
            "includeThoughts": effort != "none",
        }
    if effort not in BUDGETS:
        raise InvalidRequestError(f"reasoning_effort must be one of {', '.join(BUDGETS)}, not {effort!r}")
    return {"thinkingBudget": BUDGETS[effort], "includeThoughts": effort != "none"}


# Answers


def _decode_candidate(candidate: JSON, position: int, body: JSON) -> Choice:
    index = candidate.get("index", position)
    parts = (candidate.get("content") or {}).get("parts") or []
    message = decode_parts(parts, body.get("responseId"), index)
    reason = decode_finish_reason(candidate.get("finishReason"), bool(message.tool_calls))
    return Choice(message, reason, index, candidate.get("logprobsResult"))


def decode_parts(parts: list[JSON], response_id: str | None, index: int) -> Message:
    """The message that parts make. What has no neutral form (code, inline data) stays in the parts."""
    texts: list[str] = []
    reasoning: list[ReasoningBlock] = []
    calls: list[ToolCall] = []
    for part in parts:
        if part.get("thought"):
            reasoning.append(ReasoningBlock(part.get("text", ""), part.get("thoughtSignature"), origin=PROTOCOL))
        elif "text" in part:
            texts.append(part["text"])
        elif call := part.get("functionCall"):
            identifier = call.get("id") or made_up_id(response_id, index, len(calls))
            calls.append(ToolCall(identifier, call["name"], _arguments(call)))
    return Message(
        "assistant",
        "".join(texts) if texts or not calls else None,
        tool_calls=tuple(calls),
        reasoning_blocks=tuple(reasoning),
        provider_content={PROTOCOL: {"parts": parts, "id": response_id, "index": index}},
    )


def _arguments(call: JSON) -> str:
    return json.dumps(call.get("args") or {}, ensure_ascii=False)


def decode_finish_reason(reason: str | None, called: bool) -> FinishReason | None:
    """Our name for a finish reason: Google ends a turn of function calls with a plain STOP."""
    if not reason or reason == "FINISH_REASON_UNSPECIFIED":
        return None
    ours = FINISH_REASONS.get(reason, "error")
    return "tool_calls" if ours == "stop" and called else ours


def decode_usage(usage: JSON | None) -> Usage | None:
    """Token counts; Google counts thoughts beside the candidates and tools' prompts beside the prompt."""
    if not usage:
        return None
    thoughts = count(usage.get("thoughtsTokenCount"))
    return Usage(
        count(usage.get("promptTokenCount")) + count(usage.get("toolUsePromptTokenCount")),
        count(usage.get("candidatesTokenCount")) + thoughts,
        count(usage.get("cachedContentTokenCount")),
        0,
        thoughts,
    )


# Streams


class GoogleStreamDecoder:
    """Adds partial responses up to one response."""

    def __init__(self, route: Route) -> None:
        self.complete = False
        self.ended = False  # Google has no last word: the body's end is it
        self._route = route
        self._body: JSON = {}
        self._candidates: dict[int, JSON] = {}

    def feed(self, event: ServerSentEvent) -> list[Chunk]:
        body = parse_json(event.data)
        if isinstance(body, list) or "error" in body:
            raise decode_error_body(body, self._route)
        for key, value in body.items():
            if key != "candidates":
                self._body[key] = value
        if (body.get("promptFeedback") or {}).get("blockReason"):
            self.complete = True
        candidates = body.get("candidates") or ()
        chunks = [chunk for position, entry in enumerate(candidates) if (chunk := self._take(entry, position, body))]
        if self.complete and "usageMetadata" in body:
            if not chunks:
                chunks.append(Chunk(raw=body))
            chunks[-1].usage = decode_usage(body["usageMetadata"])
        return chunks

    def body(self) -> JSON:
        return {**self._body, "candidates": [self._candidates[index] for index in sorted(self._candidates)]}

    def _take(self, candidate: JSON, position: int, body: JSON) -> Chunk | None:
        index = candidate.get("index", position)
        parts = (candidate.get("content") or {}).get("parts") or []
        whole = self._candidates.setdefault(index, {"content": {"role": "model", "parts": []}, "index": index})
        before = sum("functionCall" in part for part in whole["content"]["parts"])
        for part in parts:
            _append_part(whole["content"]["parts"], part)
        whole.update({key: value for key, value in candidate.items() if key not in ("content", "logprobsResult")})
        if isinstance(likely := candidate.get("logprobsResult"), dict):
            known = whole.setdefault("logprobsResult", {})
            extend_lists(known, {**likely, **_sum("logProbabilitySum", known, likely)})
        piece = decode_parts(parts, None, index)
        calls = tuple(
            ToolCallChunk(
                before + offset, _call_id(part, self._body, index, before + offset), call.name, call.arguments
            )
            for offset, (call, part) in enumerate(
                zip(piece.tool_calls, (p for p in parts if "functionCall" in p), strict=True)
            )
        )
        reason = decode_finish_reason(candidate.get("finishReason"), before + len(calls) > 0)
        if reason:
            self.complete = True
        if piece.content or piece.reasoning or calls or reason:
            return Chunk(piece.content or "", piece.reasoning or "", calls, reason, None, index, body)  # type: ignore[arg-type]
        return None


def _sum(name: str, *parts: JSON) -> JSON:
    """A number that adds up over pieces."""
    numbers = [part[name] for part in parts if isinstance(part.get(name), int | float)]
    return {name: sum(numbers)} if numbers else {}


def _call_id(part: JSON, body: JSON, index: int, position: int) -> str:
    return part["functionCall"].get("id") or made_up_id(body.get("responseId"), index, position)


def _append_part(parts: list[JSON], part: JSON) -> None:
    """Join a piece of text to the text before it, unless a signature or another kind of part closed that."""
    last: dict[str, Any] = parts[-1] if parts else {}
    joins = (
        set(part) <= {"text", "thought", "thoughtSignature"}
        and set(last) <= {"text", "thought"}
        and "text" in last
        and "text" in part
        and last.get("thought") == part.get("thought")
    )
    if joins:
        parts[-1] = {**last, **part, "text": last["text"] + part["text"]}
    else:
        parts.append(part)
