"""The client metrics of the semantic conventions."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import NamedTuple

from opentelemetry import metrics

from aistrale.contract import Call
from aistrale.models import Completion, Embedding, Usage
from aistrale.tracing.attributes import SCHEMA_URL, Attributes, place, where
from aistrale.version import __version__

_SECONDS = [0.01 * 2**power for power in range(14)]
_TOKENS = [4**power for power in range(14)]


class Metrics:
    """The client metrics of the conventions; instruments of an application without a meter provider do nothing."""

    def __init__(self, provider: metrics.MeterProvider | None) -> None:
        meter = metrics.get_meter("aistrale", __version__, provider, SCHEMA_URL)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "How long a call took",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._first = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            "s",
            "How long a stream took to its first chunk",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Tokens used", explicit_bucket_boundaries_advisory=_TOKENS
        )

    @property
    def _are_heard(self) -> bool:
        """Whether there is a provider, this client's or the application's, which may set its own at any time.

        OpenTelemetry's API has no word for it: until there is one it hands out proxies, which hold None in its place.
        Whatever looks otherwise is taken for a provider's.
        """
        return getattr(self._duration, "_real_instrument", self) is not None

    def record(self, call: Call, seconds: float, usage: Usage | None, result: Completion | Embedding) -> None:
        if not self._are_heard:
            return
        labels = _labels(call.operation, call.provider, call.model, call.base_url, result.model)
        self._duration.record(seconds, labels.answer)
        completion = result if isinstance(result, Completion) else None
        if completion is not None and completion.time_to_first_token is not None:
            self._first.record(completion.time_to_first_token, labels.answer)
        if usage is not None and not (completion is not None and completion.cached):
            self._tokens.record(usage.input_tokens, labels.input)
            self._tokens.record(usage.output_tokens, labels.output)

    def record_failure(self, call: Call, kind: str | None) -> None:
        if not self._are_heard:
            return
        labels: Attributes = {"gen_ai.operation.name": call.operation, **where(call)}
        if kind is not None:
            labels["error.type"] = kind
        self._duration.record(time.perf_counter() - call.started, labels)


class _Labels(NamedTuple):
    """Of an answer, and of its tokens."""

    answer: Attributes
    input: Attributes
    output: Attributes


@lru_cache(maxsize=256)
def _labels(operation: str, provider: str, model: str, base_url: str, answered: str) -> _Labels:
    labels = {"gen_ai.operation.name": operation, **place(provider, model, base_url), "gen_ai.response.model": answered}
    return _Labels(labels, *({**labels, "gen_ai.token.type": kind} for kind in ("input", "output")))
