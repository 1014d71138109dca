"""Aistrale: one LLM contract wherever you call from.

>>> import aistrale
>>> aistrale.run("Hello, world!", provider="echo").text
'Hello, world!'

Importing this package does nothing but note where things are (PEP 562): each name is loaded when first used.
"""

from __future__ import annotations

from importlib import import_module

from aistrale.version import __version__

TYPE_CHECKING = False  # as type checkers know it; importing it would cost more than all the rest of this file
if TYPE_CHECKING:
    from typing import Any

    from aistrale import budgets as budgets
    from aistrale import events as events
    from aistrale import prompts as prompts
    from aistrale import telemetry as telemetry
    from aistrale import tokens as tokens
    from aistrale.batch import BatchResult as BatchResult
    from aistrale.client import AsyncClient as AsyncClient
    from aistrale.client import Client as Client
    from aistrale.contract import Call as Call
    from aistrale.contract import CallbackHandler as CallbackHandler
    from aistrale.contract import LanguageModel as LanguageModel
    from aistrale.conversation import AsyncSession as AsyncSession
    from aistrale.conversation import Session as Session
    from aistrale.exceptions import AistraleError as AistraleError
    from aistrale.exceptions import APIError as APIError
    from aistrale.exceptions import AuthenticationError as AuthenticationError
    from aistrale.exceptions import BudgetExceededError as BudgetExceededError
    from aistrale.exceptions import CircuitOpenError as CircuitOpenError
    from aistrale.exceptions import ConfigurationError as ConfigurationError
    from aistrale.exceptions import ContentFilterError as ContentFilterError
    from aistrale.exceptions import ContextLengthError as ContextLengthError
    from aistrale.exceptions import InvalidRequestError as InvalidRequestError
    from aistrale.exceptions import NetworkError as NetworkError
    from aistrale.exceptions import NotFoundError as NotFoundError
    from aistrale.exceptions import OutputError as OutputError
    from aistrale.exceptions import PermissionDeniedError as PermissionDeniedError
    from aistrale.exceptions import RateLimitError as RateLimitError
    from aistrale.exceptions import RequestTimeoutError as RequestTimeoutError
    from aistrale.exceptions import ServerError as ServerError
    from aistrale.exceptions import StoreError as StoreError
    from aistrale.exceptions import StreamInterruptedError as StreamInterruptedError
    from aistrale.facade import configure as configure
    from aistrale.facade import embed as embed
    from aistrale.facade import embed_async as embed_async
    from aistrale.facade import run as run
    from aistrale.facade import run_async as run_async
    from aistrale.facade import run_batch as run_batch
    from aistrale.facade import run_batch_async as run_batch_async
    from aistrale.facade import session as session
    from aistrale.facade import stream as stream
    from aistrale.facade import stream_async as stream_async
    from aistrale.gateway.breaker import CircuitBreaker as CircuitBreaker
    from aistrale.gateway.cache import MemoryCache as MemoryCache
    from aistrale.gateway.cache import StoreCache as StoreCache
    from aistrale.gateway.retry import RetryPolicy as RetryPolicy
    from aistrale.gateway.stream import AsyncCompletionStream as AsyncCompletionStream
    from aistrale.gateway.stream import CompletionStream as CompletionStream
    from aistrale.http import Timeout as Timeout
    from aistrale.keys import Secret as Secret
    from aistrale.keys import Token as Token
    from aistrale.models import Attempt as Attempt
    from aistrale.models import CallOptions as CallOptions
    from aistrale.models import Choice as Choice
    from aistrale.models import Chunk as Chunk
    from aistrale.models import Completion as Completion
    from aistrale.models import CompletionRequest as CompletionRequest
    from aistrale.models import Embedding as Embedding
    from aistrale.models import EmbeddingRequest as EmbeddingRequest
    from aistrale.models import Message as Message
    from aistrale.models import Prompt as Prompt
    from aistrale.models import ReasoningBlock as ReasoningBlock
    from aistrale.models import ToolCall as ToolCall
    from aistrale.models import ToolCallChunk as ToolCallChunk
    from aistrale.models import Usage as Usage
    from aistrale.options import ClientOptions as ClientOptions
    from aistrale.options import EmbedOptions as EmbedOptions
    from aistrale.options import RunOptions as RunOptions
    from aistrale.prices import Price as Price
    from aistrale.records import Budget as Budget
    from aistrale.records import Event as Event
    from aistrale.records import Percentiles as Percentiles
    from aistrale.records import Spend as Spend
    from aistrale.records import Summary as Summary
    from aistrale.spans import Span as Span
    from aistrale.spans import SpanEvent as SpanEvent
    from aistrale.templates import StoredPrompt as StoredPrompt
    from aistrale.tracing.handler import TelemetryHandler as TelemetryHandler

_MODULES = {
    "client": "AsyncClient Client",
    "contract": "Call CallbackHandler LanguageModel",
    "exceptions": (
        "AistraleError APIError AuthenticationError BudgetExceededError CircuitOpenError ConfigurationError "
        "ContentFilterError ContextLengthError InvalidRequestError NetworkError NotFoundError OutputError "
        "PermissionDeniedError RateLimitError RequestTimeoutError ServerError StoreError StreamInterruptedError"
    ),
    "facade": ("configure embed embed_async run run_async run_batch run_batch_async session stream stream_async"),
    "gateway.breaker": "CircuitBreaker",
    "gateway.retry": "RetryPolicy",
    "gateway.stream": "AsyncCompletionStream CompletionStream",
    "http": "Timeout",
    "models": (
        "Attempt CallOptions Choice Chunk Completion CompletionRequest Embedding EmbeddingRequest Message Prompt "
        "ReasoningBlock ToolCall ToolCallChunk Usage"
    ),
    "batch": "BatchResult",
    "options": "ClientOptions EmbedOptions RunOptions",
    "conversation": "AsyncSession Session",
    "gateway.cache": "MemoryCache StoreCache",
    "keys": "Secret Token",
    "prices": "Price",
    "records": "Budget Event Percentiles Spend Summary",
    "spans": "Span SpanEvent",
    "templates": "StoredPrompt",
    "tracing.handler": "TelemetryHandler",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}

_SUBMODULES = frozenset(("budgets", "events", "prompts", "telemetry", "tokens"))
"""What is managed through a module of its own: `aistrale.prompts.create(...)`."""

__all__ = ["__version__", *_HOMES, *_SUBMODULES]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
