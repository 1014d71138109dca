"""Every error Aistrale raises: one root, and a subclass says who must act.

    AistraleError
    ├── ConfigurationError        you: a setting, a key or an argument
    ├── APIError                  a provider answered, and it was not the answer
    │   ├── AuthenticationError   you: the key
    │   ├── PermissionDeniedError you: what the key may do
    │   ├── NotFoundError         you: the model's name or the base URL
    │   ├── RateLimitError        time, or your plan
    │   ├── InvalidRequestError   you: the request
    │   │   └── ContextLengthError    shorten it, or take a larger model
    │   ├── ContentFilterError    you: the provider's policy refused it
    │   └── ServerError           the provider, or a proxy in between
    │       └── CircuitOpenError  time: recent calls failed, this one was not sent
    ├── NetworkError              the network between
    │   ├── RequestTimeoutError
    │   └── StreamInterruptedError    holds what had arrived
    ├── OutputError               the model: its answer does not fit `response_format`
    ├── BudgetExceededError       you: the budget
    └── StoreError                you: the database

No message ever holds a key: what a provider or a proxy echoes is redacted before it gets here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aistrale.models import Attempt, Completion


class AistraleError(Exception):
    """The root of every error of this library.

    `message` says what happened and what to do. `attempts` lists what was tried before a call gave
    up, oldest first; it is empty where no attempt was made.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.attempts: tuple[Attempt, ...] = ()

    def __str__(self) -> str:
        return self.message


class ConfigurationError(AistraleError):
    """A setting, a key or an argument is missing or wrong; nothing was sent."""


class APIError(AistraleError):
    """A provider answered with an error, or a request was found wrong before it was sent.

    `status` is the HTTP status, None if nothing was sent. `retry_after` is in seconds. `body` is the
    decoded error body, or its first 64 KiB as text. `should_retry` is the provider's own word on
    whether to try again (`x-should-retry`), None where it gave none.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        provider: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        body: Any = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.provider = provider
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after
        self.should_retry = should_retry
        self.body = body

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own __reduce__ would call __init__ with the message alone, which is right here,
        # and restore the fields from __dict__.
        return (type(self), (self.message,), self.__dict__)


class AuthenticationError(APIError):
    """The provider does not accept the key (HTTP 401)."""


class PermissionDeniedError(APIError):
    """The key is good but may not do this (HTTP 403)."""


class NotFoundError(APIError):
    """The provider knows no such model, deployment or address (HTTP 404)."""


class RateLimitError(APIError):
    """Too many requests or tokens, or the plan's quota is used up (HTTP 429)."""


class InvalidRequestError(APIError):
    """The request is wrong: found here before it was sent, or by the provider (HTTP 400, 413, 422)."""


class ContextLengthError(InvalidRequestError):
    """The prompt and the answer asked for do not fit the model's context window."""


class ContentFilterError(APIError):
    """The provider's policy refused the prompt."""


class ServerError(APIError):
    """The provider failed (HTTP 5xx), or something between answered with what is no answer."""


class CircuitOpenError(ServerError):
    """Recent calls to this provider all failed, so this one was not sent. `retry_after` says when to try."""


class NetworkError(AistraleError):
    """The provider could not be reached, or the connection broke before the answer was whole."""

    def __init__(self, message: str, *, provider: str | None = None, retryable: bool = True) -> None:
        super().__init__(message)
        self.provider = provider
        self.retryable = retryable


class RequestTimeoutError(NetworkError):
    """A time limit (connect, between bytes, or total) ran out."""


class StreamInterruptedError(NetworkError):
    """A stream ended before the provider said it was over.

    `partial` is the completion as far as it had arrived, None if nothing had.
    """

    def __init__(self, message: str, *, provider: str | None = None, partial: Completion | None = None) -> None:
        super().__init__(message, provider=provider)
        self.partial = partial


class OutputError(AistraleError):
    """The model's answer does not fit `response_format`; `text` is the answer as it came."""

    def __init__(self, message: str, *, text: str = "") -> None:
        super().__init__(message)
        self.text = text


class BudgetExceededError(AistraleError):
    """A hard budget is used up; the call was not sent."""


class StoreError(AistraleError):
    """The database could not do what was asked of it; nothing was lost.

    `unavailable`: it could not be used at all, as apart from refusing what was asked. `unfit`: what was asked holds a
    value that no database can keep.
    """

    def __init__(self, message: str, *, unavailable: bool = False, unfit: bool = False) -> None:
        super().__init__(message)
        self.unavailable, self.unfit = unavailable, unfit
