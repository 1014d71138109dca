"""`AistraleCallbackHandler`: chains, agents, graphs, tools, retrievers and foreign models as spans of one trace.

Parents come from the run ids that LangChain hands out, and from the ambient context only where a run has no parent: no
context is ever attached, since LangChain ends runs in other tasks than it began them in. Our own models make their
inference spans themselves; the handler only says below which span. Calls that LangChain knows nothing of ask where they
are (`runs.enclosure`). A run has one span for each provider, whichever handlers hear of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult
from langchain_core.tracers.context import register_configure_hook
from opentelemetry import trace
from opentelemetry.trace import TracerProvider

from aistrale.config import Config
from aistrale.providers import telemetry_name
from aistrale.spans import Kind
from aistrale.tracing.attributes import is_cancelled
from aistrale.tracing.configured import recorders
from aistrale.tracing.recorder import Recorder
from aistrale.tracing.tracer import Tracer
from aistrale_langchain.messages import PROVIDER
from aistrale_langchain.runs import Run, begin_retrieval, enclose, given_tags, model_run, runs, whose
from aistrale_langchain.workarounds import InlineHandler

_SURFACE = {"aistrale.surface": "langchain"}


class AistraleCallbackHandler(InlineHandler):
    """Traces whatever LangChain and LangGraph run; pass it as `config={"callbacks": [AistraleCallbackHandler()]}`.

    tracer_provider: where spans go besides the books, instead of the application's global provider. Handlers that send
    to the same place make one span of a run, those of different providers one each; the books have it once.
    """

    raise_error = False

    def __deepcopy__(self, memo: dict[int, Any]) -> AistraleCallbackHandler:
        """Copies of a model have the same handler."""
        return self

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        self._tracer = Tracer(tracer_provider, recorders(Config()), asks=False)
        self._given_provider = tracer_provider
        enclose()

    @property
    def _provider(self) -> TracerProvider:
        return trace.get_tracer_provider() if self._given_provider is None else self._given_provider

    # Chains, tools, retrievers

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        name, known = _name(serialized, more), metadata or {}
        if _is_agent(name, known):
            agent = known.get("lc_agent_name")
            attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent}
            span = f"invoke_agent {agent}" if agent else "invoke_agent"
        elif parent_run_id is None:
            attributes = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": name}
            span = f"invoke_workflow {name}"
        else:  # a step of one
            attributes, span = {"aistrale.chain.name": name}, f"chain {name}"
        if more.get("run_type") == "prompt" and (prompt := known.get("aistrale_prompt")):
            attributes |= {"gen_ai.prompt.name": prompt["name"], "gen_ai.prompt.version": str(prompt["version"])}
        self._begin(span, "internal", attributes, run_id, parent_run_id, metadata, more)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **more: Any) -> None:
        self._end(run_id)

    on_tool_end = on_retriever_end = on_chain_end  # type: ignore[assignment]  # LangChain names no result

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:
        self._end(run_id, error)

    on_tool_error = on_retriever_error = on_llm_error = on_chain_error

    def on_tool_start(
        self,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        name = _name(serialized, more)
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": more.get("tool_call_id"),
        }
        self._begin(f"execute_tool {name}", "internal", attributes, run_id, parent_run_id, metadata, more)

    def on_retriever_start(
        self,
        serialized: dict[str, Any] | None,
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        name = _name(serialized, more)
        attributes = {"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": name}
        self._begin(f"retrieval {name}", "client", attributes, run_id, parent_run_id, metadata, more)
        begin_retrieval(run_id)

    # Models

    def on_chat_model_start(
        self,
        serialized: dict[str, Any] | None,
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        self._begin_model("chat", run_id, parent_run_id, metadata or {}, more)

    def on_llm_start(
        self,
        serialized: dict[str, Any] | None,
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        self._begin_model("text_completion", run_id, parent_run_id, metadata or {}, more)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **more: Any) -> None:
        self._end(run_id, attributes=_outcome(response))

    def _begin_model(
        self, operation: str, id: UUID, parent: UUID | None, metadata: Mapping[str, Any], more: Mapping[str, Any]
    ) -> None:
        model_run.set(id)
        if metadata.get("ls_provider") == PROVIDER:  # it makes its own span
            if runs.get(parent) is not None and runs.get(id) is None:
                self._open(id, parent, metadata)
            return
        params = more.get("invocation_params") or {}
        model = str(metadata.get("ls_model_name") or params.get("model") or params.get("model_name") or "")
        attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": _provider_name(metadata.get("ls_provider")),
            "gen_ai.request.model": model or None,
            "gen_ai.request.temperature": None if (heat := metadata.get("ls_temperature")) is None else float(heat),
            "gen_ai.request.max_tokens": metadata.get("ls_max_tokens"),
        }
        self._begin(f"{operation} {model}".strip(), "client", attributes, id, parent, metadata, more)

    # Spans

    def _begin(
        self,
        name: str,
        kind: Kind,
        attributes: Mapping[str, Any],
        id: UUID,
        parent: UUID | None,
        metadata: Mapping[str, Any] | None,
        more: Mapping[str, Any],
    ) -> None:
        provider, run = self._provider, runs.get(id) or self._open(id, parent, metadata)
        if provider in run.spans:
            return  # another handler has begun it there
        tags = given_tags(more.get("tags")) or None
        known = {**_SURFACE, **attributes, "session.id": run.session, "user.id": run.user, "aistrale.tags": tags}
        given = {name: value for name, value in known.items() if value is not None}
        run.spans[provider] = self._tracer.start(name, kind, given, runs.context_of(parent, provider))

    @staticmethod
    def _open(id: UUID, parent: UUID | None, metadata: Mapping[str, Any] | None) -> Run:
        run = Run(parent, trace.get_current_span().get_span_context(), *whose(metadata))
        for forgotten in runs.begin(id, run):
            _end_cancelled(forgotten)
        return run

    def _end(self, id: UUID, error: BaseException | None = None, attributes: Mapping[str, Any] | None = None) -> None:
        ended = runs.end(id)
        if not ended:
            return
        *below, run = ended
        for left in below:  # nobody ended it
            _end_cancelled(left)
        if error is not None and is_cancelled(error):
            attributes = {**(attributes or {}), "aistrale.cancelled": True}
        _end_spans(run, attributes, None if error is None or _is_no_failure(error) else type(error).__name__)


def _end_cancelled(run: Run) -> None:
    _end_spans(run, {"aistrale.cancelled": True})


def _end_spans(run: Run, attributes: Mapping[str, Any] | None, error: str | None = None) -> None:
    """End the spans of a run; each recorder gets one of them, where calls to models lie below: the application's."""
    own, told = trace.get_tracer_provider(), set[Recorder]()
    for _, span in sorted(run.spans.items(), key=lambda entry: entry[0] is not own):
        span.recorders = tuple(recorder for recorder in span.recorders if recorder not in told)
        told.update(span.recorders)
        if attributes:
            span.set(attributes)
        span.end(error)


def _name(serialized: Mapping[str, Any] | None, more: Mapping[str, Any]) -> str:
    kept = serialized or {}
    return str(more.get("name") or kept.get("name") or (kept.get("id") or ["unknown"])[-1])


def _provider_name(name: str | None) -> str | None:
    """By the semantic conventions, as of our own models. LangChain has names of its own for some."""
    return name and telemetry_name(_NAMED_BY_LANGCHAIN.get(name, name))


_NAMED_BY_LANGCHAIN = {
    "amazon_bedrock": "aws.bedrock",
    "google_genai": "google",
    "google_vertexai": "gcp.vertex_ai",
}


def _is_agent(name: str, metadata: Mapping[str, Any]) -> bool:
    """Whether a run is one of an agent made by `create_agent`, whose metadata its steps have as well."""
    if metadata.get("ls_integration") != "langchain_create_agent":
        return False
    return "langgraph_node" not in metadata or name == metadata.get("lc_agent_name")


def _is_no_failure(error: BaseException) -> bool:
    """Cancelled, or LangGraph's way of leaving a node: an interrupt, a command to the graph above."""
    return is_cancelled(error) or any(kind.__name__ == "GraphBubbleUp" for kind in type(error).__mro__)


def _outcome(response: LLMResult) -> dict[str, Any]:
    """What a foreign model's answer says of itself."""
    first = response.generations[0][0] if response.generations and response.generations[0] else None
    message = getattr(first, "message", None)
    about = {**(response.llm_output or {}), **(getattr(message, "response_metadata", None) or {})}
    found: dict[str, Any] = {"gen_ai.response.model": about.get("model_name")}
    if reason := about.get("finish_reason") or about.get("stop_reason") or about.get("stopReason"):
        found["gen_ai.response.finish_reasons"] = [str(reason)]
    if usage := getattr(message, "usage_metadata", None):
        found |= {
            "gen_ai.usage.input_tokens": usage["input_tokens"],
            "gen_ai.usage.output_tokens": usage["output_tokens"],
            "gen_ai.usage.cache_read.input_tokens": (usage.get("input_token_details") or {}).get("cache_read"),
            "gen_ai.usage.cache_write.input_tokens": (usage.get("input_token_details") or {}).get("cache_creation"),
            "gen_ai.usage.reasoning.output_tokens": (usage.get("output_token_details") or {}).get("reasoning"),
        }
    elif usage := about.get("token_usage"):
        found |= {
            "gen_ai.usage.input_tokens": usage.get("prompt_tokens"),
            "gen_ai.usage.output_tokens": usage.get("completion_tokens"),
        }
    return {name: value for name, value in found.items() if value is not None}


# Everywhere


class _Installed:
    """What LangChain asks for a handler at each run, as it asks a context variable."""

    def __init__(self) -> None:
        self.handler: AistraleCallbackHandler | None = None
        self.is_registered = False

    def get(self) -> AistraleCallbackHandler | None:
        return self.handler


_installed = _Installed()


def instrument(handler: AistraleCallbackHandler | None = None) -> AistraleCallbackHandler:
    """Have everything traced that LangChain runs in this process, from now on; the result is the handler that does."""
    if not _installed.is_registered:
        _installed.is_registered = True
        register_configure_hook(_installed, inheritable=True)  # type: ignore[arg-type]
    _installed.handler = handler or AistraleCallbackHandler()
    return _installed.handler


def uninstrument() -> None:
    """Trace nothing any more that is not asked for by `callbacks`."""
    _installed.handler = None
