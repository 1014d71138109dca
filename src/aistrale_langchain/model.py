"""What a chat model, a text model and embeddings have in common: their settings, and the client behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Self, TypeAlias

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.utils.utils import secret_from_env
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic.json_schema import SkipJsonSchema

from aistrale.client import AsyncClient, Client
from aistrale.contract import Handlers
from aistrale.exceptions import InvalidRequestError
from aistrale.models import CompletionRequest, Prompt, PromptReference
from aistrale.options import RunOptions, check_names
from aistrale.providers.profile import without_credentials
from aistrale_langchain.runs import about_run, enclose, given_tags, parent_of, whose

SURFACE = "langchain"

RunManager: TypeAlias = CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None


_key_of_environment = secret_from_env("AISTRALE_API_KEY", default=None)

MOST_CLIENTS = 16


class Clients:
    """The clients of a model and all its copies: one for each way in which they are connected.

    LangChain makes a model anew for each call that configures it; so the copy finds its connections open. The last
    MOST_CLIENTS are kept, for as long as one of the models is.
    """

    def __init__(self) -> None:
        self._made: tuple[tuple[Mapping[str, Any], Client], ...] = ()

    def of(self, settings: Mapping[str, Any]) -> Client:
        """The client with these settings, in which keys are kept secret."""
        found = next((client for known, client in self._made if known == settings), None)
        if found is None:
            # Without a lock, which a fork could leave held: threads that come at once may make one too many.
            found = Client(**{name: _revealed(value) for name, value in settings.items()})
            self._made = (*self._made, (settings, found))[-MOST_CLIENTS:]
        return found

    def __eq__(self, other: object) -> bool:
        """They say nothing of what a model is."""
        return isinstance(other, Clients)

    def __deepcopy__(self, memo: dict[int, Any]) -> Clients:
        return self

    def __reduce__(self) -> tuple[type[Clients], tuple[()]]:
        """Who reads a pickled model makes connections of its own."""
        return Clients, ()


def _revealed(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


class Connection(BaseModel):
    """Where calls go. All of it may be left out: the configuration and the environment say the rest.

    model: with its provider as "openai/gpt-4o", or provider= beside it. api_url: an Aistrale server; without one calls
    go straight to the providers. client_options: whatever else `aistrale.Client` takes. clients: those of another
    model, to share its connections with one of the same settings, as copies do.
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
    clients: SkipJsonSchema[Clients] = Field(default_factory=Clients, repr=False, exclude=True)

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
        enclose()
        return self.clients.of(
            {
                "model": self.model,
                "provider": self.provider,
                "api_key": self.api_key if self.api_key and self._has_own_key else None,
                "api_url": self.api_url,
                "base_url": self.base_url,
                "timeout": self.timeout,
                "max_retries": self.max_retries,
                "fallbacks": None if self.fallbacks is None else tuple(self.fallbacks),
                "surface": SURFACE,
                **self.client_options,
            }
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
        """What is not written where a model is serialized, and the names under which `load` is given it."""
        return {"api_key": "AISTRALE_API_KEY", "extra_headers": "AISTRALE_EXTRA_HEADERS"}

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """The same among options is left out, and out of addresses."""
        given = {name: getattr(self, name, {}) for name in ("client_options", "model_kwargs")}
        addresses = {name: url for name in _ADDRESSES if (url := getattr(self, name)) is not None}
        shown = {name: without_credentials(url) for name, url in addresses.items()}
        return {**shown, **{name: without_secrets(options) for name, options in given.items() if options}}

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, without_credentials(value) if name in _ADDRESSES and isinstance(value, str) else value

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

    # The settings of a copy may differ, and those of a model may be changed: then it has another client.

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
_ADDRESSES = ("api_url", "base_url")
"""They may hold a user's name and password."""
_SECRETS = frozenset(("api_key", "extra_headers"))
"""Options that are a secret, or may hold one."""


def without_secrets(options: Mapping[str, Any]) -> dict[str, Any]:
    """What may be shown of options."""
    return {name: value for name, value in options.items() if name not in _SECRETS}


def secrets_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """The rest."""
    return {name: value for name, value in options.items() if name in _SECRETS}


class Sampling(Connection):
    """How answers are made. What is left out is the provider's own default.

    model_kwargs: further options of `aistrale.run`, such as metadata= or tags=; a call's own options go before them.
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
    extra_headers: dict[str, str] | None = Field(default=None, repr=False, exclude=True)
    model_kwargs: dict[str, Any] = Field(default_factory=dict, repr=False)

    @classmethod
    def _options(cls) -> frozenset[str]:
        return frozenset(RunOptions.__annotations__)

    def options(self, stop: list[str] | None, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a call: its own over the model's."""
        named = {name: value for name in _SAMPLING if (value := getattr(self, name)) is not None}
        options = {**named, **self.model_kwargs, **given}
        if "max_completion_tokens" in given and "max_tokens" not in given:  # the same by a newer name
            options.pop("max_tokens", None)
        if stop is not None:
            options["stop"] = stop
        if not options.get("stop"):
            options.pop("stop", None)
        return options

    def shown(self) -> dict[str, Any]:
        """The options that handlers are told of and caches go by."""
        return without_secrets(self.options(None, {}))

    def request(
        self,
        prompt: Prompt,
        options: Mapping[str, Any],
        run: RunManager,
        stored: PromptReference | None,
        *,
        stream: bool = False,
    ) -> tuple[CompletionRequest, Handlers]:
        """What is sent, and who watches it. Raises InvalidRequestError for a stream of several answers.

        run: the run it is part of, whose span its own lies below. stored: the stored prompt that it was made of.
        """
        if stream and (options.get("n") or 1) > 1:
            raise InvalidRequestError("A stream is of one answer: leave n out, or use invoke")
        metadata, tags = (run.metadata, run.tags) if run is not None else about_run()
        session, user = whose(metadata)
        parent = parent_of(None if run is None else run.run_id, self.client_options.get("tracer_provider"))
        if found := given_tags(tags):
            options = {**options, "tags": [*(options.get("tags") or ()), *found]}
        about = {"parent": parent, "session_id": session, "user_id": user}
        request, handlers = self.client.core.completion(prompt, options, **about)
        return (request if stored is None else replace(request, prompt=stored)), handlers


_SAMPLING = (
    *("temperature", "top_p", "max_tokens", "stop", "seed", "frequency_penalty", "presence_penalty"),
    *("user", "extra_body", "extra_headers"),
)
