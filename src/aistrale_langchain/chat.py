"""`ChatAistrale`: every provider as a LangChain chat model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing
from typing import Any, Literal, get_args

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun, Callbacks
from langchain_core.language_models import LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig, ensure_config
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass

from aistrale.contract import Handlers
from aistrale.gateway.known import routed
from aistrale.models import Choice, Completion, CompletionRequest
from aistrale_langchain.counting import Counting
from aistrale_langchain.errors import model_errors
from aistrale_langchain.messages import PROVIDER, answer, end, messages_of, piece
from aistrale_langchain.model import RunManager, Sampling, without_secrets
from aistrale_langchain.profiles import profile_of
from aistrale_langchain.runs import Told
from aistrale_langchain.serialization import register
from aistrale_langchain.signatures import with_known_signature
from aistrale_langchain.stored import reference_in
from aistrale_langchain.structured import StructuredOutputParser, as_response_format, with_raw

Method = Literal["json_schema", "function_calling", "json_mode"]


class ChatAistrale(Sampling, Counting, BaseChatModel):
    """A chat model of any provider.

    >>> model = ChatAistrale(model="openai/gpt-4o")
    >>> model.invoke("Hello, world!").content

    Retries, fallbacks, timeouts and telemetry are those of `aistrale.Client`. Errors are Aistrale's and LangChain's at
    once. n: how many answers to ask for. streaming: whether `invoke` streams as well, for callbacks that want tokens.
    """

    n: int | None = None
    reasoning_effort: str | None = None
    streaming: bool = False

    # The contract

    @with_known_signature
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with model_errors:
            return _result(self.client.core.gateway.complete(*self._request(messages, stop, run_manager, kwargs)))

    @with_known_signature
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with model_errors:
            return _result(
                await self.client.core.gateway.acomplete(*self._request(messages, stop, run_manager, kwargs))
            )

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with (
            model_errors,
            self.client.core.gateway.stream(*self._request(messages, stop, run_manager, kwargs, stream=True)) as stream,
        ):
            for chunk in stream:
                if (found := piece(chunk)) is not None:
                    yield found
            yield end(stream.completion)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with model_errors:
            async with self.client.core.gateway.astream(
                *self._request(messages, stop, run_manager, kwargs, stream=True)
            ) as stream:
                async for chunk in stream:
                    if (found := piece(chunk)) is not None:
                        yield found
                yield end(stream.completion)

    # Neither of the two above is told whose run it is, but these are.

    def generate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        *,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        with Told(self, callbacks, tags, metadata):
            return super().generate(messages, stop, callbacks, tags=tags, metadata=metadata, **kwargs)

    async def agenerate(
        self,
        messages: list[list[BaseMessage]],
        stop: list[str] | None = None,
        callbacks: Callbacks = None,
        *,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        with Told(self, callbacks, tags, metadata):
            return await super().agenerate(messages, stop, callbacks, tags=tags, metadata=metadata, **kwargs)

    def stream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[AIMessageChunk]:
        chunks = super().stream(input, config, **kwargs)
        with self._told(config):  # `_stream` makes its request before it gives its first chunk
            first = next(chunks, None)
        if first is not None:
            yield first
            yield from chunks

    async def astream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[AIMessageChunk]:
        chunks = super().astream(input, config, **kwargs)
        async with aclosing(chunks):  # type: ignore[type-var]
            with self._told(config):
                first = await anext(chunks, None)
            if first is not None:
                yield first
                async for chunk in chunks:
                    yield chunk

    def _told(self, config: RunnableConfig | None) -> AbstractContextManager[None]:
        known = ensure_config(config)
        return Told(self, known.get("callbacks"), known.get("tags"), known.get("metadata"))

    def _should_stream(self, *, async_api: bool, run_manager: RunManager = None, **kwargs: Any) -> bool:
        """Several answers cannot be streamed, and need not be where nobody asks for a stream."""
        if not kwargs.get("stream") and (kwargs.get("n") or self.n or 1) > 1:
            return False
        return super()._should_stream(async_api=async_api, run_manager=run_manager, **kwargs)

    def _request(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        run: RunManager,
        given: Mapping[str, Any],
        *,
        stream: bool = False,
    ) -> tuple[CompletionRequest, Handlers]:
        options = self.options(stop, given)
        for name in ("n", "reasoning_effort"):
            if name not in options and (value := getattr(self, name)) is not None:
                options[name] = value
        options.pop("stream", None)  # which of the methods is called says so
        return self.request(messages_of(messages), options, run, reference_in(messages), stream=stream)

    # Tools and structured output

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        response_format: dict[str, Any] | type | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with tools it may call.

        tool_choice: "auto", "none", "any" or True for whichever it likes, a tool's name, or OpenAI's dict. strict: have
        arguments fit their schemas exactly, where the provider can. response_format: the shape of its last answer.
        """
        kwargs["tools"] = [_tool(tool, strict) for tool in tools]
        if tool_choice is not None and tool_choice is not False:
            kwargs["tool_choice"] = "required" if tool_choice in ("any", True) else tool_choice
        if parallel_tool_calls is not None:
            kwargs["parallel_tool_calls"] = parallel_tool_calls
        if response_format is not None:
            kwargs["response_format"] = as_response_format(response_format, strict)
        return super().bind(**kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        method: Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        tools: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | Any]:
        """The model with answers in a shape: an instance of a pydantic class, else a dict.

        method: "json_schema" by the provider's own structured output, "function_calling" by a tool, "json_mode" by
        asking for some JSON, whose shape the prompt has to describe. include_raw: a dict of `raw`, `parsed` and
        `parsing_error` instead of an error. strict: have answers fit exactly, where the provider can. tools: it may
        call meanwhile; None is parsed then, and `raw` has the calls. An answer that refuses or does not fit raises
        OutputError.
        """
        if method not in get_args(Method):
            raise ValueError(f"method must be one of {', '.join(map(repr, get_args(Method)))}, not {method!r}")
        if schema is None and method != "json_mode":
            raise ValueError("schema must be specified when method is not 'json_mode'.")
        if strict is not None and method == "json_mode":
            raise ValueError("strict needs a schema to be sent, which method='json_mode' does not do: leave it out")
        kwargs["ls_structured_output_format"] = {"kwargs": {"method": method, "strict": strict}, "schema": schema}
        tool: str | None = None
        if method == "function_calling":
            tool = convert_to_openai_tool(schema)["function"]["name"]  # type: ignore[arg-type]
            # With its own tool forced on it, the model could call none of the others.
            choice = {"tool_choice": "required" if tools else tool, "parallel_tool_calls": False}
            bound = self.bind_tools([schema, *(tools or ())], strict=strict, **{**choice, **kwargs})  # type: ignore[list-item]
        else:
            shape = {"type": "json_object"} if method == "json_mode" else as_response_format(schema, strict)
            if tools:
                bound = self.bind_tools(tools, response_format=shape, strict=strict, **kwargs)
            else:
                bound = super().bind(response_format=shape, **kwargs)
        parser = StructuredOutputParser(
            pydantic_object=schema if is_basemodel_subclass(schema) else None,  # type: ignore[arg-type]
            tool=tool,
            whole=method == "json_schema",
        )
        return with_raw(bound, parser) if include_raw else bound | parser

    # What LangChain asks of a model

    @property
    def _llm_type(self) -> str:
        return "aistrale-chat"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "provider": self.provider,
            **self.shown(),
            "n": self.n,
            "reasoning_effort": self.reasoning_effort,
        }

    # Handlers are told a call's own options, and caches go by them: its headers and its key are for nobody to see.

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        return super()._get_invocation_params(stop, **without_secrets(kwargs))

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        return super()._get_llm_string(stop, **without_secrets(kwargs))

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = PROVIDER
        return params

    def _resolve_model_profile(self) -> ModelProfile | None:
        if self.model and (self.provider or "/" in self.model):
            return profile_of(self.provider, self.model)
        # Its name, the configuration or whose key is there says which it is.
        return profile_of(*routed(self.provider, self.model, self.base_url, self.api_url))


register(ChatAistrale)


def _result(completion: Completion) -> ChatResult:
    choices = completion.choices or (Choice(completion.message, None),)
    return ChatResult(
        generations=[ChatGeneration(message=answer(completion, choice)) for choice in choices],
        llm_output={"model_name": completion.model},
    )


def _tool(tool: Any, strict: bool | None) -> dict[str, Any]:
    """A tool as OpenAI has it; one of a provider's own, which says so by its type, as it is."""
    if isinstance(tool, Mapping) and tool.get("type", "function") not in ("function", "object"):
        return dict(tool)
    return convert_to_openai_tool(tool, strict=strict)
