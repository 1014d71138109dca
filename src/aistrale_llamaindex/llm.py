"""`AistraleLLM`: every provider as a LlamaIndex model, for query engines, chat engines and agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    ToolCallBlock,
)
from llama_index.core.bridge.pydantic import Field
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW, DEFAULT_NUM_OUTPUTS
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.llms.utils import parse_partial_json
from llama_index.core.types import PydanticProgramMode
from opentelemetry.trace import SpanContext

from aistrale.contract import Handlers
from aistrale.exceptions import OutputError
from aistrale.gateway.known import context_window
from aistrale.models import CompletionRequest, Prompt
from aistrale.tracing.tracer import current_span, parent_since
from aistrale_llamaindex.blocks import is_elsewhere
from aistrale_llamaindex.connection import Connection
from aistrale_llamaindex.messages import (
    Growing,
    GrowingChat,
    GrowingText,
    Response_co,
    completion_of,
    keep_first_call,
    messages_of,
    response_of,
)
from aistrale_llamaindex.prompts import reference_in
from aistrale_llamaindex.surface import SURFACE

if TYPE_CHECKING:
    from llama_index.core.chat_engine.types import AgentChatResponse
    from llama_index.core.tools.types import BaseTool

_Request: TypeAlias = tuple[CompletionRequest, Handlers]

_WITH_TOOLS = (PydanticProgramMode.DEFAULT, PydanticProgramMode.FUNCTION)


class AistraleLLM(Connection, CustomLLM, FunctionCallingLLM):
    """A model of any provider.

    >>> llm = AistraleLLM(model="gpt-4", provider="openai")
    >>> index.as_query_engine(llm=llm)

    Retries, fallbacks, timeouts and telemetry are those of `aistrale.Client`. additional_kwargs: further options of
    `aistrale.run`; a call's own go before them. context_window: how much the model reads, where it is not known.
    is_function_calling_model: whether it may be given tools. Errors are Aistrale's.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    additional_kwargs: dict[str, Any] = Field(default_factory=dict)
    context_window: int | None = None
    is_function_calling_model: bool = True

    @classmethod
    def class_name(cls) -> str:
        return "AistraleLLM"

    @property
    def metadata(self) -> LLMMetadata:
        provider, model = self.leads_to
        known = context_window(provider, model) if provider and model else None
        return LLMMetadata(
            context_window=self.context_window or known or DEFAULT_CONTEXT_WINDOW,
            num_output=self.max_tokens or DEFAULT_NUM_OUTPUTS,
            is_chat_model=True,
            is_function_calling_model=self.is_function_calling_model,
            model_name=self.model or model or "unknown",
        )

    def to_payload(self) -> dict[str, Any]:
        """What handlers are told of the model. By `surface` ours know that its calls have spans already."""
        about = {"model": self.model, "provider": self.provider, "temperature": self.temperature, "surface": SURFACE}
        return {**super().to_payload(), **about}

    # The contract. Real generators are returned, for the decorators tell of the end of no other iterators.

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return response_of(self.client.core.gateway.complete(*self._chat(messages, kwargs)))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return response_of(await self.client.core.gateway.acomplete(*await self._achat(messages, kwargs)))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        answer = GrowingChat(kwargs.get("parallel_tool_calls") is False)
        return self._streamed(answer, current_span(), self._chat, list(messages), kwargs)

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        answer = GrowingChat(kwargs.get("parallel_tool_calls") is False)
        return self._astreamed(answer, current_span(), self._achat, list(messages), kwargs)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return completion_of(self.client.core.gateway.complete(*self._complete(prompt, formatted, kwargs)))

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return completion_of(await self.client.core.gateway.acomplete(*self._complete(prompt, formatted, kwargs)))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        return self._streamed(GrowingText(), current_span(), self._complete, prompt, formatted, kwargs)

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        return self._astreamed(GrowingText(), current_span(), self._acomplete, prompt, formatted, kwargs)

    # A stream asks when it is first read. Others who trace LlamaIndex have taken their span away by then.

    def _streamed(
        self, answer: Growing[Response_co], above: SpanContext, ask: Callable[..., _Request], *asked: Any
    ) -> Generator[Response_co, None, None]:
        with self.client.core.gateway.stream(*self._below(above, ask(*asked))) as stream:
            for chunk in stream:
                if (response := answer.add(chunk)) is not None:
                    yield response
            yield answer.whole(stream.completion)

    async def _astreamed(
        self, answer: Growing[Response_co], above: SpanContext, ask: Callable[..., Awaitable[_Request]], *asked: Any
    ) -> AsyncGenerator[Response_co, None]:
        async with self.client.core.gateway.astream(*self._below(above, await ask(*asked))) as stream:
            async for chunk in stream:
                if (response := answer.add(chunk)) is not None:
                    yield response
            yield answer.whole(stream.completion)

    def _below(self, above: SpanContext, asked: _Request) -> _Request:
        """A call that begins now, below the span it was asked for in."""
        request, handlers = asked
        if (parent := parent_since(above, self.client_options.get("tracer_provider"))) is not None:
            request = replace(request, options=replace(request.options, parent=parent))
        return request, handlers

    def _chat(self, messages: Sequence[ChatMessage], given: Mapping[str, Any]) -> _Request:
        request, handlers = self._request(messages_of(messages), given)
        stored = reference_in(messages)
        return (request if stored is None else replace(request, prompt=stored)), handlers

    async def _achat(self, messages: Sequence[ChatMessage], given: Mapping[str, Any]) -> _Request:
        if any(is_elsewhere(block) for message in messages for block in message.blocks):
            return await asyncio.to_thread(self._chat, messages, given)
        return self._chat(messages, given)

    def _complete(self, prompt: str, formatted: bool, given: Mapping[str, Any]) -> _Request:
        if not formatted and self.completion_to_prompt is not None:
            prompt = self.completion_to_prompt(prompt)
        return self._request(prompt, given)

    async def _acomplete(self, prompt: str, formatted: bool, given: Mapping[str, Any]) -> _Request:
        return self._complete(prompt, formatted, given)

    def _request(self, prompt: Prompt, given: Mapping[str, Any]) -> _Request:
        own = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        named = {name: value for name, value in own.items() if value is not None}
        options = {name: value for name, value in given.items() if value is not None}
        return self.client.core.completion(prompt, {**named, **self.additional_kwargs, **options})

    # Tools

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        tool_choice: str | dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """What `chat` and its like are called with. tool_choice: "auto", "none", "required", a tool's name, or OpenAI's
        dict; without it, a tool has to be called if `tool_required`.
        """
        messages = list(chat_history or ())
        if user_msg is not None:
            messages.append(ChatMessage(content=user_msg) if isinstance(user_msg, str) else user_msg)
        if not tools:
            return {"messages": messages, **kwargs}
        return {
            "messages": messages,
            "tools": [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools],
            "tool_choice": tool_choice or ("required" if tool_required else None),
            "parallel_tool_calls": allow_parallel_tool_calls,
            **kwargs,
        }

    def _validate_chat_with_tools_response(
        self,
        response: ChatResponse,
        tools: Sequence[BaseTool],
        allow_parallel_tool_calls: bool = False,
        **kwargs: Any,
    ) -> ChatResponse:
        """Of several calls where one was wanted, the first: not every provider can be told."""
        if not allow_parallel_tool_calls:
            keep_first_call(response.message)
        return response

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The calls of an answer, also while it is streamed. Raises OutputError for none, unless that is no error."""
        calls = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
        if not calls and error_on_no_tool_call:
            raise OutputError("The model was to call a tool, and did not", text=response.message.content or "")
        return [
            ToolSelection(
                tool_id=call.tool_call_id or "", tool_name=call.tool_name, tool_kwargs=_parsed(call.tool_kwargs)
            )
            for call in calls
        ]

    # Structured output. LlamaIndex forgets to say that the tool has to be called where it streams, and the system
    # prompt in async code.

    def _structured_stream_call(
        self, output_cls: Any, prompt: Any, llm_kwargs: dict[str, Any] | None = None, **prompt_args: Any
    ) -> Generator[Any, None, None]:
        program = self._program(output_cls, prompt)
        found: Generator[Any, None, None] = program.stream_call(llm_kwargs=llm_kwargs, **prompt_args)
        return found

    async def _structured_astream_call(
        self, output_cls: Any, prompt: Any, llm_kwargs: dict[str, Any] | None = None, **prompt_args: Any
    ) -> AsyncGenerator[Any, None]:
        program = self._program(output_cls, prompt)
        found: AsyncGenerator[Any, None] = await program.astream_call(llm_kwargs=llm_kwargs, **prompt_args)
        return found

    def _program(self, output_cls: Any, prompt: Any) -> Any:
        from llama_index.core.program.utils import get_program_for_llm

        has_tools = self.is_function_calling_model and self.pydantic_program_mode in _WITH_TOOLS
        more = {"tool_choice": "required"} if has_tools else {}
        return get_program_for_llm(output_cls, prompt, self, self.pydantic_program_mode, **more)

    async def apredict_and_call(  # type: ignore[override]
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        **kwargs: Any,
    ) -> AgentChatResponse:
        history = list(chat_history or ())
        if "tool_required" in kwargs:  # by LlamaIndex's program for shapes, which says so
            history = self._extend_messages(history)
        return await super().apredict_and_call(tools, user_msg, history, verbose, **kwargs)


def _parsed(arguments: dict[str, Any] | str) -> dict[str, Any]:
    """Arguments, as far as they have come."""
    if isinstance(arguments, dict):
        return arguments
    try:
        found = parse_partial_json(arguments)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
