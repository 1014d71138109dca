"""The normal form in which two readings of one provider answer are compared."""

from dataclasses import dataclass
from typing import Any, Literal

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "error"]


@dataclass(frozen=True)
class ToolCall:
    """A call the caller must answer. `arguments` is the JSON value, or the text when it is not JSON."""

    name: str
    arguments: Any


@dataclass(frozen=True)
class Choice:
    """One answer. Text and reasoning are their parts joined; what the wire leaves out is empty."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str = ""
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class Usage:
    """Token counts. Input includes the cached tokens and output the reasoning; uncounted is zero."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True)
class Failure:
    """An answer that the SDK raises: the HTTP status and the name of the exception's class."""

    status: int
    exception: str


@dataclass(frozen=True)
class Story:
    """What one exchange says. Usage is None where the wire has none, error where nothing failed."""

    choices: tuple[Choice, ...] = ()
    usage: Usage | None = None
    error: Failure | None = None
