"""Aistrale's errors as LangChain's: each is both, so that code which catches either goes on working.

LangChain's retry middleware asks `is_retryable`, its fallbacks and summarization catch the classes, and its
tracers read `.response`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from langchain_core import exceptions as langchain

import aistrale
from aistrale import exceptions as ours


@dataclass(frozen=True, slots=True)
class Response:
    """What a provider answered, as far as an error keeps it."""

    status_code: int | None
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None

    @property
    def text(self) -> str:
        return self.body if isinstance(self.body, str) else ""

    def json(self) -> Any:
        """The decoded body. Raises ValueError if it was no JSON."""
        if isinstance(self.body, str):
            raise ValueError("the body is no JSON")
        return self.body


class _Answered(ours.APIError):
    @property
    def response(self) -> Response:
        """The provider's answer."""
        headers = {"x-request-id": self.request_id} if self.request_id else {}
        return Response(self.status, headers, self.body)


class _Unanswered(ours.AistraleError):
    response: None = None
    """There was no answer, or it was not whole."""


class AuthenticationError(ours.AuthenticationError, _Answered, langchain.ModelAuthenticationError):
    """The provider does not accept the key (HTTP 401)."""


class PermissionDeniedError(ours.PermissionDeniedError, _Answered, langchain.ModelPermissionDeniedError):
    """The key is good but may not do this (HTTP 403)."""


class NotFoundError(ours.NotFoundError, _Answered, langchain.ModelNotFoundError):
    """The provider knows no such model, deployment or address (HTTP 404)."""


class RateLimitError(ours.RateLimitError, _Answered, langchain.ModelRateLimitError):
    """Too many requests or tokens, or the plan's quota is used up (HTTP 429)."""


class InvalidRequestError(ours.InvalidRequestError, _Answered, langchain.ModelInvalidRequestError):
    """The request is wrong (HTTP 400, 413, 422)."""


class ContextLengthError(
    ours.ContextLengthError, _Answered, langchain.ContextOverflowError, langchain.ModelInvalidRequestError
):
    """The prompt and the answer asked for do not fit the model's context window."""


class ContentFilterError(ours.ContentFilterError, _Answered, langchain.ModelInvalidRequestError):
    """The provider's policy refused the prompt."""


class ServerError(ours.ServerError, _Answered, langchain.ModelAPIError):
    """The provider failed (HTTP 5xx), or something between answered with what is no answer."""


class CircuitOpenError(ours.CircuitOpenError, _Answered, langchain.ModelAPIError):
    """Recent calls to this provider all failed, so this one was not sent."""


class NetworkError(ours.NetworkError, _Unanswered, langchain.ModelConnectionError):
    """The provider could not be reached, or the connection broke before the answer was whole."""


class RequestTimeoutError(ours.RequestTimeoutError, _Unanswered, langchain.ModelTimeoutError):
    """A time limit (connect, between bytes, or total) ran out."""


class StreamInterruptedError(ours.StreamInterruptedError, _Unanswered, langchain.ModelConnectionError):
    """A stream ended before the provider said it was over."""


class OutputError(ours.OutputError, langchain.OutputParserException):
    """The answer does not fit the shape that was asked for; `text` is the answer as it came."""

    def __init__(self, message: str, *, text: str = "") -> None:
        super().__init__(message, text=text)
        self.args = (message,)  # LangChain's has a link to its own pages added
        self.llm_output = text


_BOTH = {
    getattr(ours, kind.__name__): kind
    for kind in (
        *(AuthenticationError, PermissionDeniedError, NotFoundError, RateLimitError, InvalidRequestError),
        *(ContextLengthError, ContentFilterError, ServerError, CircuitOpenError),
        *(NetworkError, RequestTimeoutError, StreamInterruptedError),
    )
}


def as_both(error: aistrale.AistraleError) -> aistrale.AistraleError:
    """The same error, of a class that is LangChain's too; one that LangChain has no word for as it is."""
    kind = _BOTH.get(type(error))
    if kind is None:
        return error
    both = kind.__new__(kind)
    both.args = error.args
    both.__dict__.update(error.__dict__)
    return both


class _ModelErrors:
    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, aistrale.AistraleError) and (both := as_both(error)) is not error:
            raise both from error


model_errors = _ModelErrors()
"""Errors of ours leave its block as errors of both."""
