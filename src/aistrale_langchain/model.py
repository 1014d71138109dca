"""What a chat model, a text model and embeddings have in common: their settings, and the client behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Self, TypeAlias

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.utils.utils import secret_from_env
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic.fields import FieldInfo

from aistrale.client import AsyncClient, Client
from aistrale.contract import Handlers
from aistrale.models import CompletionRequest, Prompt
from aistrale.options import RunOptions, check_names
from aistrale_langchain.runs import about_run, given_tags, parent_of, whose

SURFACE = "langchain"

RunManager: TypeAlias = CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None


_key_of_environment = secret_from_env("AISTRALE_API_KEY", default=None)


class Connection(BaseModel):
    """Where calls go. All of it may be left out: the configuration and the environment say the rest.

    model: with its provider as "openai/gpt-4o", or provider= beside it. api_url: an Aistrale server; without one calls
    go straight to the providers. client_options: whatever else `aistrale.Client` takes.
    """

    model_config = ConfigDict(populate_by_name=True, arbitrary_types_allowed=True)

    model: str | None = Field(default=None, validation_alias=AliasChoices("model", "model_name"))
    provider: str | None = None
    api_key: SecretStr | None = Field(default_factory=_key_of_environment)
    api_url: str | None = None
    base_url: str | None = None
    timeout: Any = Field(default=None, validation_alias=AliasChoices("timeout", "request_timeout"))
    max_retries: int | None = None
    fallbacks: list[str] | None = None
    client_options: dict[str, Any] = Field(default_factory=dict, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_the_unknown(cls, given: Any) -> Any:
        """What is no setting is an option of `aistrale.run`, or a mistake."""
        if not isinstance(given, dict):
            return given
        known = {name for field, info in cls.model_fields.items() for name in (field, *_aliases(info))}
        more = {name: value for name, value in given.items() if name not in known}
        if not more:
            return given
        check_names(more, cls._options())
        settings = {name: value for name, value in given.items() if name in known}
        return {**settings, "model_kwargs": {**(settings.get("model_kwargs") or {}), **more}}

    @classmethod
    def _options(cls) -> frozenset[str]:
        """The options that may be given as settings."""
        return frozenset()

    @cached_property
    def client(self) -> Client:
        """The client its calls are made with."""
        return Client(
            model=self.model,
            provider=self.provider,
            api_key=self.api_key.get_secret_value() if self.api_key and self._has_own_key else None,
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
    def _has_own_key(self) -> bool:
        """Whether its key was given. The environment's is the server's: the client knows when to send that."""
        return self.api_key != _key_of_environment()

    @property
    def lc_secrets(self) -> dict[str, str]:
        return {"api_key": "AISTRALE_API_KEY"}

    @classmethod
    def is_lc_serializable(cls) -> bool:
        return True

    def __getstate__(self) -> dict[Any, Any]:
        """Without its connections, and without a key that is the environment's: who reads it has one of his own."""
        state = super().__getstate__()
        left = _CLIENTS if self._has_own_key else (*_CLIENTS, "api_key")
        return {**state, "__dict__": {name: value for name, value in state["__dict__"].items() if name not in left}}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("api_key", _key_of_environment())

    # A copy, or a model whose settings are changed, has a client of its own.

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied._forget_clients()
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return BaseModel.__deepcopy__(self.__copy__(), memo)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in Connection.model_fields:
            self._forget_clients()

    def _forget_clients(self) -> None:
        for name in _CLIENTS:
            self.__dict__.pop(name, None)


def _aliases(info: FieldInfo) -> Iterator[str]:
    for alias in (info.alias, info.validation_alias):
        if isinstance(alias, AliasChoices):
            yield from (choice for choice in alias.choices if isinstance(choice, str))
        elif isinstance(alias, str):
            yield alias


_CLIENTS = ("client", "async_client")


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
    extra_headers: dict[str, str] | None = Field(default=None, repr=False)
    model_kwargs: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def _options(cls) -> frozenset[str]:
        return frozenset(RunOptions.__annotations__)

    def options(self, stop: list[str] | None, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a call: its own over the model's."""
        named = {name: value for name in _SAMPLING if (value := getattr(self, name)) is not None}
        options = {**named, **self.model_kwargs, **given}
        if stop is not None:
            options["stop"] = stop
        if not options.get("stop"):
            options.pop("stop", None)
        return options

    def shown(self) -> dict[str, Any]:
        """The options that handlers are told of and caches go by; headers may hold a secret."""
        return {name: value for name, value in self.options(None, {}).items() if name != "extra_headers"}

    def request(
        self, prompt: Prompt, options: Mapping[str, Any], run: RunManager
    ) -> tuple[CompletionRequest, Handlers]:
        """What is sent, and who watches it. run: the run it is part of, whose span its own lies below."""
        metadata, tags = (run.metadata, run.tags) if run is not None else about_run()
        session, user = whose(metadata)
        parent = parent_of(None if run is None else run.run_id)
        if found := given_tags(tags):
            options = {**options, "tags": [*(options.get("tags") or ()), *found]}
        return self.client.core.completion(prompt, options, parent=parent, session_id=session, user_id=user)


_SAMPLING = (
    *("temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty"),
    *("user", "extra_body", "extra_headers"),
)
