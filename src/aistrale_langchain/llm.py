"""`AistraleLLM`: every provider as a LangChain text model, for `prompt | llm | parser` and classic chains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.base import LangSmithParams, LanguageModelInput
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ContextThreadPoolExecutor, ensure_config, get_config_list
from pydantic import Field, PrivateAttr

from aistrale.contract import Handlers
from aistrale.models import Choice, Completion, CompletionRequest
from aistrale_langchain.counting import Counting
from aistrale_langchain.errors import model_errors
from aistrale_langchain.messages import PROVIDER, metadata, usage_metadata
from aistrale_langchain.model import RunManager, Sampling, secrets_of, without_secrets
from aistrale_langchain.serialization import register
from aistrale_langchain.signatures import with_known_signature
from aistrale_langchain.stored import reference_in
from aistrale_langchain.workarounds import tell_of_start

Configs: TypeAlias = RunnableConfig | list[RunnableConfig] | None
Names: TypeAlias = tuple[tuple[str, str | None], ...]
"""The prompts of a call with the names of their runs; none where no run has one."""


class AistraleLLM(Sampling, Counting, BaseLLM):
    """A text model: a prompt in, a text out.

    >>> llm = AistraleLLM(model="gpt-4", provider="openai")
    >>> (prompt | llm | parser).invoke({"topic": "bears"})

    batch_concurrency: how many prompts of one batch are asked at a time. `generation_info` of each answer says which
    model it is of, how it ended, and what tokens it took.
    """

    batch_concurrency: int = Field(default=8, ge=1)
    _names: Names = PrivateAttr(default=())

    # The contract

    @with_known_signature
    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        def ask(prompt: str) -> Completion:
            return self.client.core.gateway.complete(*self._request(prompt, stop, run_manager, kwargs))

        with model_errors:
            if len(prompts) == 1:
                return _result([ask(prompts[0])])
            with ContextThreadPoolExecutor(min(self.batch_concurrency, len(prompts))) as pool:
                return _result(list(pool.map(ask, prompts)))

    @with_known_signature
    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        runs: Sequence[AsyncCallbackManagerForLLMRun] = (),
        **kwargs: Any,
    ) -> LLMResult:
        at_once = asyncio.Semaphore(self.batch_concurrency)

        async def ask(prompt: str) -> Completion:
            async with at_once:
                return await self.client.core.gateway.acomplete(*self._request(prompt, stop, run_manager, kwargs))

        await self._tell_of_starts(runs, prompts, stop, kwargs)
        with model_errors:
            if len(prompts) == 1:
                return _result([await ask(prompts[0])])
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(ask(prompt)) for prompt in prompts]
            except BaseExceptionGroup as failed:
                raise failed.exceptions[0] from None
            return _result([task.result() for task in tasks])

    # LangChain keys its cache by the model's settings alone, and tells handlers no others: a call's own options have
    # to be among them (langchain issue 40403). An empty list of callbacks is one it fails at. Of a stream it does tell
    # handlers a call's own options, secrets not excepted.

    def generate(
        self, prompts: list[str], stop: list[str] | None = None, callbacks: Any = None, **kwargs: Any
    ) -> LLMResult:
        return BaseLLM.generate(self._asked(kwargs), prompts, stop, callbacks or None, **kwargs)

    async def agenerate(
        self, prompts: list[str], stop: list[str] | None = None, callbacks: Any = None, **kwargs: Any
    ) -> LLMResult:
        name = kwargs.get("run_name")
        names = name if isinstance(name, list) else [name] * len(prompts)
        asked = self._asked(kwargs, tuple(zip(prompts, names, strict=False)) if name else ())
        return await BaseLLM.agenerate(asked, prompts, stop, callbacks or None, **kwargs)

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[str]:
        asked = self._asked(secrets_of(kwargs))
        return BaseLLM.stream(asked, input, config, stop=stop, **without_secrets(kwargs))

    def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[str]:
        name = ensure_config(config).get("run_name")
        names = ((self._convert_input(input).to_string(), name),) if name else ()
        asked = self._asked(secrets_of(kwargs), names)
        return BaseLLM.astream(asked, input, config, stop=stop, **without_secrets(kwargs))

    def _asked(self, given: Mapping[str, Any], names: Names = ()) -> AistraleLLM:
        """This model with a call's own options as its settings, and with the names of its runs."""
        options = {name: value for name, value in given.items() if name not in _OF_THE_RUN}
        if not options and not names:
            return self
        copied = self.model_copy(update={"model_kwargs": {**self.model_kwargs, **options}})
        copied._names = names
        return copied

    # Handlers whom it has forgotten (issue 39633) have to be told of each run, and by its name.

    async def _agenerate_helper(
        self,
        prompts: list[str],
        stop: list[str] | None,
        run_managers: list[AsyncCallbackManagerForLLMRun],
        **kwargs: Any,
    ) -> LLMResult:
        return await super()._agenerate_helper(prompts, stop, run_managers, runs=run_managers, **kwargs)

    async def _tell_of_starts(
        self,
        runs: Sequence[AsyncCallbackManagerForLLMRun],
        prompts: list[str],
        stop: list[str] | None,
        given: Mapping[str, Any],
    ) -> None:
        names = [name for prompt, name in self._names if prompt in prompts] or [None] * len(prompts)
        about: dict[str, Any] = {
            "invocation_params": {**self.asdict(), "stop": stop, **given},
            "options": {"stop": stop},
            "batch_size": len(prompts),
        }
        for run, prompt, name in zip(runs, prompts, names, strict=False):
            await tell_of_start(run, prompt, self._serialized, name=name, **about)

    # LangChain asks all prompts of a batch as one call, which fails as one, and whose runs it does not tell apart.

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: Configs = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        limited = self._limited(config, len(inputs))
        return Runnable.batch(self, inputs, limited, return_exceptions=return_exceptions, **kwargs)

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: Configs = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        limited = self._limited(config, len(inputs))
        return await Runnable.abatch(self, inputs, limited, return_exceptions=return_exceptions, **kwargs)

    def _limited(self, config: Configs, number: int) -> list[RunnableConfig]:
        """As many at a time as was asked for, else `batch_concurrency`."""
        every = get_config_list(config, number)
        return [{**each, "max_concurrency": each.get("max_concurrency") or self.batch_concurrency} for each in every]

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        with (
            model_errors,
            self.client.core.gateway.stream(*self._request(prompt, stop, run_manager, kwargs, stream=True)) as stream,
        ):
            for piece in stream:
                if piece.text:
                    chunk = GenerationChunk(text=piece.text)
                    if run_manager is not None:
                        run_manager.on_llm_new_token(piece.text, chunk=chunk)
                    yield chunk
            yield GenerationChunk(text="", generation_info=_info(stream.completion))

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        await self._tell_of_starts([run_manager] if run_manager else [], [prompt], stop, kwargs)
        with model_errors:
            request = self._request(prompt, stop, run_manager, kwargs, stream=True)
            async with self.client.core.gateway.astream(*request) as stream:
                async for piece in stream:
                    if piece.text:
                        chunk = GenerationChunk(text=piece.text)
                        if run_manager is not None:
                            await run_manager.on_llm_new_token(piece.text, chunk=chunk)
                        yield chunk
                yield GenerationChunk(text="", generation_info=_info(stream.completion))

    def _request(
        self, prompt: str, stop: list[str] | None, run: RunManager, given: Mapping[str, Any], *, stream: bool = False
    ) -> tuple[CompletionRequest, Handlers]:
        return self.request(prompt, self.options(stop, given), run, reference_in(prompt), stream=stream)

    # What LangChain asks of a model

    @property
    def _llm_type(self) -> str:
        return "aistrale"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "provider": self.provider, **self.shown()}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = PROVIDER
        return params


register(AistraleLLM)

_OF_THE_RUN = frozenset(("tags", "metadata", "run_name", "run_id"))
"""What `generate` is given that is no option of the call."""


def _result(completions: list[Completion]) -> LLMResult:
    """The answers, each with its own tokens: LangChain keeps those of the whole for the first prompt alone."""
    generations = [
        [Generation(text=choice.message.text, generation_info=_info(answer, choice)) for choice in _choices(answer)]
        for answer in completions
    ]
    usages = [answer.usage for answer in completions if answer.usage is not None]
    output: dict[str, Any] = {"model_name": completions[0].model} if completions else {}
    if usages:
        total = usages[0]
        for usage in usages[1:]:
            total += usage
        output["token_usage"] = {
            "prompt_tokens": total.input_tokens,
            "completion_tokens": total.output_tokens,
            "total_tokens": total.total_tokens,
        }
    return LLMResult(generations=generations, llm_output=output)


def _choices(completion: Completion) -> Sequence[Choice]:
    return completion.choices or (Choice(completion.message, None),)


def _info(completion: Completion, choice: Choice | None = None) -> dict[str, Any]:
    info = metadata(completion, choice or _choices(completion)[0])
    usage = usage_metadata(completion.usage)
    return info if usage is None else {**info, "usage_metadata": usage}
