"""Which typed error a provider's error answer is: by status and code first, by its words last."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from aistrale.exceptions import (
    AistraleError,
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
from aistrale.http import retry_after_seconds, seconds_in
from aistrale.providers.profile import Route, without_credentials

MAX_BODY = 64 * 1024
"""Bytes of an error body that are kept."""
MAX_MESSAGE = 600
"""Characters of a provider's own words that a message repeats."""

BY_STATUS: dict[int, type[APIError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    402: RateLimitError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: ServerError,
    409: ServerError,
    413: InvalidRequestError,
    422: InvalidRequestError,
    429: RateLimitError,
}

BY_CODE: dict[str, type[APIError]] = {
    # OpenAI and compatible: https://platform.openai.com/docs/guides/error-codes
    "context_length_exceeded": ContextLengthError,
    "string_above_max_length": ContextLengthError,
    "content_filter": ContentFilterError,
    "content_policy_violation": ContentFilterError,
    "ResponsibleAIPolicyViolation": ContentFilterError,
    "invalid_api_key": AuthenticationError,
    "model_not_found": NotFoundError,
    "DeploymentNotFound": NotFoundError,
    "insufficient_quota": RateLimitError,
    "rate_limit_exceeded": RateLimitError,
    "invalid_request_error": InvalidRequestError,
    "server_error": ServerError,
    "InternalServerError": ServerError,
    # Anthropic: https://docs.anthropic.com/en/api/errors
    "authentication_error": AuthenticationError,
    "billing_error": RateLimitError,
    "permission_error": PermissionDeniedError,
    "not_found_error": NotFoundError,
    "request_too_large": InvalidRequestError,
    "rate_limit_error": RateLimitError,
    "timeout_error": ServerError,
    "api_error": ServerError,
    "overloaded_error": ServerError,
    # Google: https://ai.google.dev/gemini-api/docs/troubleshooting, google.rpc.Code
    "INVALID_ARGUMENT": InvalidRequestError,
    "FAILED_PRECONDITION": InvalidRequestError,
    "API_KEY_INVALID": AuthenticationError,
    "UNAUTHENTICATED": AuthenticationError,
    "PERMISSION_DENIED": PermissionDeniedError,
    "NOT_FOUND": NotFoundError,
    "RESOURCE_EXHAUSTED": RateLimitError,
    "INTERNAL": ServerError,
    "UNAVAILABLE": ServerError,
    "DEADLINE_EXCEEDED": ServerError,
}

# A 400 that is about the window says so only in words at most providers.
_CONTEXT_WORDS = re.compile(
    r"context (length|window|limit|size)|maximum context|(prompt|input) is too long|maximum prompt length"
    r"|too many (input )?tokens|input token count|inputs?`? tokens? .*must be <="
    r"|exceeds? the (maximum|limit).*tokens",
    re.IGNORECASE,
)

_ADVICE: dict[type[APIError], str] = {
    AuthenticationError: "Check the API key of {provider}{variables}.",
    PermissionDeniedError: "Check what this key may use at {provider}.",
    NotFoundError: "Check the model name {model!r} and the base URL {base_url}.",
    RateLimitError: "Slow down, raise the limit at {provider}, or name `fallbacks`.",
    ContextLengthError: "Shorten the messages or take a model with a larger context window.",
    ServerError: "Try again later, or name `fallbacks`.",
}


def decode_error(status: int, headers: Mapping[str, str], body: bytes, route: Route) -> APIError:
    """The typed error for an answer with an error status, or for an error body behind a 200."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return _build(status, headers, _shown(body, route), route)
    error = _build(status, headers, parsed, route)
    if len(body) > MAX_BODY:
        error.body = _shown(body, route)
    return error


def decode_error_body(
    body: Any, route: Route, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> APIError:
    """The same for an error that arrived as parsed JSON, such as an event in a stream."""
    return _build(status, headers or {}, body, route)


def not_an_answer(status: int, headers: Mapping[str, str], body: bytes, route: Route, why: str) -> ServerError:
    """The error for a success status whose body no codec can read: a proxy's page, or a body cut short."""
    kind = headers.get("content-type", "").split(";")[0] or "no content type"
    return ServerError(
        f"{route.provider} ({redact(route.base_url, route)}) answered with what is no answer: {why} "
        f"(HTTP {status}, {kind}). Check the base URL, and whether a proxy stands in between.",
        status=status,
        provider=route.provider,
        request_id=_request_id(headers),
        body=_shown(body, route),
    )


def _shown(body: bytes, route: Route) -> str:
    """The beginning of a body as text, without the key, also where the cut would leave a part of it."""
    longest = MAX_BODY + len(route.api_key or "")
    return redact(body[:longest].decode("utf-8", "replace"), route)[:MAX_BODY]


def redact(text: str, route: Route) -> str:
    """`text` without the route's key and without credentials in URLs."""
    for secret in (route.api_key, route.credentials):
        if secret and len(secret) >= 4:
            text = text.replace(secret, "[key]")
    return without_credentials(text)


def hide_secrets(error: AistraleError, route: Route) -> None:
    """Take the key out of an error's words, and cut its causes off where they repeat it.

    What a library below says of a broken answer may quote the answer, and that may quote the key.
    """
    error.message = redact(error.message, route)
    error.args = (error.message,)
    if isinstance(error, APIError):
        error.code, error.request_id = (value and redact(str(value), route) for value in (error.code, error.request_id))
    link: BaseException = error
    while (cause := link.__cause__ or link.__context__) is not None:
        words = f"{cause} {cause!r}"
        if redact(words, route) != words:
            link.__cause__ = link.__context__ = None
            return
        link = cause


def _build(status: int, headers: Mapping[str, str], body: Any, route: Route) -> APIError:
    message, codes = _details(body)
    # An error behind a 200 or in a stream counts as what its own code says it is.
    effective = status if status >= 400 else _status_in(body, codes)
    kind = _classify(effective, codes, message)
    advice = _ADVICE.get(kind, "").format(
        provider=route.provider,
        model=route.model,
        base_url=route.base_url,
        variables=f" ({' or '.join(route.profile.key_variables)})" if route.profile.key_variables else "",
    )
    said = " ".join(redact(message, route).split())
    said = said if len(said) <= MAX_MESSAGE else said[:MAX_MESSAGE] + "…"
    shown = f"HTTP {effective}" if effective else "an error"
    text = f"{route.provider} answered {shown} for {route.model}: {said or 'no message'}"
    text = f"{text}{'' if text.endswith(('.', '!', '…')) else '.'} {advice}".strip()
    retry = headers.get("x-should-retry")
    return kind(
        redact(text, route),
        status=effective or status,
        provider=route.provider,
        code=next(iter(codes), None),
        request_id=_request_id(headers) or (body.get("request_id") if isinstance(body, dict) else None),
        retry_after=retry_after_seconds(headers) or _retry_delay(body),
        should_retry={"true": True, "false": False}.get(retry or ""),
        body=_redact_all(body, route),
    )


def _error_in(body: Any) -> dict[str, Any]:
    """The part of an error body that says what is wrong, whatever shape came."""
    if isinstance(body, list) and body:  # Gemini wraps an error of a stream in a list
        body = body[0]
    error = body.get("error", body) if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


def _details(body: Any) -> tuple[str, list[str]]:
    """The message of an error body and its codes, the most telling first. Never raises: any shape may come."""
    if isinstance(body, str):
        return _page_title(body), []
    if isinstance(body, dict) and isinstance(body.get("error"), str):
        return body["error"], [body["code"]] if isinstance(body.get("code"), str) else []
    error = _error_in(body)
    inner = error.get("innererror")
    details = error.get("details")
    candidates = [
        inner.get("code") if isinstance(inner, dict) else None,
        *(entry.get("reason") for entry in (details if isinstance(details, list) else ()) if isinstance(entry, dict)),
        error.get("code"),
        error.get("status"),
        error.get("type"),
    ]
    message = error.get("message") or error.get("detail") or error.get("msg") or ""
    if isinstance(message, list | dict):
        message = json.dumps(message)
    metadata = error.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("raw"), str):  # OpenRouter: the upstream's words
        message = f"{message}: {metadata['raw']}"
    return str(message), [code for code in candidates if isinstance(code, str) and code]


def _classify(status: int | None, codes: list[str], message: str) -> type[APIError]:
    by_code = next((BY_CODE[code] for code in codes if code in BY_CODE), None)
    by_status = BY_STATUS.get(status) if status else None
    if by_status is None and status:
        by_status = ServerError if status >= 500 else InvalidRequestError
    # The status is the plainer word, unless the code says more than "invalid".
    kind = by_code if by_code and (by_status in (None, InvalidRequestError)) else by_status or by_code or ServerError
    if kind is InvalidRequestError and _CONTEXT_WORDS.search(message):
        return ContextLengthError
    return kind


_STATUS_OF_CODE = {"overloaded_error": 529, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504, "timeout_error": 504}
_STATUS_OF_KIND: dict[type[APIError], int] = {
    AuthenticationError: 401,
    PermissionDeniedError: 403,
    NotFoundError: 404,
    RateLimitError: 429,
    ServerError: 500,
}


def _status_in(body: Any, codes: list[str]) -> int | None:
    """The HTTP status that an error body itself names, or that its code stands for."""
    error = _error_in(body)
    for value in (error.get("code"), error.get("status"), error.get("status_code")):
        if isinstance(value, int) and 400 <= value < 600:
            return value
    code = next((code for code in codes if code in BY_CODE), None)
    return None if code is None else _STATUS_OF_CODE.get(code) or _STATUS_OF_KIND.get(BY_CODE[code], 400)


def _retry_delay(body: Any) -> float | None:
    """Google names the wait in the body: google.rpc.RetryInfo, `"retryDelay": "12s"`."""
    details = _error_in(body).get("details")
    for entry in details if isinstance(details, list) else ():
        delay = entry.get("retryDelay") if isinstance(entry, dict) else None
        if isinstance(delay, str) and (seconds := seconds_in(delay.removesuffix("s"))) is not None:
            return seconds
    return None


def _page_title(text: str) -> str:
    """What an error page in HTML is about; a plain text as it is."""
    title = re.search(r"<title[^>]*>(.*?)</title>", text[:4096], re.IGNORECASE | re.DOTALL)
    return title.group(1) if title else text


def _request_id(headers: Mapping[str, str]) -> str | None:
    return headers.get("x-request-id") or headers.get("request-id") or headers.get("x-ms-request-id")


def _redact_all(value: Any, route: Route) -> Any:
    if isinstance(value, str):
        return redact(value, route)
    if isinstance(value, dict):
        return {key: _redact_all(entry, route) for key, entry in value.items()}
    if isinstance(value, list):
        return [_redact_all(entry, route) for entry in value]
    return value
