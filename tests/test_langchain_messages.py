"""LangChain's messages on their way to providers and back: what the upstream of the next turn received."""

import asyncio
import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.load import dumpd, load
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    messages_from_dict,
    messages_to_dict,
)
from langchain_core.outputs import ChatGenerationChunk
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from sdk_types import misfits
from upstream import END_OF_BODY, Request, Step, Upstream, completion, events, plain, stream
from wire.exchanges import Exchange, params
from wire.readings import read

import aistrale
from aistrale.models import Choice, Completion, CompletionRequest, Message, ReasoningBlock, ToolCall
from aistrale.providers import Route, codec_of, find_profile
from aistrale.providers.google import FOREIGN_SIGNATURE
from aistrale_langchain import ChatAistrale
from aistrale_langchain.messages import answer, messages_of

pytestmark = pytest.mark.filterwarnings("ignore:The function `load` is in beta")

JSON = dict[str, Any]

PNG, PDF = "aW1hZ2U=", "cGRm"
MARK = {"cache_control": {"type": "ephemeral"}}


# Providers that answer as told


def anthropic_body(*blocks: JSON) -> JSON:
    usage = {"input_tokens": 3, "output_tokens": 2}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test", "usage": usage}
    return {**head, "content": list(blocks), "stop_reason": "end_turn"}


def google_body(*parts: JSON) -> JSON:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP", "index": 0}
    return {"candidates": [candidate], "modelVersion": "gemini-test", "responseId": "r-1", "usageMetadata": {}}


def openai_body(**message: Any) -> JSON:
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": "stop"}
    return {**completion(), "choices": [choice]}


def streamed(*bodies: JSON, done: bool = False) -> list[Step]:
    data = [json.dumps(body).encode() for body in bodies]
    return [*events(*data, *([b"[DONE]"] if done else [])), END_OF_BODY]


def anthropic_stream(*blocks: JSON) -> list[Step]:
    body = anthropic_body()
    told: list[JSON] = [{"type": "message_start", "message": {**body, "stop_reason": None}}]
    for index, block in enumerate(blocks):
        told.append({"type": "content_block_start", "index": index, "content_block": emptied(block)})
        told += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas(block)]
        told.append({"type": "content_block_stop", "index": index})
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": body["usage"]}
    return streamed(*told, end, {"type": "message_stop"})


def emptied(block: JSON) -> JSON:
    empty: JSON = {"thinking": "", "signature": "", "text": "", "input": {}}
    return {key: empty.get(key, value) for key, value in block.items() if key != "citations"}


def deltas(block: JSON) -> Iterator[JSON]:
    for key, value in block.items():
        match key:
            case "text" | "thinking":
                yield from ({"type": f"{key}_delta", key: piece} for piece in (value[:4], value[4:]))
            case "signature":
                yield {"type": "signature_delta", "signature": value}
            case "citations":
                yield from ({"type": "citations_delta", "citation": citation} for citation in value or ())
            case "input":
                yield {"type": "input_json_delta", "partial_json": json.dumps(value)}


def google_stream(*parts: JSON) -> list[Step]:
    whole = google_body()
    first = [{**whole, "candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]} for part in parts]
    return streamed(*first, whole)


def openai_stream(**message: Any) -> list[Step]:
    head = {"id": "chatcmpl-1", "model": "gpt-test"}
    pieces: list[JSON] = [{key: value} for key, value in message.items()]
    for piece in pieces:
        for index, call in enumerate(piece.get("tool_calls", ())):
            piece["tool_calls"][index] = {"index": index, **call}
    told = [{**head, "choices": [{"index": 0, "delta": piece, "finish_reason": None}]} for piece in pieces]
    end = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": completion()["usage"]}
    return streamed(*told, end, done=True)


def in_words_of(path: str, text: str = "Hello") -> list[Step]:
    """A plain answer in the protocol that was asked."""
    if path.endswith("/messages"):
        return plain(anthropic_body({"type": "text", "text": text}))
    return plain(google_body({"text": text}) if "generateContent" in path else openai_body(content=text))


@pytest.fixture
def briefly(upstream: Upstream) -> Upstream:
    """An upstream of every protocol that says hello."""
    upstream.default = lambda request: in_words_of(request.path)
    return upstream


def model_of(upstream: Upstream, provider: str, **more: Any) -> ChatAistrale:
    options: JSON = {"model": "some-model", "provider": provider, "api_key": "sk-test", "base_url": upstream.url}
    return ChatAistrale(**options, max_retries=0, **more)


def sent(upstream: Upstream, provider: str, *messages: BaseMessage) -> JSON:
    """The body that arrives for `messages`, async the same as sync, and none that the provider's SDK would not send."""
    model = model_of(upstream, provider)
    model.invoke(list(messages))
    asyncio.run(model.ainvoke(list(messages)))
    first, second = (request.body for request in upstream.requests[-2:])
    assert first == second
    known = {key: value for key, value in first.items() if key != "model"} if provider == "google" else first
    assert provider not in ("anthropic", "google", "openai") or misfits(provider, known) == []
    body: JSON = first
    return body


def content_sent(upstream: Upstream, provider: str, *blocks: Any) -> Any:
    """What arrives of one user message."""
    body = sent(upstream, provider, HumanMessage(list(blocks)))
    return body["contents"][0]["parts"] if provider == "google" else body["messages"][0]["content"]


# Parts in Anthropic's own shape

ANTHROPICS: dict[str, JSON] = {
    "text": {"type": "text", "text": "Long.", **MARK},
    "image": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}, **MARK},
    "image at an address": {"type": "image", "source": {"type": "url", "url": "https://pictures.example/a"}},
    "pdf": {
        "type": "document",
        "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
        "title": "Rome",
        "context": "A leaflet.",
        "citations": {"enabled": True},
        **MARK,
    },
    "pdf without a title": {"type": "document", "source": {"type": "url", "url": "https://files.example/a"}},
    "plain text": {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "All about Rome."},
        "citations": {"enabled": True},
    },
    "custom content": {
        "type": "document",
        "source": {
            "type": "content",
            "content": [{"type": "text", "text": "Rome"}, {"type": "text", "text": " fell."}],
        },
        "title": "History",
    },
    "custom text": {"type": "document", "source": {"type": "content", "content": "Rome fell."}},
    "search result": {
        "type": "search_result",
        "source": "https://pages.example/rome",
        "title": "Rome",
        "content": [{"type": "text", "text": "Rome fell."}],
        "citations": {"enabled": True},
    },
}


@pytest.mark.parametrize("part", ANTHROPICS.values(), ids=ANTHROPICS.keys())
def test_anthropics_own_parts_arrive_there_as_they_are(briefly: Upstream, part: JSON) -> None:
    """Cache marks, citations, titles and sources of every kind."""
    assert content_sent(briefly, "anthropic", part) == [part]


ELSEWHERE: dict[str, tuple[list[JSON], list[JSON]]] = {
    "text": ([{"type": "text", "text": "Long."}], [{"text": "Long."}]),
    "image": (
        [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}],
        [{"inlineData": {"mimeType": "image/png", "data": PNG}}],
    ),
    "pdf": (
        [{"type": "file", "file": {"filename": "Rome", "file_data": f"data:application/pdf;base64,{PDF}"}}],
        [{"inlineData": {"mimeType": "application/pdf", "data": PDF}}],
    ),
    "pdf without a title": (
        [{"type": "file", "file": {"filename": "file", "file_data": "https://files.example/a"}}],
        [{"fileData": {"mimeType": "application/pdf", "fileUri": "https://files.example/a"}}],
    ),
    "plain text": ([{"type": "text", "text": "All about Rome."}], [{"text": "All about Rome."}]),
    "custom content": (
        [{"type": "text", "text": "Rome"}, {"type": "text", "text": " fell."}],
        [{"text": "Rome"}, {"text": " fell."}],
    ),
    "custom text": ([{"type": "text", "text": "Rome fell."}], [{"text": "Rome fell."}]),
}


@pytest.mark.parametrize(("name", "wanted"), ELSEWHERE.items(), ids=ELSEWHERE.keys())
def test_anthropics_own_parts_arrive_elsewhere_as_theirs(
    briefly: Upstream, name: str, wanted: tuple[list[JSON], list[JSON]]
) -> None:
    """Without what only Anthropic knows, which others would refuse."""
    assert content_sent(briefly, "openai", ANTHROPICS[name]) == wanted[0]
    assert content_sent(briefly, "google", ANTHROPICS[name]) == wanted[1]


def test_a_cache_mark_goes_to_who_takes_it(briefly: Upstream) -> None:
    """OpenRouter passes it on."""
    part = {"type": "text", "text": "Long.", **MARK}
    assert content_sent(briefly, "openrouter", part) == [part]
    assert content_sent(briefly, "groq", part) == [{"type": "text", "text": "Long."}]
    assert content_sent(briefly, "openrouter", ANTHROPICS["image"]) == [{**ELSEWHERE["image"][0][0], **MARK}]


def test_another_aistrale_passes_parts_on_itself(briefly: Upstream) -> None:
    """With all that is said of them: whoever answers there may be Anthropic."""
    block = {"type": "image", "url": "https://pictures.example/a", "mime_type": "image/png", "extras": MARK}
    image = {"type": "image_url", "image_url": {"url": "https://pictures.example/a"}, "mime_type": "image/png", **MARK}
    assert content_sent(briefly, "aistrale", ANTHROPICS["pdf"], block) == [ANTHROPICS["pdf"], image]


def test_files_at_anthropic_are_files_elsewhere(briefly: Upstream) -> None:
    """Of the kind that they are there."""
    image, document = ({"type": kind, "source": {"type": "file", "file_id": "f"}} for kind in ("image", "document"))
    assert content_sent(briefly, "openai", image, document) == [{"type": "file", "file": {"file_id": "f"}}] * 2
    kinds = [part["fileData"]["mimeType"] for part in content_sent(briefly, "google", image, document)]
    assert kinds == ["image/jpeg", "application/pdf"]


def test_a_cache_mark_in_a_system_message(briefly: Upstream) -> None:
    """Where most people put it."""
    block = {"type": "text", "text": "Be brief.", **MARK}
    assert sent(briefly, "anthropic", SystemMessage([block]), HumanMessage("Hi"))["system"] == [block]
    body = sent(briefly, "openai", SystemMessage([block]), HumanMessage("Hi"))
    assert body["messages"][0] == {"role": "system", "content": [{"type": "text", "text": "Be brief."}]}


CALLING = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "call_1"}])


def test_a_cache_mark_in_a_tools_result(briefly: Upstream) -> None:
    """Anthropic takes it on the result, and on none of its parts."""
    blocks: list[Any] = [{"type": "text", "text": "Rain"}, {"type": "text", "text": "Sun", "extras": MARK}]
    result = ToolMessage(blocks, tool_call_id="call_1")
    plain_parts = [{"type": "text", "text": "Rain"}, {"type": "text", "text": "Sun"}]

    turns = sent(briefly, "anthropic", HumanMessage("Hi"), CALLING, result)["messages"]
    assert turns[-1]["content"] == [
        {"type": "tool_result", "tool_use_id": "call_1", "content": plain_parts, **MARK},
    ]
    body = sent(briefly, "openai", HumanMessage("Hi"), CALLING, result)
    assert body["messages"][-1] == {"role": "tool", "tool_call_id": "call_1", "content": plain_parts}


def test_results_among_what_the_user_says(briefly: Upstream) -> None:
    """Anthropic's shape of a turn; the others have messages of tools."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    result = {"type": "tool_result", "tool_use_id": "call_1", "is_error": True, "content": [image], **MARK}
    turn = HumanMessage([result, {"type": "text", "text": "So?"}])

    turns = sent(briefly, "anthropic", HumanMessage("Hi"), CALLING, turn)["messages"]
    assert turns[-1]["content"] == [result, {"type": "text", "text": "So?"}]
    standard = {**result, "content": [{"type": "image", "base64": PNG, "mime_type": "image/png", "id": "lc_1"}]}
    turns = sent(briefly, "anthropic", HumanMessage("Hi"), CALLING, HumanMessage([standard]))["messages"]
    assert turns[-1]["content"] == [result]
    said = {**result, "content": "Rain"}
    first, second = sent(briefly, "openai", HumanMessage("Hi"), CALLING, HumanMessage([said, "So?"]))["messages"][-2:]
    assert first == {"role": "tool", "tool_call_id": "call_1", "content": "Rain"}
    assert second == {"role": "user", "content": [{"type": "text", "text": "So?"}]}
    google = sent(briefly, "google", HumanMessage("Hi"), CALLING, HumanMessage([said]))["contents"][-1]
    assert google["parts"] == [{"functionResponse": {"name": "look", "response": {"result": "Rain"}}}]


# LangChain's standard blocks

STANDARD: dict[str, tuple[JSON, str, list[JSON]]] = {
    "mark beside a text": (
        {"type": "text", "text": "Hi", **MARK},
        "anthropic",
        [{"type": "text", "text": "Hi", **MARK}],
    ),
    "mark in extras of a text": (
        {"type": "text", "text": "Hi", "id": "lc_1", "extras": MARK},
        "anthropic",
        [{"type": "text", "text": "Hi", **MARK}],
    ),
    "mark of an image": (
        {"type": "image", "base64": PNG, "mime_type": "image/png", "id": "lc_1", "extras": {**MARK, "title": "No"}},
        "anthropic",
        [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}, **MARK}],
    ),
    "mark of OpenAI's image": (
        {"type": "image_url", "image_url": {"url": "https://pictures.example/a.png"}, **MARK},
        "anthropic",
        [{"type": "image", "source": {"type": "url", "url": "https://pictures.example/a.png"}, **MARK}],
    ),
    "mark of OpenAI's file": (
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}, **MARK},
        "anthropic",
        [
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                "title": "a.pdf",
                **MARK,
            }
        ],
    ),
    "file told of": (
        {
            "type": "file",
            "base64": PDF,
            "mime_type": "application/pdf",
            "extras": {"filename": "a.pdf", "title": "Rome", "context": "Old.", "citations": {"enabled": True}},
        },
        "anthropic",
        [
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                "title": "Rome",
                "context": "Old.",
                "citations": {"enabled": True},
            }
        ],
    ),
    "file told of at OpenAI": (
        {
            "type": "file",
            "file_id": "file_1",
            "title": "Rome",
            "context": "Old.",
            "citations": {"enabled": True},
            **MARK,
        },
        "openai",
        [{"type": "file", "file": {"file_id": "file_1"}}],
    ),
    "file without a name": (
        {"type": "file", "url": "https://files.example/a.pdf"},
        "anthropic",
        [{"type": "document", "source": {"type": "url", "url": "https://files.example/a.pdf"}}],
    ),
    "file without a name at OpenAI": (
        {"type": "file", "base64": PDF, "mime_type": "application/pdf"},
        "openai",
        [{"type": "file", "file": {"filename": "file", "file_data": f"data:application/pdf;base64,{PDF}"}}],
    ),
    "file as LangChain 0 had it": (
        {
            "type": "file",
            "source_type": "base64",
            "data": PDF,
            "mime_type": "application/pdf",
            "metadata": {"filename": "a.pdf"},
            **MARK,
        },
        "anthropic",
        [
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                "title": "a.pdf",
                **MARK,
            }
        ],
    ),
    "OpenAI's file at an address": (
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "https://files.example/a.pdf"}},
        "anthropic",
        [{"type": "document", "source": {"type": "url", "url": "https://files.example/a.pdf"}, "title": "a.pdf"}],
    ),
    "plain text": (
        {
            "type": "text-plain",
            "text": "All about Rome.",
            "mime_type": "text/plain",
            "title": "Rome",
            "context": "Old.",
        },
        "anthropic",
        [
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "All about Rome."},
                "title": "Rome",
                "context": "Old.",
            }
        ],
    ),
    "plain text as data": (
        {
            "type": "text-plain",
            "base64": "QWxsIPCfj5s=",
            "extras": {"citations": {"enabled": True}, "filename": "rome.txt"},
        },
        "anthropic",
        [
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "All 🏛"},
                "title": "rome.txt",
                "citations": {"enabled": True},
            }
        ],
    ),
    "plain text elsewhere": (
        {"type": "text-plain", "base64": "QWxsIPCfj5s=", "title": "Rome"},
        "openai",
        [{"type": "text", "text": "All 🏛"}],
    ),
    "plain text at an address": (
        {"type": "text-plain", "url": "https://files.example/a", "mime_type": "text/plain"},
        "google",
        [{"fileData": {"mimeType": "text/plain", "fileUri": "https://files.example/a"}}],
    ),
    "non-standard": (
        {"type": "non_standard", "value": ANTHROPICS["search result"], "id": "lc_1"},
        "anthropic",
        [ANTHROPICS["search result"]],
    ),
    "non-standard of Google's": (
        {"type": "non_standard", "value": {"executableCode": {"language": "PYTHON", "code": "1"}}},
        "google",
        [{"executableCode": {"language": "PYTHON", "code": "1"}}],
    ),
    "sound of no type": (
        {"type": "audio", "base64": "YQ=="},
        "openai",
        [{"type": "input_audio", "input_audio": {"data": "YQ==", "format": "wav"}}],
    ),
    "sound of a type": (
        {"type": "audio", "base64": "YQ==", "mime_type": "audio/mpeg"},
        "openai",
        [{"type": "input_audio", "input_audio": {"data": "YQ==", "format": "mp3"}}],
    ),
    "sound at an address": (
        {"type": "audio", "url": "https://sounds.example/a.mp3?x=1"},
        "google",
        [{"fileData": {"mimeType": "audio/mpeg", "fileUri": "https://sounds.example/a.mp3?x=1"}}],
    ),
    "detail in extras": (
        {"type": "image", "url": "https://pictures.example/a.png", "extras": {"detail": "low"}},
        "openai",
        [{"type": "image_url", "image_url": {"url": "https://pictures.example/a.png", "detail": "low"}}],
    ),
    "detail in metadata": (
        {"type": "image", "base64": PNG, "mime_type": "image/png", "metadata": {"detail": "low"}},
        "openai",
        [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}}],
    ),
    "detail in metadata of LangChain 0": (
        {
            "type": "image",
            "source_type": "url",
            "url": "https://pictures.example/a.png",
            "metadata": {"detail": "low"},
        },
        "openai",
        [{"type": "image_url", "image_url": {"url": "https://pictures.example/a.png", "detail": "low"}}],
    ),
    "detail as OpenAI has it": (
        {"type": "image_url", "image_url": {"url": "https://pictures.example/a.png", "detail": "low"}},
        "openai",
        [{"type": "image_url", "image_url": {"url": "https://pictures.example/a.png", "detail": "low"}}],
    ),
    "uploaded image at Google": (
        {"type": "image", "file_id": "https://files.example/1", "mime_type": "image/webp"},
        "google",
        [{"fileData": {"mimeType": "image/webp", "fileUri": "https://files.example/1"}}],
    ),
    "uploaded image at OpenAI": (
        {"type": "image", "file_id": "file_1"},
        "openai",
        [{"type": "file", "file": {"file_id": "file_1"}}],
    ),
}


@pytest.mark.parametrize(("block", "provider", "wanted"), STANDARD.values(), ids=STANDARD.keys())
def test_standard_blocks_arrive_whole(briefly: Upstream, block: JSON, provider: str, wanted: list[JSON]) -> None:
    """With all that is said of them, in the provider's shape."""
    assert content_sent(briefly, provider, block) == wanted


def test_an_uploaded_image_is_an_image_to_anthropic(briefly: Upstream) -> None:
    """And no document; its SDK knows uploaded files as a beta only."""
    model_of(briefly, "anthropic").invoke([HumanMessage([{"type": "image", "file_id": "file_1"}])])
    wanted = {"type": "image", "source": {"type": "file", "file_id": "file_1"}}
    assert briefly.requests[-1].body["messages"][0]["content"] == [wanted]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image"},
        {"type": "file", "url": None},
        {"type": "text-plain"},
        {"type": "text-plain", "base64": "x"},
        {"type": "non_standard"},
        {"type": "non_standard", "value": {}},
        {"type": "text"},
        {"text": "Hi"},
    ],
    ids=str,
)
def test_a_block_without_content_is_refused(briefly: Upstream, block: JSON) -> None:
    """Before anything is sent, as an error of ours."""
    with pytest.raises(aistrale.InvalidRequestError):
        model_of(briefly, "openai").invoke([HumanMessage([block])])
    assert briefly.requests == []


# Roles


@pytest.mark.parametrize(
    "message",
    [
        SystemMessage("Be kind.", additional_kwargs={"__openai_role__": "developer"}),
        ChatMessage(content="Be kind.", role="developer"),
    ],
    ids=["system", "chat"],
)
def test_a_developers_word(briefly: Upstream, message: BaseMessage) -> None:
    """OpenAI has a role for it; others hear it as the system's."""
    given = (message, HumanMessage("Hi"))
    assert sent(briefly, "openai", *given)["messages"][0] == {"role": "developer", "content": "Be kind."}
    for provider in ("mistral", "deepseek"):
        assert sent(briefly, provider, *given)["messages"][0] == {"role": "system", "content": "Be kind."}
    assert sent(briefly, "anthropic", *given)["system"] == "Be kind."
    assert sent(briefly, "google", *given)["systemInstruction"] == {"parts": [{"text": "Be kind."}]}


# Answers that go back

THINKING = {"type": "thinking", "thinking": "Six times seven.", "signature": "sig"}
CITING = {
    "type": "text",
    "text": "Rome fell.",
    "citations": [
        {
            "type": "web_search_result_location",
            "cited_text": "Rome fell.",
            "url": "https://pages.example/rome",
            "title": "Rome",
            "encrypted_index": "e",
        }
    ],
}
SEARCHING: list[JSON] = [
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "Rome"}},
    {
        "type": "web_search_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": [
            {
                "type": "web_search_result",
                "url": "https://pages.example/rome",
                "title": "Rome",
                "encrypted_content": "e",
                "page_age": None,
            }
        ],
    },
]
TOOL_USE = {"type": "tool_use", "id": "call_1", "name": "look", "input": {"at": "Zürich", "n": 1.0}}
BLOCKS: list[JSON] = [THINKING, *SEARCHING, {"type": "text", "text": "So: "}, CITING, THINKING, TOOL_USE]

PARTS: list[JSON] = [
    {"text": "Six times seven.", "thought": True},
    {"text": "Here: ", "thoughtSignature": "sig-1"},
    {"inlineData": {"mimeType": "image/png", "data": PNG}, "thoughtSignature": "sig-2"},
    {"functionCall": {"id": "call_1", "name": "look", "args": {"at": "Zürich", "n": 1.0}}, "thoughtSignature": "sig-3"},
]

ARGUMENTS = '{"at":"Zürich","n":1.0}'
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "look", "arguments": ARGUMENTS},
    "extra_content": {"google": {"thought_signature": "sig"}},
}
RICH: JSON = {
    "content": "Rome fell.",
    "images": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}],
    "annotations": [{"type": "url_citation", "url_citation": {"url": "https://pages.example/rome", "start_index": 0}}],
    "reasoning_details": [
        {"type": "reasoning.text", "text": "Six times seven.", "signature": "sig", "index": 0, "format": "unknown"}
    ],
    "tool_calls": [CALL],
}
SIGNED: JSON = {key: RICH[key] for key in ("content", "reasoning_details")}
NUMBERED = {"functionCall": {"id": "call_1", "name": "look", "args": {"at": "Zürich"}}}
SPOKEN: JSON = {"audio": {"id": "audio_1", "data": "YQ==", "transcript": "Rome fell.", "expires_at": 1}}

SQL = {"id": "call_1", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}


class Shape:
    """A provider, an answer of its, and the turn that is to come back."""

    def __init__(self, provider: str, said: Any, back: Any) -> None:
        self.provider, self.said, self.back = provider, said, back

    def answer(self, request: Request) -> list[Step]:
        streams = request.body.get("stream") or "streamGenerate" in request.path
        if self.provider == "anthropic":
            return anthropic_stream(*self.said) if streams else plain(anthropic_body(*self.said))
        if self.provider == "google":
            return google_stream(*self.said) if streams else plain(google_body(*self.said))
        said = json.loads(json.dumps(self.said))
        return openai_stream(**said) if streams else plain(openai_body(**said))

    def turn(self, body: JSON) -> Any:
        """The answer's turn in the next request."""
        if self.provider == "anthropic":
            return body["messages"][1]["content"]
        return body["contents"][1]["parts"] if self.provider == "google" else body["messages"][1]


SHAPES = {
    "anthropic": Shape("anthropic", BLOCKS, BLOCKS),
    "google": Shape("google", PARTS, PARTS),
    "google's id of a call": Shape("google", [NUMBERED], [{**NUMBERED, "thoughtSignature": FOREIGN_SIGNATURE}]),
    "openrouter": Shape("openrouter", RICH, {"role": "assistant", **RICH}),
    "signed by openrouter": Shape("openrouter", SIGNED, {"role": "assistant", **SIGNED}),
    "spoken by openai": Shape("openai", SPOKEN, {"role": "assistant", "content": "", "audio": {"id": "audio_1"}}),
    "custom tool of openai": Shape("openai", {"tool_calls": [SQL]}, {"role": "assistant", "tool_calls": [SQL]}),
}

shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())


def added(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    first, *rest = chunks
    return sum(rest, first)


async def awaited(model: ChatAistrale, prompt: str) -> AIMessageChunk:
    return added([chunk async for chunk in model.astream(prompt)])


WAYS: dict[str, Callable[[ChatAistrale, str], AIMessage]] = {
    "invoke": lambda model, prompt: model.invoke(prompt),
    "stream": lambda model, prompt: added(list(model.stream(prompt))),
    "ainvoke": lambda model, prompt: asyncio.run(model.ainvoke(prompt)),
    "astream": lambda model, prompt: asyncio.run(awaited(model, prompt)),
}


def asked(upstream: Upstream, shape: Shape, way: str = "invoke", **more: Any) -> AIMessage:
    upstream.will(shape.answer)
    return WAYS[way](model_of(upstream, shape.provider, **more), "Hi")


def next_turn(upstream: Upstream, said: AIMessage, provider: str) -> JSON:
    """The body of the request after an answer, its calls answered."""
    results = [ToolMessage("42", tool_call_id=call["id"]) for call in (*said.tool_calls, *said.invalid_tool_calls)]
    model_of(upstream, provider).invoke([HumanMessage("Hi"), said, *results, HumanMessage("So?")])
    body: JSON = upstream.requests[-1].body
    return body


@shapes
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("version", ["v0", "v1"])
def test_an_answer_goes_back_as_it_came(briefly: Upstream, shape: Shape, way: str, version: str) -> None:
    """Signatures, citations, images, a server's tools and ids, in their order; streamed the same as whole."""
    said = asked(briefly, shape, way, output_version=version)
    assert shape.turn(next_turn(briefly, said, shape.provider)) == shape.back


@shapes
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_an_answer_keeps_the_same_of_it(briefly: Upstream, shape: Shape, way: str) -> None:
    """All that LangChain has no field for is in `additional_kwargs`, and is JSON."""
    whole, said = asked(briefly, shape), asked(briefly, shape, way)
    assert said.additional_kwargs == whole.additional_kwargs
    assert json.loads(json.dumps(said.additional_kwargs)) == said.additional_kwargs
    assert (said.text, said.tool_calls) == (whole.text, whole.tool_calls)


def test_pieces_are_those_of_the_classes_and_share_nothing(upstream: Upstream) -> None:
    """They are not made by their classes, which takes longer; who changes one changes no other."""
    upstream.default = lambda request: stream("Hel", "lo")
    told = {"model_provider": "aistrale"}
    wanted = [
        ChatGenerationChunk(message=AIMessageChunk(content=text, response_metadata=told)) for text in ("Hel", "lo")
    ]
    *pieces, _ = model_of(upstream, "openai")._stream([HumanMessage("Hi")])
    assert pieces == wanted
    assert repr(pieces) == repr(wanted)
    for piece, made in zip(pieces, wanted, strict=True):
        assert piece.__getstate__() == made.__getstate__()
        assert piece.message.__getstate__() == made.message.__getstate__()
    held = [value for each in pieces for value in vars(each.message).values() if isinstance(value, list | dict)]
    held += [each.message.model_fields_set for each in pieces] + [each.message.model_extra for each in pieces]
    assert len(set(map(id, held))) == len(held) == 2 * 7


@pytest.mark.parametrize("way", WAYS)
def test_how_likely_tokens_were_is_metadata(upstream: Upstream, way: str) -> None:
    """As OpenAI has it, streamed the same as whole."""
    likely = {"content": [{"token": "Hi", "logprob": -0.25, "bytes": [72, 105], "top_logprobs": []}]}
    body = openai_body(content="Hi")
    body["choices"][0]["logprobs"] = likely
    piece = {"index": 0, "delta": {"content": "Hi"}, "logprobs": likely, "finish_reason": "stop"}
    pieces = streamed({**body, "choices": [piece]}, done=True)
    upstream.default = lambda request: pieces if request.body.get("stream") else plain(body)
    model = model_of(upstream, "openai", extra_body={"logprobs": True})
    assert WAYS[way](model, "Hi").response_metadata["logprobs"] == likely
    assert upstream.requests[-1].body["logprobs"] is True


SERDE = JsonPlusSerializer(allowed_msgpack_modules=[AIMessage, AIMessageChunk])
STORES: dict[str, Callable[[AIMessage], Any]] = {
    "dumpd": lambda message: loaded(dumpd(message)),
    "json of dumpd": lambda message: loaded(json.loads(json.dumps(dumpd(message)))),
    "pickle": lambda message: pickle.loads(pickle.dumps(message)),
    "a dict": lambda message: messages_from_dict(messages_to_dict([message]))[0],
    "its fields": lambda message: type(message).model_validate_json(message.model_dump_json()),
    "a checkpoint": lambda message: SERDE.loads_typed(SERDE.dumps_typed(message)),
}


def loaded(dumped: Any) -> Any:
    return load(dumped, allowed_objects="messages")


@shapes
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_an_answer_goes_back_from_where_it_was_stored(briefly: Upstream, shape: Shape, store: str, way: str) -> None:
    """As it came."""
    said = STORES[store](asked(briefly, shape, way))
    assert shape.turn(next_turn(briefly, said, shape.provider)) == shape.back


@pytest.mark.parametrize("provider", ["anthropic", "google", "openai"])
@pytest.mark.parametrize("way", WAYS)
def test_a_plain_answer_keeps_nothing(briefly: Upstream, provider: str, way: str) -> None:
    """Its text and its calls say all."""
    shape = {
        "anthropic": Shape("anthropic", [{"type": "text", "text": "Hello", "citations": None}, TOOL_USE], None),
        "google": Shape("google", [{"text": "Hello"}, {"functionCall": {"name": "look", "args": {}}}], None),
        "openai": Shape("openai", {"content": "Hello", "tool_calls": [{**CALL, "extra_content": None}]}, None),
    }[provider]
    if provider == "openai":
        del shape.said["tool_calls"][0]["extra_content"]
    said = asked(briefly, shape, way)
    assert (said.text, len(said.tool_calls), said.additional_kwargs) == ("Hello", 1, {})


EDITS: dict[str, Callable[[AIMessage], AIMessage]] = {
    "another text": lambda said: said.model_copy(update={"content": "Edited."}),
    "another text in blocks": lambda said: said.model_copy(update={"content": [{"type": "text", "text": "Edited."}]}),
    "text taken away": lambda said: said.model_copy(update={"content": ""}),
}
CALL_EDITS: dict[str, Callable[[AIMessage], AIMessage]] = {
    "other arguments": lambda said: said.model_copy(
        update={"tool_calls": [{**said.tool_calls[0], "args": {"at": "Edited."}}]}
    ),
    "calls taken away": lambda said: said.model_copy(update={"tool_calls": []}),
    "one call more": lambda said: said.model_copy(
        update={"tool_calls": [*said.tool_calls, {"name": "more", "args": {}, "id": "call_2", "type": "tool_call"}]}
    ),
}
STALE = ("web_search", "encrypted", "citations", "annotations", "audio_1", "inlineData", "sig-")


@pytest.mark.parametrize("name", ["anthropic", "google", "openrouter", "spoken by openai"])
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_an_edited_text_is_what_is_sent(briefly: Upstream, name: str, edit: str, way: str) -> None:
    """And nothing that belonged to the old one; calls that were left alone stay as they came."""
    shape = SHAPES[name]
    said = EDITS[edit](asked(briefly, shape, way))
    body = json.dumps(shape.turn(next_turn(briefly, said, shape.provider)), ensure_ascii=False)
    if said.content or name != "spoken by openai":
        assert not [word for word in (*STALE, "Rome fell.", "So: ", "Here: ") if word in body]
    assert ("Edited." in body) == bool(said.content)
    assert name == "spoken by openai" or "Zürich" in body
    assert ('"thought_signature"' in body) == (name == "openrouter")


@pytest.mark.parametrize("name", ["anthropic", "google", "openrouter"])
@pytest.mark.parametrize("edit", CALL_EDITS)
@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_edited_calls_are_what_is_sent(briefly: Upstream, name: str, edit: str, way: str) -> None:
    """A signature belongs to the call that was signed."""
    shape = SHAPES[name]
    said = CALL_EDITS[edit](asked(briefly, shape, way))
    body = json.dumps(shape.turn(next_turn(briefly, said, shape.provider)), ensure_ascii=False)
    assert not [word for word in STALE if word in body]
    assert said.text in body.replace('"}, {"', "")
    assert ("Edited." in body, "Zürich" in body, '"more"' in body) == (
        edit == "other arguments",
        edit == "one call more",
        edit == "one call more",
    )
    assert ('"thought_signature"' in body) == (name == "openrouter" and edit == "one call more")


def test_signed_thinking_outlives_an_edit_of_the_text(briefly: Upstream) -> None:
    """It is asked for before a call; thinking that was taken away itself is not sent."""
    said = asked(briefly, SHAPES["anthropic"], output_version="v1")
    edited = EDITS["another text"](asked(briefly, SHAPES["anthropic"]))
    turn = SHAPES["anthropic"].turn(next_turn(briefly, edited, "anthropic"))
    assert turn == [THINKING, THINKING, {"type": "text", "text": "Edited."}, TOOL_USE]
    content: list[Any] = [block for block in said.content_blocks if block["type"] != "reasoning"]
    turn = SHAPES["anthropic"].turn(next_turn(briefly, said.model_copy(update={"content": content}), "anthropic"))
    assert turn == [{"type": "text", "text": "So: Rome fell."}, TOOL_USE]


def test_a_cache_mark_on_an_answer_is_sent(briefly: Upstream) -> None:
    """As middleware sets it: an edit like any other."""
    said = asked(briefly, SHAPES["anthropic"])
    marked = said.model_copy(update={"content": [{"type": "text", "text": said.text, **MARK}]})
    turn = SHAPES["anthropic"].turn(next_turn(briefly, marked, "anthropic"))
    assert turn == [THINKING, THINKING, {"type": "text", "text": "So: Rome fell.", **MARK}, TOOL_USE]


@shapes
@pytest.mark.parametrize("provider", ["anthropic", "google", "openai", "mistral"])
@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_an_answer_goes_to_another_provider_in_plain_words(
    briefly: Upstream, shape: Shape, provider: str, way: str
) -> None:
    """Text and calls; of what its own provider alone can read, nothing."""
    if provider == shape.provider:
        return
    said = asked(briefly, shape, way)
    body = next_turn(briefly, said, provider)
    turn = json.dumps(body["contents" if provider == "google" else "messages"][1], ensure_ascii=False)
    assert not [word for word in (*STALE, "Six times seven.") if word in turn]
    transcript = SPOKEN["audio"]["transcript"] if shape.said is SPOKEN else ""
    assert (said.text or transcript) in turn.replace('"}, {"', "")
    assert ("Zürich" in turn) == bool(said.tool_calls)


def test_a_refusal_goes_back_unless_it_was_replaced(briefly: Upstream) -> None:
    """Both at once nobody said."""
    shape = Shape("openai", {"refusal": "I will not."}, {"role": "assistant", "content": "", "refusal": "I will not."})
    said = asked(briefly, shape)
    assert shape.turn(next_turn(briefly, said, "openai")) == shape.back
    edited = EDITS["another text"](said)
    assert shape.turn(next_turn(briefly, edited, "openai")) == {"role": "assistant", "content": "Edited."}


def test_an_agents_name_is_on_its_answer(briefly: Upstream) -> None:
    """Which is no change of what it says."""
    said = asked(briefly, SHAPES["openrouter"]).model_copy(update={"name": "ann"})
    turn = SHAPES["openrouter"].turn(next_turn(briefly, said, "openrouter"))
    assert turn == {**SHAPES["openrouter"].back, "name": "ann"}


# Histories of other models


FOREIGN: dict[str, tuple[AIMessage, list[JSON]]] = {
    "thinking": (
        AIMessage(
            [{**THINKING, "index": 0}, {"type": "text", "text": "42", "index": 1}, {**TOOL_USE, "index": 2}],
            tool_calls=[{"name": "look", "args": TOOL_USE["input"], "id": "call_1"}],
        ),
        [THINKING, {"type": "text", "text": "42"}, TOOL_USE],
    ),
    "thinking of Anthropic's by name": (
        AIMessage([THINKING, {"type": "text", "text": "42"}], response_metadata={"model_provider": "anthropic"}),
        [THINKING, {"type": "text", "text": "42"}],
    ),
    "thinking that is hidden": (
        AIMessage(
            [
                {"type": "thinking", "thinking": "", "signature": "sig"},
                {"type": "redacted_thinking", "data": "e"},
                {"type": "text", "text": "42"},
            ]
        ),
        [
            {"type": "thinking", "thinking": "", "signature": "sig"},
            {"type": "redacted_thinking", "data": "e"},
            {"type": "text", "text": "42"},
        ],
    ),
    "standard reasoning": (
        AIMessage(
            [
                {"type": "reasoning", "reasoning": "Six times seven.", "extras": {"signature": "sig"}},
                {"type": "non_standard", "value": {"type": "redacted_thinking", "data": "e"}},
                {"type": "text", "text": "42"},
            ],
            response_metadata={"model_provider": "anthropic", "output_version": "v1"},
        ),
        [THINKING, {"type": "redacted_thinking", "data": "e"}, {"type": "text", "text": "42"}],
    ),
    "reasoning signed by another": (
        AIMessage(
            [
                {"type": "reasoning", "reasoning": "Six times seven.", "extras": {"signature": "sig"}},
                {"type": "text", "text": "42"},
            ],
            response_metadata={"model_provider": "google_genai", "output_version": "v1"},
        ),
        [{"type": "text", "text": "42"}],
    ),
    "searches": (
        AIMessage(
            [
                {**SEARCHING[0], "input": {}, "partial_json": '{"query": "Rome"}', "index": 0},
                {**SEARCHING[1], "index": 1},
                {**CITING, "index": 2},
            ]
        ),
        [*SEARCHING, CITING],
    ),
    "searches in standard blocks": (
        AIMessage(
            [
                {"type": "server_tool_call", "name": "web_search", "id": "srvtoolu_1", "args": {"query": "Rome"}},
                {"type": "server_tool_result", "tool_call_id": "srvtoolu_1", "status": "success"},
                {"type": "text", "text": "Rome fell.", "annotations": [{"type": "citation", "title": "Rome"}]},
            ]
        ),
        [{"type": "text", "text": "Rome fell."}],
    ),
}


@pytest.mark.parametrize(("message", "wanted"), FOREIGN.values(), ids=FOREIGN.keys())
def test_histories_of_other_models_go_to_anthropic(briefly: Upstream, message: AIMessage, wanted: list[JSON]) -> None:
    """What is signed with its signature, if it is Anthropic's."""
    assert next_turn(briefly, message, "anthropic")["messages"][1]["content"] == wanted


@pytest.mark.parametrize("message", [message for message, _ in FOREIGN.values()], ids=FOREIGN.keys())
def test_histories_of_other_models_go_elsewhere(briefly: Upstream, message: AIMessage) -> None:
    """As their text and their calls."""
    for provider in ("openai", "google", "mistral"):
        body = next_turn(briefly, message, provider)
        turn = json.dumps(body["contents" if provider == "google" else "messages"][1], ensure_ascii=False)
        assert message.text in turn
        assert not [word for word in ('"sig"', 'Rome"', "encrypted", "redacted", "Six") if word in turn]


def test_an_answer_of_nothing_but_a_search(briefly: Upstream) -> None:
    """Is an empty one elsewhere: OpenAI takes no list of no parts."""
    message = AIMessage([*SEARCHING])
    assert next_turn(briefly, message, "anthropic")["messages"][1]["content"] == SEARCHING
    assert next_turn(briefly, message, "openai")["messages"][1]["content"] == ""
    assert len(next_turn(briefly, message, "google")["contents"]) == 1


def test_an_earlier_answer_that_cannot_be_read_is_refused(briefly: Upstream) -> None:
    """LangChain's own reading of it has no type of error."""
    message = AIMessage([{"type": "image_url", "image_url": {"url": ""}}])
    with pytest.raises(aistrale.InvalidRequestError, match="earlier answer cannot be read"):
        next_turn(briefly, message, "openai")


def test_reasoning_of_others_goes_where_reasoning_is_wanted(briefly: Upstream) -> None:
    """As text, whatever the shape."""
    told = [
        AIMessage("42", additional_kwargs={"reasoning_content": "Six."}),
        AIMessage([{"type": "reasoning", "reasoning": "Six."}, {"type": "text", "text": "42"}]),
        AIMessage([{"type": "thinking", "thinking": "Six."}, {"type": "text", "text": "42"}]),
    ]
    for message in told:
        assert next_turn(briefly, message, "deepseek")["messages"][1]["reasoning_content"] == "Six."


@pytest.mark.parametrize(
    "kwargs",
    [
        {"reasoning_blocks": ["Six."]},
        {"reasoning_blocks": [{"thought": "Six."}]},
        {"aistrale": "Six."},
        {"aistrale": {"content": 7}},
        {"aistrale": {"reasoning_blocks": [{"thought": "Six."}], "content": "42"}},
        {"tool_call_extras": 7},
    ],
    ids=str,
)
def test_what_others_keep_beside_a_message_harms_nobody(briefly: Upstream, kwargs: JSON) -> None:
    """It is not ours to read."""
    body = next_turn(briefly, AIMessage("42", additional_kwargs=kwargs), "openai")
    assert body["messages"][1] == {"role": "assistant", "content": "42"}


def test_arguments_are_written_as_providers_write_them(briefly: Upstream) -> None:
    """Not escaped, unless there is no other way."""
    calls = [{"name": "look", "args": {"at": at}, "id": f"call_{at[0]!r}"} for at in ("Zürich", "日本", "\ud83d")]
    turn = next_turn(briefly, AIMessage("", tool_calls=calls), "openai")["messages"][1]
    assert [call["function"]["arguments"] for call in turn["tool_calls"]] == [
        '{"at": "Zürich"}',
        '{"at": "日本"}',
        '{"at": "\\ud83d"}',
    ]


# All answers there are


numbers = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)  # as checkpoints take them
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
objects = st.dictionaries(st.text(max_size=5), json_values, max_size=2)
tool_calls = st.builds(
    ToolCall,
    st.uuids().map(str),
    st.text(min_size=1, max_size=5),
    objects.map(json.dumps) | st.just("") | st.just('{"a":') | st.text(max_size=5),
    st.sampled_from(["function", "function", "custom"]),
    st.just({}) | st.dictionaries(st.sampled_from(["extra_content", "index", "lc"]), json_values, max_size=1),
)
texts = st.text(max_size=8)
blocks = st.builds(
    ReasoningBlock,
    texts,
    st.none() | texts,
    st.none() | texts,
    st.none() | st.fixed_dictionaries({"type": texts, "lc": json_values}),
    st.none() | st.sampled_from(["anthropic", "google"]),
)
own_content = st.dictionaries(
    st.sampled_from(["anthropic", "google", "another"]),
    st.lists(
        json_values | st.dictionaries(st.sampled_from(["type", "text", "lc", "signature"]), json_values, max_size=3),
        max_size=2,
    ),
    max_size=1,
)
answers = st.builds(
    Message,
    st.just("assistant"),
    st.none() | texts,
    tool_calls=st.lists(tool_calls, max_size=3).map(tuple),
    refusal=st.none() | st.text(min_size=1, max_size=5),
    reasoning_blocks=st.lists(blocks, max_size=2).map(tuple),
    provider_content=own_content,
    extra=st.just({}) | st.fixed_dictionaries({"annotations": st.lists(objects, min_size=1), "lc": json_values}),
)


@given(answers, st.sampled_from(sorted(STORES)))
def test_any_answer_comes_back_from_langchain(message: Message, store: str) -> None:
    """The very message, if something had to be kept of it; else what it says, as LangChain's fields have it."""
    said = answer(Completion((Choice(message, "stop"),), "some-model"), Choice(message, "stop"))
    assert said.additional_kwargs.keys() <= {"reasoning_content", "refusal", "aistrale"}
    (read_back,) = messages_of([STORES[store](said)])
    assert read_back == (message if "aistrale" in said.additional_kwargs else in_fields(message))


def in_fields(message: Message) -> Message:
    """What LangChain's fields hold of an answer.

    Reasoning in one piece, none for an empty content, invalid calls last, arguments with spaces, a refusal where there
    is no content, and no copy of text and calls in a provider's words.
    """
    valid = [call for call in message.tool_calls if is_object(call.arguments)]
    invalid = [call for call in message.tool_calls if not is_object(call.arguments)]
    calls = [replace(call, arguments=json.dumps(call.args, ensure_ascii=False)) for call in valid]
    return replace(
        message,
        content=message.content or None,
        tool_calls=(*calls, *invalid),
        refusal=None if message.content else message.refusal,
        reasoning_blocks=(ReasoningBlock(message.reasoning),) if message.reasoning else (),
        provider_content={},
    )


def is_object(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments or "{}"), dict)
    except ValueError:
        return False


RECORDED = [*params("openai.chat"), *params("anthropic.messages"), *params("google.generate")]
PROTOCOLS = {"openai": "openrouter", "anthropic": "anthropic", "google": "google"}


def encoded(provider: str, *messages: Message) -> JSON:
    profile = find_profile(provider)
    assert profile is not None
    request = CompletionRequest(messages=(Message("user", "Hi"), *messages, Message("user", "So?")))
    route = Route(profile, "some-model", "https://provider.example", "sk")
    body: JSON = json.loads(codec_of(profile.protocol).encode(request, route, stream=False).body)
    return body


@pytest.mark.parametrize("exchange", RECORDED)
def test_recorded_answers_go_back_through_langchain(exchange: Exchange) -> None:
    """To the provider they came from, as they would without LangChain."""
    recorded = read(exchange)
    if not isinstance(recorded, Completion):
        return
    for choice in recorded.choices:
        said = STORES["dumpd"](answer(recorded, choice))
        provider = PROTOCOLS[exchange.api.partition(".")[0]]
        again, wanted = encoded(provider, *messages_of([said])), encoded(provider, choice.message)
        assert without_spelling(again) == without_spelling(wanted)


def without_spelling(value: Any) -> Any:
    """A body without what may differ: spaces in arguments, and whether there is no content or an empty one."""
    if isinstance(value, list):
        return [without_spelling(entry) for entry in value]
    if isinstance(value, dict):
        known = {key: entry for key, entry in value.items() if key != "content" or entry}
        return {key: strict(entry) if key == "arguments" else without_spelling(entry) for key, entry in known.items()}
    return value


def strict(arguments: Any) -> Any:
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return arguments
