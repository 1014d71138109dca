"""Conversations: what was said is remembered, and what it cost is added up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from types import TracebackType
from typing import Any, Unpack
from uuid import uuid4

from aistrale.contract import Call, CallbackHandler
from aistrale.core import Core
from aistrale.exceptions import InvalidRequestError
from aistrale.gateway.prompts import look_up
from aistrale.gateway.stream import AsyncCompletionStream, CompletionStream
from aistrale.models import Completion, CompletionRequest, Embedding, Message, Prompt, PromptReference, Usage
from aistrale.options import RunOptions, given, prompt_reference


class Conversation:
    """What a session remembers.

    id: its own, or the one it was given. messages: all turns so far, the system prompt first. A call that
    fails, or a stream that is left early, adds nothing. usage: tokens used in all.
    """

    def __init__(self, core: Core, options: Mapping[str, Any], *, id: str | None, system: str | None) -> None:
        self.id = id or uuid4().hex
        self.messages: list[Message] = [Message("system", system)] if system else []
        self.usage = Usage()
        self._cost, self._unpriced = Decimal(0), 0
        self._to_price: list[Completion] = []
        self._is_named = id is not None
        self._core, self._options = core, given(options)

    def _ask(self, prompt: Prompt, options: Mapping[str, Any]) -> tuple[CompletionRequest, list[CallbackHandler]]:
        asked = given(options)
        reference = _reference(prompt, asked.pop("variables", None))
        said = Message.list_of(prompt if reference is None else reference.stored.render(reference.variables))
        if not said or (isinstance(prompt, str) and not prompt.strip()):
            raise InvalidRequestError("The prompt is empty: pass a text or at least one message")
        request, _ = self._core.completion(
            [*self.messages, *said],
            {**self._options, **asked},
            session_id=self.id,
            conversation_id=self.id if self._is_named else None,
        )
        if reference is not None:
            request = replace(request, prompt=reference)
        return request, [_Recorder(self, said), *self._options.get("callbacks", ()), *asked.get("callbacks", ())]

    def _add(self, said: list[Message], completion: Completion) -> None:
        self.messages += [*said, completion.message]
        if completion.usage is not None and not completion.cached:
            self.usage += completion.usage
        self._to_price.append(replace(completion, choices=(), raw={}))

    @property
    def cost(self) -> Decimal:
        """US dollars in all, as far as known; looked up when asked for."""
        self._price()
        return self._cost

    @property
    def unpriced(self) -> int:
        """How many answers have a cost that is not known."""
        self._price()
        return self._unpriced

    def _price(self) -> None:
        while self._to_price:
            cost = self._to_price.pop().cost
            if cost is None:
                self._unpriced += 1
            else:
                self._cost += cost


def _reference(prompt: Prompt, variables: Mapping[str, Any] | None) -> PromptReference | None:
    """The stored prompt that is said, looked up: what was said has to be remembered."""
    reference = prompt_reference(prompt, variables)
    if reference is None or reference.stored is not None:
        return reference
    return replace(reference, stored=look_up(reference.name))


class _Recorder(CallbackHandler):
    """Writes a turn into its conversation when the answer is whole."""

    def __init__(self, conversation: Conversation, said: list[Message]) -> None:
        self._conversation, self._said = conversation, said

    def on_end(self, call: Call, result: Completion | Embedding) -> None:
        if isinstance(result, Completion):
            self._conversation._add(self._said, result)


class Session(Conversation):
    """A conversation from sync code: `with client.session() as s: s.run("Hello")`."""

    def run(self, prompt: Prompt, **options: Unpack[RunOptions]) -> Completion:
        """Say `prompt` (a text, or messages such as tools' results) and wait for the answer."""
        return self._core.gateway.complete(*self._ask(prompt, options))

    def stream(self, prompt: Prompt, **options: Unpack[RunOptions]) -> CompletionStream:
        """Say `prompt` and read the answer as it comes."""
        return self._core.gateway.stream(*self._ask(prompt, options))

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close: the connections are the client's."""


class AsyncSession(Conversation):
    """A conversation from async code: `async with client.session() as s: await s.run("Hello")`."""

    @classmethod
    def continuing(cls, conversation: Conversation) -> AsyncSession:
        """The same conversation, from async code: what one of the two says, both remember."""
        session = cls.__new__(cls)
        session.__dict__ = conversation.__dict__
        return session

    async def run(self, prompt: Prompt, **options: Unpack[RunOptions]) -> Completion:
        """Say `prompt` (a text, or messages such as tools' results) and wait for the answer."""
        return await self._core.gateway.acomplete(*self._ask(prompt, options))

    def stream(self, prompt: Prompt, **options: Unpack[RunOptions]) -> AsyncCompletionStream:
        """Say `prompt` and read the answer as it comes."""
        return self._core.gateway.astream(*self._ask(prompt, options))

    async def __aenter__(self) -> AsyncSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close: the connections are the client's."""
