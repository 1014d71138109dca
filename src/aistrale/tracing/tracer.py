"""Starts spans and ends them: into an application's own OpenTelemetry provider, and to our recorders."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

from opentelemetry import trace
from opentelemetry.trace import SpanContext, StatusCode, TraceFlags

from aistrale.ids import ids_of_trace, random_bits
from aistrale.spans import Kind, Span, SpanEvent
from aistrale.tracing.attributes import SCHEMA_URL, Attributes
from aistrale.tracing.recorder import Recorder
from aistrale.version import __version__

_KINDS = {"client": trace.SpanKind.CLIENT, "internal": trace.SpanKind.INTERNAL}
_RECORDED, _UNRECORDED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)


class Enclosure(NamedTuple):
    """What code is part of. parent: the span that its own spans lie below, None for the current one."""

    parent: SpanContext | None = None
    session_id: str | None = None
    user_id: str | None = None


enclosures: list[Callable[[trace.TracerProvider | None], Enclosure | None]] = []
"""Frameworks that know what code is part of, and attach no OpenTelemetry context for it, put a function here.

It is told which provider the code's spans are of, and says None where the code is part of nothing of theirs.
"""


def current_span() -> SpanContext:
    """The span that is current here."""
    return trace.get_current_span().get_span_context()


def parent_since(above: SpanContext, provider: trace.TracerProvider | None) -> SpanContext | None:
    """The parent of a call that was asked for below a span and begins only now; None where a framework names it.

    provider: the application's, instead of the global one.
    """
    found = (ask(provider) for ask in enclosures)
    is_named = any(enclosure is not None and enclosure.parent is not None for enclosure in found)
    return None if is_named or not above.is_valid else above


class Tracer:
    """Starts spans.

    tracer_provider: the application's, instead of the global one; where neither records, spans have ids of
    their own. recorders: who gets the finished spans. No global provider is ever set. asks: whether spans of no given
    parent lie where `enclosures` say; a framework that is one of them knows for itself.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        recorders: Iterable[Recorder] = (),
        *,
        asks: bool = True,
    ) -> None:
        self._tracer = trace.get_tracer("aistrale", __version__, tracer_provider, SCHEMA_URL)
        self._provider, self._asks = tracer_provider, asks
        self.recorders = tuple(recorders)

    @property
    def enclosure(self) -> Enclosure:
        """What the running code is part of."""
        return next((found for ask in enclosures if (found := ask(self._provider)) is not None), Enclosure())

    def start(self, name: str, kind: Kind, attributes: Attributes, parent: SpanContext | None = None) -> OpenSpan:
        """Start a span, below `parent`, by default below what the running code is part of, else the current span.

        The attributes become the span's own: whoever gave them changes them no more.
        """
        if parent is None and enclosures and self._asks:
            parent = self.enclosure.parent
        context = None if parent is None else trace.set_span_in_context(trace.NonRecordingSpan(parent))
        mirror = self._tracer.start_span(name, context, _KINDS[kind], attributes)
        if mirror is trace.INVALID_SPAN and parent is None and trace.get_current_span() is mirror:
            # The usual case: no provider, and nothing that it lies below.
            return OpenSpan(name, kind, attributes, self.recorders)
        above = current_span() if parent is None else parent
        own, recorders = mirror.get_span_context(), self.recorders
        if own.is_valid and own.span_id != above.span_id:
            # An application's provider sends its spans itself, or has decided to send none of this trace.
            recorders = tuple([recorder for recorder in recorders if not recorder.yields])
        elif above.is_valid:  # whether a trace is recorded is decided where it begins
            own = SpanContext(above.trace_id, random_bits(64), False, above.trace_flags, above.trace_state)
        else:
            return OpenSpan(name, kind, attributes, recorders, mirror=mirror)
        return OpenSpan(name, kind, attributes, recorders, own, above, mirror)


class OpenSpan:
    """A span that has begun.

    recorders: who gets it once it has ended. context: the ids it has; by default new ones, of a trace that begins with
    it. parent: the span that it lies below. mirror: the same span of an application's provider, if that has made one.
    """

    __slots__ = (
        *("trace_id", "span_id", "recorders", "_context", "_flags"),
        *("_name", "_kind", "_attributes", "_parent_id", "_mirror", "_events", "_start", "_began"),
    )

    def __init__(
        self,
        name: str,
        kind: Kind,
        attributes: Attributes,
        recorders: Sequence[Recorder],
        context: SpanContext | None = None,
        parent: SpanContext = trace.INVALID_SPAN_CONTEXT,
        mirror: trace.Span = trace.INVALID_SPAN,
    ) -> None:
        self._start, self._began = time.time_ns(), time.perf_counter_ns()
        self._context = context
        if context is None:
            self.trace_id, self.span_id = ids_of_trace(self._start)
            self._flags, self._parent_id = _RECORDED if recorders else _UNRECORDED, None
        else:
            self.trace_id, self.span_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"
            self._flags = context.trace_flags
            is_below = parent.is_valid and parent.trace_id == context.trace_id
            self._parent_id = f"{parent.span_id:016x}" if is_below else None
        self._mirror = mirror if mirror.is_recording() else None
        self._name, self._kind, self._attributes = name, kind, attributes
        self.recorders = recorders
        self._events: tuple[SpanEvent, ...] = ()

    @property
    def context(self) -> SpanContext:
        """What spans below it are started with."""
        if self._context is None:  # most calls have nothing below them
            self._context = SpanContext(int(self.trace_id, 16), int(self.span_id, 16), False, self._flags)
        return self._context

    def send_on(self, headers: dict[str, str]) -> None:
        """Add what is sent on of it: W3C's `traceparent`, and `tracestate` if there is something in it."""
        headers["traceparent"] = f"00-{self.trace_id}-{self.span_id}-{self._flags & 0xFF:02x}"
        if self._context is not None and self._context.trace_state:
            headers["tracestate"] = self._context.trace_state.to_header()

    @property
    def is_recording(self) -> bool:
        """Whether anybody will see it."""
        return bool(self.recorders) or self._mirror is not None

    @property
    def as_current(self) -> Callable[[], AbstractContextManager[Any]] | None:
        """Makes an application's own span the current one for a block; None where an application has no such."""
        if self._mirror is None:
            return None
        return partial(trace.use_span, self._mirror, record_exception=False, set_status_on_exception=False)

    def rename(self, name: str) -> None:
        """Give it another name: what it is of has changed."""
        self._name = name
        if self._mirror is not None:
            self._mirror.update_name(name)

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Add attributes, over those of the same name."""
        self._attributes.update(attributes)
        if self._mirror is not None:
            self._mirror.set_attributes(dict(attributes))

    def add_to(self, name: str, entry: str) -> None:
        """Add an entry to an attribute that is a list of such, once."""
        entries: Any = self._attributes.get(name, ())
        if entry not in entries:
            self.set({name: [*entries, entry]})

    def event(self, name: str, attributes: Attributes) -> None:
        """Note something that happens now."""
        if self.recorders:
            self._events += (SpanEvent(name, self._now(), attributes),)
        if self._mirror is not None:
            self._mirror.add_event(name, attributes)

    def end(self, error: str | None = None, description: str | None = None, cost: Decimal | None = None) -> None:
        """End it. error: its low-cardinality type, if it failed. cost: US dollars, as the provider reported it."""
        if error is not None:
            self.set({"error.type": error})
        if self._mirror is not None:
            if error is not None:
                self._mirror.set_status(StatusCode.ERROR, description)
            self._mirror.end()
        if self.recorders:
            span = self._finished("ok" if error is None else "error", cost)
            for recorder in self.recorders:
                recorder.record(span)

    def _finished(self, status: Any, cost: Decimal | None) -> Span:
        return Span(
            self.trace_id,
            self.span_id,
            self._name,
            self._start,
            self._now(),
            self._parent_id,
            self._kind,
            status,
            self._attributes,
            self._events,
            cost,
            None if cost is None else "provider",
        )

    def _now(self) -> int:
        """Nanoseconds since 1970, by a clock that is never set back."""
        return self._start + time.perf_counter_ns() - self._began
