"""Which error a provider's error answer is, and how long it asks to wait."""

import json
import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from shapes import KEY, route_to

from aistrale.exceptions import (
    APIError,
    AuthenticationError,
    ContentFilterError,
    ContextLengthError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)
from aistrale.http import retry_after_seconds
from aistrale.providers.errors import MAX_BODY, MAX_MESSAGE, decode_error, not_an_answer


def error(message: str = "No.", **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


def anthropic(kind: str, message: str = "No.") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def google(code: int, status: str, message: str = "No.", *details: Any) -> dict[str, Any]:
    return {"error": {"code": code, "status": status, "message": message, "details": list(details)}}


BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
FILTERED = {
    "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}},
    }
}

ANSWERS: list[tuple[str, int, Any, type[APIError], str | None]] = [
    ("openai", 401, error(code="invalid_api_key"), AuthenticationError, "invalid_api_key"),
    ("openai", 403, error(code="unsupported_country"), PermissionDeniedError, "unsupported_country"),
    ("openai", 404, error(code="model_not_found"), NotFoundError, "model_not_found"),
    ("openai", 400, error(type="invalid_request_error", code=None), InvalidRequestError, "invalid_request_error"),
    ("openai", 400, error(code="context_length_exceeded"), ContextLengthError, "context_length_exceeded"),
    ("openai", 400, error(code="content_policy_violation"), ContentFilterError, "content_policy_violation"),
    ("openai", 429, error(type="tokens", code="rate_limit_exceeded"), RateLimitError, "rate_limit_exceeded"),
    ("openai", 429, error(code="insufficient_quota"), RateLimitError, "insufficient_quota"),
    ("openai", 500, error(type="server_error", code=None), ServerError, "server_error"),
    ("openai", 503, error(type="service_unavailable"), ServerError, "service_unavailable"),
    ("openai", 418, error(), InvalidRequestError, None),
    ("openai", 599, error(), ServerError, None),
    ("azure", 400, FILTERED, ContentFilterError, "ResponsibleAIPolicyViolation"),
    ("azure", 404, error(code="DeploymentNotFound"), NotFoundError, "DeploymentNotFound"),
    ("azure", 401, error(code="401"), AuthenticationError, "401"),
    ("azure", 429, {"statusCode": 429, "message": "No."}, RateLimitError, None),
    ("anthropic", 401, anthropic("authentication_error"), AuthenticationError, "authentication_error"),
    ("anthropic", 402, anthropic("billing_error"), RateLimitError, "billing_error"),
    ("anthropic", 403, anthropic("permission_error"), PermissionDeniedError, "permission_error"),
    ("anthropic", 404, anthropic("not_found_error"), NotFoundError, "not_found_error"),
    ("anthropic", 413, anthropic("request_too_large"), InvalidRequestError, "request_too_large"),
    ("anthropic", 429, anthropic("rate_limit_error"), RateLimitError, "rate_limit_error"),
    ("anthropic", 504, anthropic("timeout_error"), ServerError, "timeout_error"),
    ("anthropic", 529, anthropic("overloaded_error"), ServerError, "overloaded_error"),
    ("google", 400, google(400, "INVALID_ARGUMENT", "No.", BAD_KEY), AuthenticationError, "API_KEY_INVALID"),
    ("google", 400, google(400, "INVALID_ARGUMENT"), InvalidRequestError, "INVALID_ARGUMENT"),
    ("google", 403, google(403, "PERMISSION_DENIED"), PermissionDeniedError, "PERMISSION_DENIED"),
    ("google", 429, google(429, "RESOURCE_EXHAUSTED"), RateLimitError, "RESOURCE_EXHAUSTED"),
    ("google", 503, [google(503, "UNAVAILABLE")], ServerError, "UNAVAILABLE"),
    ("groq", 413, error(type="tokens", code="rate_limit_exceeded"), RateLimitError, "rate_limit_exceeded"),
    ("groq", 400, error(code="tool_use_failed", failed_generation="<f>"), InvalidRequestError, "tool_use_failed"),
    ("mistral", 422, {"detail": [{"type": "extra_forbidden", "loc": ["body"]}]}, InvalidRequestError, None),
    ("mistral", 401, {"message": "Unauthorized", "request_id": "r"}, AuthenticationError, None),
    ("openrouter", 402, error(code=402), RateLimitError, None),
    ("openrouter", 429, error(code=429, metadata={"raw": "No.", "provider_name": "A"}), RateLimitError, None),
    ("deepseek", 402, error(code="invalid_request_error"), RateLimitError, "invalid_request_error"),
    ("vllm", 404, {"detail": "Not Found"}, NotFoundError, None),
    ("openai", 503, "upstream connect error or disconnect/reset before headers", ServerError, None),
    ("openai", 502, "<html><head><title>502 Bad Gateway</title></head></html>", ServerError, None),
    ("openai", 500, "", ServerError, None),
    ("openai", 400, '"No."', InvalidRequestError, None),
    ("openai", 400, "17", InvalidRequestError, None),
    ("openai", 429, ["No."], RateLimitError, None),
    ("openai", 400, {"error": ["No."]}, InvalidRequestError, None),
    ("openai", 401, {"error": {"message": None, "code": None, "type": None}}, AuthenticationError, None),
]


def sent_as(body: Any) -> bytes:
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


@pytest.mark.parametrize(
    ("provider", "status", "body", "kind", "code"), ANSWERS, ids=[f"{row[0]} {row[1]} {row[4]}" for row in ANSWERS]
)
def test_an_error_answer_is_the_error_it_says(
    provider: str, status: int, body: Any, kind: type[APIError], code: str | None
) -> None:
    """By its code where the status says no more than that the request is wrong, else by the status."""
    found = decode_error(status, {}, sent_as(body), route_to(f"{provider}/some-model"))
    assert type(found) is kind
    assert (found.status, found.code, found.provider) == (status, code, provider)
    assert str(found).startswith(f"{provider} answered HTTP {status} for some-model: ")


TOO_LONG = [
    # OpenAI, vLLM, DeepSeek, OpenRouter
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.",
    # Anthropic
    "prompt is too long: 208310 tokens > 200000 maximum",
    "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, decrease input length",
    # Gemini, Vertex AI
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    "Unable to submit request because the input token count is 1200000 but model only supports up to 1048576.",
    # Mistral
    "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
    # xAI
    "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
    # llama.cpp
    "the request exceeds the available context size, try increasing it",
    # text-generation-inference
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000",
]
NOT_TOO_LONG = [
    "max_tokens is too large: 200000. This model supports at most 16384 completion tokens.",
    "max_tokens: 200000 > 64000, which is the maximum allowed number of output tokens for claude-haiku-4-5",
    "Invalid 'tools': array too long. Expected an array with maximum length 128, but got 200 instead.",
    "messages.0.content.0.image.source.base64: image exceeds 5 MB maximum: 6000000 bytes > 5242880 bytes",
]


@pytest.mark.parametrize("words", TOO_LONG)
def test_a_prompt_too_long_is_known_by_its_words(words: str) -> None:
    """Most providers say that a prompt does not fit in words alone: another model may be the answer."""
    assert type(decode_error(400, {}, sent_as(error(words)), route_to("openai/m"))) is ContextLengthError
    assert type(decode_error(422, {}, sent_as({"message": words}), route_to("openai/m"))) is ContextLengthError


@pytest.mark.parametrize("words", NOT_TOO_LONG)
def test_another_limit_is_not_that_of_the_context(words: str) -> None:
    """A larger window would not help."""
    assert type(decode_error(400, {}, sent_as(error(words)), route_to("openai/m"))) is InvalidRequestError


WORDS: list[tuple[Any, str]] = [
    (error("Two\n\n  words"), "Two words"),
    ({"error": "A text"}, "A text"),
    ({"message": "A message"}, "A message"),
    ({"detail": "A detail"}, "A detail"),
    ({"detail": [{"msg": "field required"}]}, '[{"msg": "field required"}]'),
    (error("Outer", metadata={"raw": "inner"}), "Outer: inner"),
    ([error("In a list")], "In a list"),
    ("<html><title>Bad\nGateway</title>", "Bad Gateway"),
    ("plain", "plain"),
    ("", "no message"),
    ({}, "no message"),
    ({"error": {}}, "no message"),
]


@pytest.mark.parametrize(("body", "words"), WORDS, ids=[words for _, words in WORDS])
def test_an_error_repeats_the_providers_words(body: Any, words: str) -> None:
    """Wherever they stand in the body, in one line."""
    found = decode_error(400, {}, sent_as(body), route_to("openai/m"))
    assert str(found).startswith(f"openai answered HTTP 400 for m: {words}")


def test_an_error_says_what_to_do() -> None:
    """A key's error names the variable it is read from, a model's the model and the address."""
    refused = decode_error(401, {}, sent_as(error()), route_to("openai/m"))
    assert "OPENAI_API_KEY" in str(refused)
    unknown = decode_error(404, {}, sent_as(error()), route_to("openai/gpt-9"))
    assert "gpt-9" in str(unknown)
    assert "https://api.openai.com/v1" in str(unknown)


def test_a_key_the_provider_echoes_is_not_repeated() -> None:
    """Neither in the message nor anywhere in the body."""
    body = error(f"Incorrect API key provided: {KEY}.", nested=[{"url": f"https://user:{KEY}@proxy.example/"}])
    found = decode_error(401, {}, sent_as(body), route_to("openai/m"))
    assert KEY not in str(found)
    assert KEY not in json.dumps(found.body)
    assert "Incorrect API key provided: [key]" in str(found)


@pytest.mark.parametrize("text", ["x" * 200_000, json.dumps(error("y" * 200_000)), "ü" * 100_000])
def test_a_huge_body_is_kept_in_part(text: str) -> None:
    """The message holds some of its words, the error its first 64 KiB."""
    found = decode_error(500, {}, text.encode(), route_to("openai/m"))
    assert len(str(found)) < MAX_MESSAGE + 200
    assert len(found.body) <= MAX_BODY


@pytest.mark.parametrize("body", [b"\xff\xfe\x00", b"\x1f\x8b\x08", b'{"error": "\xff"}'])
def test_bytes_that_are_no_text_are_no_obstacle(body: bytes) -> None:
    """A compressed or broken body still makes the error its status says."""
    assert type(decode_error(503, {}, body, route_to("openai/m"))) is ServerError


KEYS = ("error", "message", "code", "type", "status", "detail", "details", "metadata", "innererror", "request_id")
scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
bodies = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner), max_leaves=12
)


@given(st.integers(400, 599), bodies)
def test_no_error_body_breaks_its_reader(status: int, body: Any) -> None:
    """Whatever JSON comes with an error status, it makes an error of that status."""
    assert decode_error(status, {}, json.dumps(body).encode(), route_to("openai/m")).status == status


def test_headers_tell_more() -> None:
    """The request's id, when to try again, and whether to."""
    headers = {"x-request-id": "req_1", "retry-after": "7", "x-should-retry": "false"}
    found = decode_error(429, headers, sent_as(error()), route_to("openai/m"))
    assert (found.request_id, found.retry_after, found.should_retry) == ("req_1", 7.0, False)
    bare = decode_error(529, {"request-id": "req_2"}, sent_as(anthropic("overloaded_error")), route_to("anthropic/m"))
    assert (bare.request_id, bare.retry_after, bare.should_retry) == ("req_2", None, None)
    in_body = decode_error(529, {}, sent_as(anthropic("overloaded_error")), route_to("anthropic/m"))
    assert in_body.request_id == "req_1"


def test_a_page_in_place_of_an_answer_says_where_it_came_from() -> None:
    """A success status with no answer in it is a proxy's work, or a wrong address."""
    found = not_an_answer(200, {"content-type": "text/html; charset=utf-8"}, b"<html>", route_to("openai/m"), "why")
    assert "https://api.openai.com/v1" in str(found)
    assert "HTTP 200, text/html" in str(found)
    assert (found.status, found.body) == (200, "<html>")


# How long to wait

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WAITS: list[tuple[dict[str, str], float | None]] = [
    ({}, None),
    ({"retry-after": "7"}, 7.0),
    ({"retry-after": " 1.5 "}, 1.5),
    ({"retry-after": "0"}, 0.0),
    ({"retry-after-ms": "250"}, 0.25),
    ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
    ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
    ({"retry-after": "Fri, 02 Jan 2026 03:04:35 GMT"}, 30.0),
    ({"retry-after": "Fri, 02 Jan 2026 03:04:35"}, 30.0),
    ({"retry-after": "Fri, 02 Jan 2026 03:00:00 GMT"}, 0.0),
    ({"retry-after": "-5"}, None),
    ({"retry-after": "soon"}, None),
    ({"retry-after": "inf"}, None),
    ({"retry-after-ms": "inf"}, None),
    ({"retry-after-ms": "nan"}, None),
    ({"retry-after": ""}, None),
]


@pytest.mark.parametrize(("headers", "seconds"), WAITS, ids=[str(headers) for headers, _ in WAITS])
def test_a_wait_is_read_from_any_of_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds or a date (RFC 9110, section 10.2.3); what cannot be read is no wait."""
    assert retry_after_seconds(headers, NOW) == seconds


waits = st.text(max_size=20) | st.text("0123456789.e+-", max_size=9)


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms"]), waits))
@example({"retry-after": "9" * 400})
@example({"retry-after-ms": "9" * 400})
@example({"retry-after-ms": "1e999"})
def test_a_wait_is_some_time_or_none(headers: dict[str, str]) -> None:
    """Rubbish in these headers raises nothing and never makes anyone wait for ever."""
    seconds = retry_after_seconds(headers, NOW)
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)


@given(st.integers(-(10**6), 10**6))
def test_a_date_is_as_far_off_as_it_is(seconds: int) -> None:
    """To the second, and a time that has passed is no wait."""
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after_seconds({"retry-after": date}, NOW) == max(0, seconds)


def test_google_names_the_wait_in_the_body() -> None:
    """Its 429 has no Retry-After, but google.rpc.RetryInfo among the details."""
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12.5s"}]
    body = {"error": {"code": 429, "message": "Slow.", "status": "RESOURCE_EXHAUSTED", "details": details}}
    assert decode_error(429, {}, sent_as(body), route_to("google/m")).retry_after == 12.5
