"""What a chat model, a text model and embeddings have in common: their settings, and the client behind them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, TypeAlias

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.utils.utils import secret_from_env
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr

from aistrale.client import AsyncClient, Client
from aistrale.contract import Handlers
from aistrale.models import CompletionRequest, Prompt
from aistrale_langchain.runs import parent_of, whose

SURFACE = "langchain"

RunManager: TypeAlias = CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None


class Connection(BaseModel):
    """Where calls go. All of it may be left out: the configuration and the environment say the rest.

    model: with its provider as "openai/gpt-4o", or provider= beside it. api_url: an Aistrale server; without one calls
    go straight to the providers. client_options: whatever else `aistrale.Client` takes.
    """

    model_config = ConfigDict(populate_by_name=True, arbitrary_types_allowed=True)

    model: str | None = Field(default=None, validation_alias=AliasChoices("model", "model_name"))
    provider: str | None = None
    api_key: SecretStr | None = Field(default_factory=secret_from_env("AISTRALE_API_KEY", default=None))
    api_url: str | None = None
    base_url: str | None = None
    timeout: Any = Field(default=None, validation_alias=AliasChoices("timeout", "request_timeout"))
    max_retries: int | None = None
    fallbacks: list[str] | None = None
    client_options: dict[str, Any] = Field(default_factory=dict)

    @cached_property
    def client(self) -> Client:
        """The client its calls are made with."""
        return Client(
            model=self.model,
            provider=self.provider,
            api_key=self.api_key.get_secret_value() if self.api_key else None,
            api_url=self.api_url,
            base_url=self.base_url,
            timeout=self.timeout,
            max_retries=self.max_retries,
            fallbacks=self.fallbacks,
            **{"surface": SURFACE, **self.client_options},
        )

    @cached_property
    def async_client(self) -> AsyncClient:
        """The same for async code."""
        return AsyncClient.sharing(self.client)

    @property
    def lc_secrets(self) -> dict[str, str]:
        return {"api_key": "AISTRALE_API_KEY"}

    @classmethod
    def is_lc_serializable(cls) -> bool:
        return True

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        kept = {name: value for name, value in state["__dict__"].items() if name not in ("client", "async_client")}
        return {**state, "__dict__": kept}


class Sampling(Connection):
    """How answers are made. What is left out is the provider's own default.

    model_kwargs: further options of `aistrale.run`, such as metadata= or tags=; a call's own go before them.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = Field(default=None, validation_alias=AliasChoices("max_tokens", "max_completion_tokens"))
    stop: str | list[str] | None = Field(default=None, validation_alias=AliasChoices("stop", "stop_sequences"))
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    user: str | None = None
    extra_body: dict[str, Any] | None = None
    extra_headers: dict[str, str] | None = None
    model_kwargs: dict[str, Any] = Field(default_factory=dict)

    def options(self, stop: list[str] | None, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a call: its own over the model's."""
        named = {name: value for name in _SAMPLING if (value := getattr(self, name)) is not None}
        options = {**named, **self.model_kwargs, **given}
        if stop is not None:
            options["stop"] = stop
        if not options.get("stop"):
            options.pop("stop", None)
        return options

    def request(
        self, prompt: Prompt, options: Mapping[str, Any], run: RunManager
    ) -> tuple[CompletionRequest, Handlers]:
        """What is sent, and who watches it. run: the run it is part of, whose span its own lies below."""
        session, _ = whose(None if run is None else run.metadata)
        parent = parent_of(None if run is None else run.run_id)
        return self.client.core.completion(prompt, options, parent=parent, session_id=session)


_SAMPLING = (
    *("temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty"),
    *("user", "extra_body", "extra_headers"),
)
