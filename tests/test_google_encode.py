"""What Google is sent: https://ai.google.dev/api/generate-content."""

import json
import logging
from typing import Any

import pytest
import wording
from inline_snapshot import Is, snapshot
from shapes import (
    BARE_TOOL,
    SCHEMA_TOOL,
    Weather,
    added,
    after_a_call,
    body_of,
    file,
    image,
    result,
    sent,
    sent_to_embed,
    user,
)

from aistrale.exceptions import InvalidRequestError
from aistrale.models import Message, ReasoningBlock, ToolCall
from aistrale.providers.anthropic import decode_content
from aistrale.providers.google import decode_parts

MODEL = "google/gemini-2.5-flash"
NEWER = "google/gemini-3-flash-preview"


def test_a_request_is_posted_to_its_model() -> None:
    """Address, headers and the smallest body there is."""
    assert wording.posted(MODEL, "x-goog-api-key") == snapshot(
        (
            "POST",
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent",
            {"Content-Type": "application/json"},
            {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]},
        )
    )


def test_a_stream_has_an_address_of_its_own() -> None:
    """The body is the same; the address asks for events."""
    assert sent(MODEL, stream=True).url == snapshot(
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    )
    assert body_of(MODEL, stream=True) == body_of(MODEL)


URLS = [
    (
        "https://proxy.example",
        "gemini-2.5-flash",
        snapshot("https://proxy.example/v1beta/models/gemini-2.5-flash:generateContent"),
    ),
    (
        "https://proxy.example/v1beta/",
        "gemini-2.5-flash",
        snapshot("https://proxy.example/v1beta/models/gemini-2.5-flash:generateContent"),
    ),
    (
        "https://proxy.example/v1",
        "models/gemini-2.5-flash",
        snapshot("https://proxy.example/v1/models/gemini-2.5-flash:generateContent"),
    ),
    (
        "https://proxy.example",
        "tunedModels/my model",
        snapshot("https://proxy.example/v1beta/tunedModels/my%20model:generateContent"),
    ),
    (
        "https://aiplatform.googleapis.com/v1beta1/projects/p/locations/global",
        "publishers/google/models/gemini-2.5-flash",
        snapshot(
            "https://aiplatform.googleapis.com/v1beta1/projects/p/locations/global/publishers/google/models/gemini-2.5-flash:generateContent"
        ),
    ),
]


@pytest.mark.parametrize(("base", "model", "wanted"), URLS, ids=[f"{base} {model}" for base, model, _ in URLS])
def test_base_url_and_model_make_the_address(base: str, model: str, wanted: str) -> None:
    """The API's version is added where the base URL has none; a model's name may be its whole path."""
    assert sent(f"google/{model}", base_url=base).url == wanted


CONVERSATIONS = {
    "system and developer": (
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        ],
        snapshot(
            ({"parts": [{"text": "Be brief."}, {"text": "Be kind."}]}, [{"role": "user", "parts": [{"text": "Hi"}]}])
        ),
    ),
    "neighbours of one role": (
        [
            {"role": "user", "content": "One"},
            {"role": "user", "content": "Two"},
            {"role": "assistant", "content": "Three"},
            {"role": "assistant", "content": ""},
            {"role": "user", "content": "Five"},
        ],
        snapshot(
            (
                None,
                [
                    {"role": "user", "parts": [{"text": "One"}, {"text": "Two"}]},
                    {"role": "model", "parts": [{"text": "Three"}]},
                    {"role": "user", "parts": [{"text": "Five"}]},
                ],
            )
        ),
    ),
    "a refusal": (
        wording.A_REFUSAL,
        snapshot(
            (
                None,
                [
                    {"role": "user", "parts": [{"text": "Hi"}]},
                    {"role": "model", "parts": [{"text": "I will not."}]},
                    {"role": "user", "parts": [{"text": "Why?"}]},
                ],
            )
        ),
    ),
}


@pytest.mark.parametrize(("messages", "wanted"), CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_a_conversation_becomes_turns_of_user_and_model(messages: list[Any], wanted: Any) -> None:
    """System texts stand apart, and neighbours of one role are one turn."""
    body = body_of(MODEL, messages)
    assert (body.get("systemInstruction"), body["contents"]) == wanted


RESULTS: dict[str, tuple[list[Any], Any]] = {
    "parallel": (
        wording.PARALLEL,
        snapshot(
            [
                {"functionResponse": {"name": "get_weather", "response": {"result": "Rain"}}},
                {"functionResponse": {"name": "get_weather", "response": {"result": "Sun"}}},
            ]
        ),
    ),
    "followed by a question": (
        wording.WITH_A_QUESTION,
        snapshot(
            [{"functionResponse": {"name": "get_weather", "response": {"result": "Rain"}}}, {"text": "And tomorrow?"}]
        ),
    ),
    "empty": ([result("a", "")], snapshot([{"functionResponse": {"name": "get_weather", "response": {"result": ""}}}])),
    "an object": (
        wording.AN_OBJECT,
        snapshot([{"functionResponse": {"name": "get_weather", "response": {"celsius": 20}}}]),
    ),
    "a list": (
        [result("a", "[1, 2]")],
        snapshot([{"functionResponse": {"name": "get_weather", "response": {"result": [1, 2]}}}]),
    ),
    "in parts": (
        wording.IN_PARTS,
        snapshot(
            [
                {"functionResponse": {"name": "get_weather", "response": {"result": "Map:"}}},
                {"inlineData": {"mimeType": "image/png", "data": "aW1hZ2U="}},
            ]
        ),
    ),
}


@pytest.mark.parametrize(("results", "wanted"), RESULTS.values(), ids=RESULTS.keys())
def test_results_are_one_turn_of_the_user(results: list[Any], wanted: Any) -> None:
    """All results of a turn's calls stand in the next, each an object under its function's name."""
    turns = body_of(MODEL, after_a_call(*results))["contents"]
    assert [turn["role"] for turn in turns] == ["user", "model", "user"]
    assert turns[-1]["parts"] == wanted


@pytest.mark.parametrize("text", ["NaN", "Infinity", '{"a": NaN}', "[-Infinity]"])
def test_a_result_python_alone_takes_for_json_is_a_text(text: str) -> None:
    """NaN is a word that a tool may answer with, and no JSON."""
    part = body_of(MODEL, after_a_call(result("a", text)))["contents"][-1]["parts"][0]
    assert part["functionResponse"]["response"] == {"result": text}


def test_a_result_whose_call_is_gone_needs_a_name() -> None:
    """Google matches results by the function's name, so a result without its call must say it."""
    with pytest.raises(InvalidRequestError, match="which tool"):
        sent(MODEL, [{"role": "user", "content": "Hi"}, result("a", "Rain")])
    part = body_of(MODEL, [{"role": "user", "content": "Hi"}, result("a", "Rain", name="get_weather")])
    assert part["contents"][0]["parts"][1] == snapshot(
        {"functionResponse": {"name": "get_weather", "response": {"result": "Rain"}}}
    )


PARTS = {
    "image as data": (wording.AN_IMAGE, snapshot({"inlineData": {"mimeType": "image/png", "data": "aW1hZ2U="}})),
    "image at an address": (
        image("https://pictures.example/a.webp?size=1"),
        snapshot({"fileData": {"mimeType": "image/webp", "fileUri": "https://pictures.example/a.webp?size=1"}}),
    ),
    "audio": (
        {"type": "input_audio", "input_audio": {"data": "YQ==", "format": "mp3"}},
        snapshot({"inlineData": {"mimeType": "audio/mpeg", "data": "YQ=="}}),
    ),
    "video": (
        {"type": "video_url", "video_url": {"url": "https://videos.example/a.mov"}},
        snapshot({"fileData": {"mimeType": "video/quicktime", "fileUri": "https://videos.example/a.mov"}}),
    ),
    "pdf as data": (
        wording.A_PDF,
        snapshot({"inlineData": {"mimeType": "application/pdf", "data": "cGRm"}}),
    ),
    "text as data": (
        file(filename="a.txt", file_data="data:text/plain;charset=utf-8;base64,YQ=="),
        snapshot({"inlineData": {"mimeType": "text/plain", "data": "YQ=="}}),
    ),
    "uploaded file": (
        file(file_id="https://generativelanguage.googleapis.com/v1beta/files/abc", filename="a.csv"),
        snapshot(
            {
                "fileData": {
                    "mimeType": "text/csv",
                    "fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc",
                }
            }
        ),
    ),
}


@pytest.mark.parametrize(("part", "wanted"), PARTS.values(), ids=PARTS.keys())
def test_a_medium_becomes_a_part(part: Any, wanted: Any) -> None:
    """What we have as data goes inline, what has an address by its address, each with its type."""
    assert body_of(MODEL, user({"type": "text", "text": "Look:"}, part))["contents"][0]["parts"][1] == wanted


OPTIONS: list[tuple[dict[str, Any], Any]] = [
    (
        {"max_tokens": 100, "temperature": 0.5, "top_p": 0.9, "top_k": 40},
        snapshot({"generationConfig": {"temperature": 0.5, "topP": 0.9, "topK": 40, "maxOutputTokens": 100}}),
    ),
    ({"stop": "END"}, snapshot({"generationConfig": {"stopSequences": ["END"]}})),
    (
        {"stop": ["END", "STOP"], "n": 2, "seed": 7},
        snapshot({"generationConfig": {"seed": 7, "candidateCount": 2, "stopSequences": ["END", "STOP"]}}),
    ),
    (
        {"frequency_penalty": 0.1, "presence_penalty": 0.2},
        snapshot({"generationConfig": {"frequencyPenalty": 0.1, "presencePenalty": 0.2}}),
    ),
    (
        {"extra_body": {"generationConfig": {"temperature": 1}, "cachedContent": "c"}, "temperature": 0.5},
        snapshot({"generationConfig": {"temperature": 1}, "cachedContent": "c"}),
    ),
    (
        {"response_format": Weather},
        snapshot(
            {
                "generationConfig": {
                    "responseMimeType": "application/json",
                    "responseJsonSchema": Is(wording.STRICT_WEATHER),
                }
            }
        ),
    ),
    (
        {"response_format": {"type": "json_object"}},
        snapshot({"generationConfig": {"responseMimeType": "application/json"}}),
    ),
    ({"response_format": {"type": "text"}}, snapshot({})),
    (
        {"tools": wording.TOOLS},
        snapshot(
            {
                "tools": [
                    {
                        "functionDeclarations": [
                            {
                                "name": "get_weather",
                                "description": "The weather of a city.",
                                "parametersJsonSchema": Is(wording.GET_WEATHER),
                            },
                            {
                                "name": "Weather",
                                "description": "Report the weather.",
                                "parametersJsonSchema": Is(wording.WEATHER),
                            },
                            {
                                "name": "get_time",
                                "description": "The time of day.",
                                "parametersJsonSchema": Is(wording.GET_TIME),
                            },
                            {"name": "ping"},
                        ]
                    }
                ]
            }
        ),
    ),
    (
        {"tools": [{"type": "google_search"}, BARE_TOOL, {"type": "code_execution"}]},
        snapshot(
            {"tools": [{"functionDeclarations": [{"name": "ping"}]}, {"google_search": {}}, {"code_execution": {}}]}
        ),
    ),
]


@pytest.mark.parametrize(("options", "wanted"), OPTIONS, ids=[str([*options]) for options, _ in OPTIONS])
def test_an_option_is_put_into_googles_words(options: dict[str, Any], wanted: Any) -> None:
    """Each option in Google's words, and nothing besides."""
    assert added(MODEL, **options) == wanted


CHOICES: list[tuple[Any, Any]] = [
    ("auto", snapshot({"functionCallingConfig": {"mode": "AUTO"}})),
    ("none", snapshot({"functionCallingConfig": {"mode": "NONE"}})),
    ("required", snapshot({"functionCallingConfig": {"mode": "ANY"}})),
    ("any", snapshot({"functionCallingConfig": {"mode": "ANY"}})),
    ("get_time", snapshot({"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["get_time"]}})),
    (
        {"type": "function", "function": {"name": "get_time"}},
        snapshot({"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["get_time"]}}),
    ),
]


@pytest.mark.parametrize(("choice", "wanted"), CHOICES, ids=[str(choice) for choice, _ in CHOICES])
def test_a_tool_choice_is_put_into_googles_words(choice: Any, wanted: Any) -> None:
    """Every way to choose a tool."""
    assert body_of(MODEL, tools=[SCHEMA_TOOL], tool_choice=choice)["toolConfig"] == wanted


THINKING: list[tuple[str, str, Any]] = [
    ("gemini-2.5-flash", "none", snapshot({"thinkingConfig": {"thinkingBudget": 0, "includeThoughts": False}})),
    ("gemini-2.5-flash", "minimal", snapshot({"thinkingConfig": {"thinkingBudget": 1024, "includeThoughts": True}})),
    (
        "models/gemini-2.5-pro",
        "medium",
        snapshot({"thinkingConfig": {"thinkingBudget": 8192, "includeThoughts": True}}),
    ),
    ("gemini-2.5-pro", "high", snapshot({"thinkingConfig": {"thinkingBudget": 24576, "includeThoughts": True}})),
    (
        "gemini-3-flash-preview",
        "none",
        snapshot({"thinkingConfig": {"thinkingLevel": "minimal", "includeThoughts": False}}),
    ),
    ("gemini-3-pro-preview", "low", snapshot({"thinkingConfig": {"thinkingLevel": "low", "includeThoughts": True}})),
    ("gemini-3.5-flash", "high", snapshot({"thinkingConfig": {"thinkingLevel": "high", "includeThoughts": True}})),
]


@pytest.mark.parametrize(("model", "effort", "wanted"), THINKING)
def test_an_effort_becomes_a_budget_or_a_level(model: str, effort: str, wanted: Any) -> None:
    """Gemini 2.5 thinks by a budget, its successors by a level."""
    assert body_of(f"google/{model}", reasoning_effort=effort)["generationConfig"] == wanted


@pytest.mark.parametrize("path", ["publishers/google/models/gemini-2.5-flash", "projects/p/models/gemini-2.5-flash"])
def test_a_model_named_by_its_path_is_the_same_model(path: str) -> None:
    """How a model thinks depends on the model, not on how much of its path is spelled out."""
    plain = body_of(MODEL, reasoning_effort="low")["generationConfig"]
    assert body_of(f"google/{path}", reasoning_effort="low")["generationConfig"] == plain


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    ("Hello", {"reasoning_effort": "xhigh"}, "reasoning_effort"),
    ("Hello", {"tools": [{"type": "custom", "custom": {"name": "sql"}}]}, "free-text"),
    (user({"type": "search_result"}), {}, "search_result"),
    (user({"type": "input_audio", "input_audio": "YQ=="}), {}, "input_audio"),
    ([{"role": "system", "content": "Be brief."}], {}, "message"),
]


@pytest.mark.parametrize(("prompt", "options", "why"), REFUSED, ids=[why for *_, why in REFUSED])
def test_what_google_cannot_do_is_said_before_sending(prompt: Any, options: dict[str, Any], why: str) -> None:
    """A request that cannot be put into Google's words is refused here, with the reason."""
    with pytest.raises(InvalidRequestError, match=why):
        sent(MODEL, prompt, **options)


def test_the_user_is_left_out_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Google takes no user; a log line says so."""
    with caplog.at_level(logging.WARNING, "aistrale"):
        assert added(MODEL, user="u-1") == {}
    assert "user" in caplog.text


# History

SIGNED = [
    {"text": "Hm.", "thought": True},
    {"text": "Looking."},
    {
        "functionCall": {"id": "fc-1", "name": "get_weather", "args": {"city": "Rome"}},
        "thoughtSignature": "c2ln",
    },
    {"functionCall": {"name": "ping", "args": {}}},
]


def turns_after(message: Message, model: str = MODEL) -> Any:
    return body_of(model, wording.going_on(message))["contents"][1:]


def test_its_own_answer_goes_back_part_by_part() -> None:
    """A signature belongs to the part it came with, so every part goes back as it came, and in its place."""
    assert turns_after(decode_parts(SIGNED, "r-1", 0))[0] == {"role": "model", "parts": SIGNED}


def test_a_result_carries_the_id_google_gave_its_call() -> None:
    """A call's id is sent back where Google gave one, and none is made up where it gave none."""
    assert turns_after(decode_parts(SIGNED, "r-1", 0))[1]["parts"] == snapshot(
        [
            {"functionResponse": {"name": "get_weather", "response": {"result": "Sunny"}, "id": "fc-1"}},
            {"functionResponse": {"name": "ping", "response": {"result": "Sunny"}}},
            {"text": "So?"},
        ]
    )


def test_an_empty_part_is_not_sent_back() -> None:
    """Streams may end in a part without text, which requests may not hold; one with a signature may."""
    signed = {"text": "", "thoughtSignature": "c2ln"}
    message = decode_parts([{"text": "Rome."}, {"text": ""}, signed], "r-1", 0)
    assert turns_after(message)[0]["parts"] == [{"text": "Rome."}, signed]


def test_an_answer_the_caller_changed_goes_back_as_changed() -> None:
    """What the caller wrote over counts, without signatures that belong to other words."""
    own = decode_parts(SIGNED, "r-1", 0)
    changed = Message("assistant", "Edited.", tool_calls=own.tool_calls, provider_content=own.provider_content)
    assert turns_after(changed)[0]["parts"] == snapshot(
        [
            {"text": "Edited."},
            {"functionCall": {"name": "get_weather", "args": {"city": "Rome"}}},
            {"functionCall": {"name": "ping", "args": {}}},
        ]
    )


def test_another_providers_answer_becomes_parts() -> None:
    """Text and calls are put into parts; reasoning is its provider's own and left out."""
    assert turns_after(wording.foreign(ReasoningBlock("Hm.", "signed by another"))) == snapshot(
        [
            {
                "role": "model",
                "parts": [
                    {"text": "Looking."},
                    {"functionCall": {"name": "get_weather", "args": {"city": "Rome"}}},
                    {"functionCall": {"name": "ping", "args": {}}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"name": "get_weather", "response": {"result": "Sunny"}}},
                    {"functionResponse": {"name": "ping", "response": {"result": "Sunny"}}},
                    {"text": "So?"},
                ],
            },
        ]
    )


UNSIGNED = {
    "anthropic": decode_content([{"type": "tool_use", "id": "a", "name": "get_weather", "input": {"city": "Rome"}}]),
    "an older gemini": decode_parts([{"functionCall": {"name": "get_weather", "args": {"city": "Rome"}}}], "r-1", 0),
}


@pytest.mark.parametrize("message", UNSIGNED.values(), ids=UNSIGNED.keys())
def test_an_unsigned_call_passes_the_check_of_signatures(message: Message) -> None:
    """Gemini 3 refuses a current turn whose first call is unsigned, and names a signature for calls made elsewhere.

    Source: https://ai.google.dev/gemini-api/docs/thought-signatures, "skip_thought_signature_validator".
    """
    (turn, _) = turns_after(message, NEWER)
    assert turn["parts"][0]["thoughtSignature"] == "skip_thought_signature_validator"
    assert "thoughtSignature" not in turns_after(message)[0]["parts"][0]


@pytest.mark.parametrize("arguments", [*wording.NO_OBJECTS, '{"a": NaN}'])
def test_arguments_that_are_no_object_go_back_all_the_same(arguments: str) -> None:
    """`args` must be an object: a call cut off or gone wrong must not end the conversation."""
    turn = turns_after(Message("assistant", tool_calls=(ToolCall("call_1", "get_weather", arguments),)))[0]
    assert isinstance(turn["parts"][0]["functionCall"]["args"], dict)


# Embeddings


def test_texts_to_embed_are_one_batch() -> None:
    """Each text is a request of its own, with the model's path and the dimensions asked for."""
    request = sent_to_embed(
        "google/gemini-embedding-001", ["a", "b"], dimensions=8, extra_body={"taskType": "CLUSTERING"}
    )
    assert (request.url, json.loads(request.body)) == snapshot(
        (
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-001:batchEmbedContents",
            {
                "requests": [
                    {
                        "model": "models/gemini-embedding-001",
                        "taskType": "CLUSTERING",
                        "outputDimensionality": 8,
                        "content": {"parts": [{"text": "a"}]},
                    },
                    {
                        "model": "models/gemini-embedding-001",
                        "taskType": "CLUSTERING",
                        "outputDimensionality": 8,
                        "content": {"parts": [{"text": "b"}]},
                    },
                ]
            },
        )
    )


def test_token_ids_cannot_be_embedded() -> None:
    """Google embeds texts only."""
    with pytest.raises(InvalidRequestError, match="token ids"):
        sent_to_embed("google/gemini-embedding-001", [1, 2])  # type: ignore[list-item]
