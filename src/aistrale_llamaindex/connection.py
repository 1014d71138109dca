"""What a model and embeddings have in common: where their calls go, and the client behind them."""

from __future__ import annotations

import difflib
import logging
import pickle
from collections.abc import Iterator, Mapping
from typing import Any, Self

from llama_index.core.bridge.pydantic import (
    BaseModel,
    Field,
    PrivateAttr,
    SecretStr,
    field_serializer,
    model_validator,
)

from aistrale.client import AsyncClient, Client
from aistrale.gateway.known import routed
from aistrale.providers.profile import without_credentials
from aistrale_llamaindex.surface import SURFACE

logger = logging.getLogger("aistrale")


class _Opened:
    """What a model has found out and opened when it was first needed. A copy of it, or who reads it, begins anew."""

    def __init__(self) -> None:
        self._made: tuple[Mapping[str, Any], Client] | None = None
        self._leads: dict[tuple[str | None, ...], tuple[str | None, str | None]] = {}

    # Without a lock, which a fork could leave held: threads that come at once may do it twice.

    def client(self, settings: Mapping[str, Any]) -> Client:
        """The client with these settings."""
        if self._made is None or self._made[0] != settings:
            self._made = settings, Client(**settings)
        return self._made[1]

    def leads_to(self, *named: str | None) -> tuple[str | None, str | None]:
        """The provider and the model that calls lead to, see `routed`."""
        if named not in self._leads:
            self._leads[named] = routed(*named)
        return self._leads[named]

    def __copy__(self) -> _Opened:
        return _Opened()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Opened:
        return _Opened()

    def __reduce__(self) -> tuple[type[_Opened], tuple[()]]:
        return _Opened, ()


_OF_OTHERS = {"api_base": "base_url", "engine": "model", "request_timeout": "timeout"}
"""Options of LlamaIndex's other integrations, and what they are here."""
_ELSEWHERE = "what else aistrale.Client takes goes into client_options"


class Connection(BaseModel):
    """Where calls go. All of it may be left out: the configuration and the environment say the rest.

    model: with its provider as "openai/gpt-4o", or provider= beside it. api_url: an Aistrale server; without one calls
    go straight to the providers. client_options: whatever else `aistrale.Client` takes; like the key, and like a
    password in an address, they are not in what is serialized or shown. An option there is not is refused.
    """

    model: str | None = None
    provider: str | None = None
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)
    api_url: str | None = None
    base_url: str | None = None
    timeout: float | None = None
    max_retries: int | None = None
    fallbacks: list[str] | None = None
    client_options: dict[str, Any] = Field(default_factory=dict, exclude=True, repr=False)
    _opened: _Opened = PrivateAttr(default_factory=_Opened)

    @model_validator(mode="before")
    @classmethod
    def _known_alone(cls, given: Any) -> Any:
        """LlamaIndex passes over what it does not know, and with it over where calls were to go."""
        if isinstance(given, dict):
            for name in given.keys() - {*cls.model_fields, "class_name"}:
                close = difflib.get_close_matches(name, [*cls.model_fields, *_OF_OTHERS], 1)
                hint = f"did you mean {_OF_OTHERS.get(close[0], close[0])!r}?" if close else _ELSEWHERE
                raise ValueError(f"there is no option {name!r}; {hint}")
        return given

    @field_serializer("api_url", "base_url")
    def _shown(self, address: str | None) -> str | None:
        return None if address is None else without_credentials(address)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, self._shown(value) if name in ("api_url", "base_url") else value

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied._opened, copied.client_options = _Opened(), dict(self.client_options)
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """What its client is made with, such as a tracer provider, is not to be copied."""
        known = {} if memo is None else memo
        known[id(self.client_options)] = dict(self.client_options)
        return super().__deepcopy__(known)

    def __getstate__(self) -> dict[str, Any]:
        """Of the client's options those that can be pickled, which a tracer provider, say, cannot."""
        kept = {name: value for name, value in self.client_options.items() if _can_be_pickled(value)}
        if left := self.client_options.keys() - kept:
            logger.warning("a pickled %s goes without %s", type(self).__name__, ", ".join(sorted(left)))
        state: dict[str, Any] = super(Connection, self.model_copy(update={"client_options": kept})).__getstate__()
        return state

    @property
    def client(self) -> Client:
        """The client that calls are made with; another one once a setting has changed."""
        return self._opened.client(
            {
                "model": self.model,
                "provider": self.provider,
                "api_key": None if self.api_key is None else self.api_key.get_secret_value(),
                "api_url": self.api_url,
                "base_url": self.base_url,
                "timeout": self.timeout,
                "max_retries": self.max_retries,
                "fallbacks": None if self.fallbacks is None else tuple(self.fallbacks),
                "surface": SURFACE,
                **self.client_options,
            }
        )

    @property
    def leads_to(self) -> tuple[str | None, str | None]:
        """The provider and the model that calls lead to, as far as that is known before one is made."""
        provider, model = self._opened.leads_to(self.provider, self.model, self.base_url, self.api_url)
        if provider is None and model is not None and "/" in model:  # a server finds the provider by this name
            provider, _, model = model.partition("/")
        return provider, model

    @property
    def async_client(self) -> AsyncClient:
        """The same for async code."""
        return AsyncClient.sharing(self.client)


def _can_be_pickled(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001 - whatever its own way to be pickled raises
        return False
    return True
