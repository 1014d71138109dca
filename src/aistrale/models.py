"""The values a call is made of: messages and requests in, chunks, completions and embeddings out.

They are provider-neutral and OpenAI-shaped, so that what people already write (role and content
dicts, content parts, tool schemas) is taken as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from aistrale.exceptions import AistraleError, InvalidRequestError, OutputError
from aistrale.http import Timeout, check_header
from aistrale.schema import check_response_format, check_tool, kind_of, parse_output
from aistrale.usage import Usage as Usage

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "error"]
JSON: TypeAlias = dict[str, Any]

ROLES = ("system", "developer", "user", "assistant", "tool", "function")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model asks for.

    `arguments` is the JSON text as the model sent it (free text for a tool of type "custom"), `args`
    the same parsed. `extra` keeps what the provider wants back with the call, such as a signature.
    """

    id: str
    name: str
    arguments: str = "{}"
    type: str = "function"
    extra: JSON = field(default_factory=dict, repr=False)

    @property
    def args(self) -> Any:
        """The arguments parsed; an empty text means none. Raises OutputError if they are no JSON."""
        try:
            return json.loads(self.arguments) if self.arguments.strip() else {}
        except ValueError as error:
            raise OutputError(
                f"The arguments of the call to {self.name!r} are no JSON: {error}", text=self.arguments
            ) from error


@dataclass(frozen=True, slots=True)
class ReasoningBlock:
    """A piece of the model's reasoning.

    `origin` names the protocol that signed it: no other provider takes the signature back.

    `signature` proves to the provider that the text is its own. `data` is reasoning the provider only
    gives out encrypted. `detail` is the provider's own item, where it wants that back unchanged.
    """

    text: str = ""
    signature: str | None = None
    data: str | None = field(default=None, repr=False)
    detail: JSON | None = field(default=None, repr=False)
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    `content` is a text, or a list of OpenAI-shaped parts (`text`, `image_url`, `input_audio`, `file`).
    `provider_content` maps a wire protocol to the content as that protocol sent it, so that an answer
    goes back to its provider unchanged, signatures and all. `extra` holds whatever has no field here.
    """

    role: str
    content: str | list[JSON] | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_blocks: tuple[ReasoningBlock, ...] = ()
    provider_content: Mapping[str, Any] = field(default_factory=dict, repr=False)
    extra: JSON = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InvalidRequestError(f"Unknown role {self.role!r} in a message; use one of {', '.join(ROLES)}")
        if isinstance(self.content, list):
            for part in self.content:
                if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                    raise InvalidRequestError(f"A content part must be a dict with a 'type', not {kind_of(part)}")
                if part["type"] == "text" and not isinstance(part.get("text"), str):
                    raise InvalidRequestError("A content part of type 'text' needs a 'text' that is a string")
        elif not isinstance(self.content, str | None):
            raise InvalidRequestError(
                f"A message's content must be a string or a list of parts, not {kind_of(self.content)}"
            )

    @property
    def text(self) -> str:
        """All text of the content, joined."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part["text"] for part in self.content or () if part["type"] == "text")

    @property
    def reasoning(self) -> str | None:
        """All readable reasoning, joined; None if the provider gave none."""
        return "".join(block.text for block in self.reasoning_blocks) or None

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Message:
        """Read an OpenAI-shaped message; what has no field of its own, explicit nulls included, goes to `extra`."""
        if not isinstance(value, Mapping):
            raise InvalidRequestError(f"A message must be a dict or a Message, not {kind_of(value)}")
        if "role" not in value:
            raise InvalidRequestError("A message needs a 'role'")
        known: dict[str, Any] = {}
        extra: JSON = {}
        for key, entry in value.items():
            if key in _MESSAGE_KEYS and entry is not None:
                known[key] = entry
            else:
                extra[key] = entry
        if calls := known.pop("tool_calls", None):
            known["tool_calls"] = tuple(_tool_call(entry) for entry in listed(calls, "tool_calls"))
        elif calls is not None:
            extra["tool_calls"] = calls
        if blocks := known.pop("reasoning_blocks", None):
            known["reasoning_blocks"] = tuple(ReasoningBlock(**block) for block in listed(blocks, "reasoning_blocks"))
        if isinstance(known.get("content"), tuple):
            known["content"] = list(known["content"])
        return cls(**known, extra=extra)

    def to_dict(self, *, complete: bool = False) -> JSON:
        """The OpenAI-shaped message, as `from_dict` reads it.

        `complete` adds what only Aistrale knows of: the reasoning and the provider's own content, which
        a tool loop needs to go on after it was stored.
        """
        known: JSON = {"role": self.role}
        for key in ("content", "name", "tool_call_id", "refusal"):
            if (entry := getattr(self, key)) is not None:
                known[key] = entry
        if self.tool_calls:
            known["tool_calls"] = [tool_call_to_dict(call) for call in self.tool_calls]
        if complete and self.reasoning_blocks:
            known["reasoning_blocks"] = [asdict(block) for block in self.reasoning_blocks]
        if complete and self.provider_content:
            known["provider_content"] = dict(self.provider_content)
        return known | self.extra

    @classmethod
    def list_of(cls, prompt: Prompt) -> list[Message]:
        """The messages a prompt stands for: a string is one user message."""
        if isinstance(prompt, str):
            return [cls("user", prompt)]
        if isinstance(prompt, Message):
            return [prompt]
        if isinstance(prompt, Mapping):
            return [cls.from_dict(prompt)]
        if isinstance(prompt, list | tuple):
            return [entry if isinstance(entry, Message) else cls.from_dict(entry) for entry in prompt]
        raise InvalidRequestError(f"A prompt is a string or a list of messages, not {kind_of(prompt)}")


def _says_something(message: Message) -> bool:
    text = message.content
    if isinstance(text, str) and not text.strip():
        text = None
    return bool(text or message.tool_calls or any(message.extra.values()) or message.role in ("tool", "function"))


def listed(value: Any, name: str) -> list[Any]:
    """`value` as a list. Raises InvalidRequestError if it is none."""
    if not isinstance(value, list | tuple):
        raise InvalidRequestError(f"{name} must be a list, not {kind_of(value)}")
    return list(value)


_MESSAGE_KEYS = frozenset(
    ("role", "content", "name", "tool_calls", "tool_call_id", "refusal", "reasoning_blocks", "provider_content")
)

Prompt: TypeAlias = str | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]]
"""What `run` takes: a text, a message, or a conversation."""


def _tool_call(value: Any) -> ToolCall:
    if isinstance(value, ToolCall):
        return value
    try:
        kind = value.get("type", "function")
        text = "input" if kind == "custom" else "arguments"
        body = value[kind]
        name, arguments = body["name"], body[text]
        extra = {key: entry for key, entry in value.items() if key not in ("id", "type", kind)}
        if more := {key: entry for key, entry in body.items() if key not in ("name", text)}:
            extra[kind] = more
    except (AttributeError, KeyError, TypeError):
        raise InvalidRequestError(
            "A tool call needs an 'id' and a 'function' with 'name' and 'arguments' (a JSON text)"
        ) from None
    identifier = value.get("id") or ""
    if not identifier and "id" in value:
        extra["id"] = value["id"]
    if "type" not in value:
        kind = ""  # some providers leave it out, and what came without it goes back without it
    return ToolCall(identifier, name, arguments, kind, extra)


def tool_call_to_dict(call: ToolCall) -> JSON:
    """The OpenAI shape of a tool call."""
    kind, text = ("custom", "input") if call.type == "custom" else ("function", "arguments")
    head = {key: value for key, value in (("id", call.id), ("type", call.type)) if value}
    body = {"name": call.name, text: call.arguments, **call.extra.get(kind, {})}
    return {**head, **call.extra, kind: body}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """How a call is made, as apart from what the model is asked. None means: as configured.

    `surface` names the layer the call came through (`sdk`, `langchain`, `cli`, ...), `session_id` the
    session it belongs to, `user_id` for whom it is where the provider is not to be told, `conversation_id` the
    caller's own name for the session, and `tags` whatever the caller wants to find it by; they go to handlers only.
    `parent` is the OpenTelemetry SpanContext that the call's span lies below, where that is not the current one.
    """

    provider: str | None = None
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    timeout: float | Timeout | None = None
    max_retries: int | None = None
    fallbacks: tuple[str, ...] | None = None
    cache: Any = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    session_id: str | None = None
    user_id: str | None = None
    conversation_id: str | None = None
    surface: str = "sdk"
    tags: tuple[str, ...] = ()
    parent: Any = None

    def __post_init__(self) -> None:
        for name, value in self.headers.items():
            check_header(name, value)
        retries = self.max_retries
        if retries is not None and (isinstance(retries, bool) or not isinstance(retries, int) or retries < 0):
            raise InvalidRequestError(f"max_retries must be a whole number from 0 on, not {retries!r}")
        if isinstance(self.fallbacks, str) or not all(isinstance(name, str) for name in self.fallbacks or ()):
            raise InvalidRequestError('fallbacks must be a list of model names, such as ["anthropic/claude-..."]')
        if not all(isinstance(tag, str) for tag in self.tags):
            raise InvalidRequestError('tags must be a list of texts, such as ["nightly"]')


NO_OPTIONS = CallOptions()


@dataclass(frozen=True, slots=True)
class PromptReference:
    """A stored prompt that a request is made of: which, and what its variables are.

    name: may say a version or a label too ("reply@3", "reply@production"). version: which one was taken, once
    that is known. stored: the prompt itself, if it has been looked up.
    """

    name: str
    variables: Mapping[str, Any] = field(default_factory=dict, repr=False)
    version: int | None = None
    stored: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """What a model is asked, in OpenAI's terms; `extra` holds what has no field and is sent as it stands.

    `prompt` is the stored prompt that the messages are made of, if they are; until it is looked up there are none.

    `tools` and `response_format` are OpenAI-shaped dicts; `output_type` is what `completion.parsed` makes of
    the answer (a pydantic class, or dict for plain JSON). Raises InvalidRequestError at once for what no
    provider could take.
    Source: https://platform.openai.com/docs/api-reference/chat/create
    """

    messages: tuple[Message, ...]
    model: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    n: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    tools: tuple[JSON, ...] | None = None
    tool_choice: str | JSON | None = None
    parallel_tool_calls: bool | None = None
    response_format: JSON | None = None
    reasoning_effort: str | None = None
    metadata: Mapping[str, Any] | None = None
    user: str | None = None
    extra: JSON = field(default_factory=dict)
    options: CallOptions = NO_OPTIONS
    output_type: Any = None
    prompt: PromptReference | None = None

    def __post_init__(self) -> None:
        if not self.messages and self.prompt is not None:
            self._check_fields()
            return
        said = [m for m in self.messages if m.role not in ("system", "developer")] or self.messages
        if not any(_says_something(message) for message in said):
            raise InvalidRequestError("The prompt is empty: pass a text or at least one message with content")
        self._check_fields()

    def _check_fields(self) -> None:
        for name, kind, article in _CHECKED_FIELDS:
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
                raise InvalidRequestError(f"{name} must be {article}, not {value!r}")
        if isinstance(self.stop, list) and not all(isinstance(text, str) for text in self.stop):
            raise InvalidRequestError("stop must be a text or a list of texts")
        if self.n is not None and self.n < 1:
            raise InvalidRequestError(f"n must be at least 1, not {self.n}")
        if self.output_limit is not None and self.output_limit < 1:
            raise InvalidRequestError(f"max_tokens must be at least 1, not {self.output_limit}")
        if self.tools:
            for tool in self.tools:
                check_tool(tool)
        if self.response_format is not None:
            check_response_format(self.response_format)

    @property
    def output_limit(self) -> int | None:
        """The most tokens the answer may have, by whichever of the two names it was given."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens


REQUEST_FIELDS = tuple(
    entry.name
    for entry in fields(CompletionRequest)
    if entry.name not in ("messages", "model", "extra", "options", "output_type", "prompt")
)
"""What a request may ask beside its messages, under the names that OpenAI's wire knows too."""

_CHECKED_FIELDS: tuple[tuple[str, type | tuple[type, ...], str], ...] = (
    ("model", str, "a name"),
    ("temperature", (int, float), "a number"),
    ("top_p", (int, float), "a number"),
    ("top_k", int, "a whole number"),
    ("max_tokens", int, "a whole number"),
    ("max_completion_tokens", int, "a whole number"),
    ("stop", (str, list), "a text or a list of texts"),
    ("seed", int, "a whole number"),
    ("n", int, "a whole number"),
    ("frequency_penalty", (int, float), "a number"),
    ("presence_penalty", (int, float), "a number"),
    ("tool_choice", (str, dict), "'auto', 'none', 'required', a tool's name or a dict"),
    ("reasoning_effort", str, "a word such as 'low', 'medium' or 'high'"),
    ("metadata", Mapping, "a dict"),
    ("user", str, "a text"),
    ("extra", dict, "a dict"),
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that a call made: where to, how it ended (`error` is None if well), in how many seconds.

    opened_circuit: it was the failure after which the circuit breaker leaves this upstream alone.
    """

    provider: str
    model: str
    base_url: str
    error: AistraleError | None
    seconds: float
    opened_circuit: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers a provider gave; most give one.

    logprobs: how likely each token was, in the provider's own shape, if that was asked for.
    """

    message: Message
    finish_reason: FinishReason | None
    index: int = 0
    logprobs: JSON | None = None


Pricing: TypeAlias = Callable[[Any], Decimal | None]


def _cost(result: Completion | Embedding) -> Decimal | None:
    if result.reported_cost is not None or result.pricing is None:
        return result.reported_cost
    return result.pricing(result)


@dataclass(slots=True)
class Completion:
    """A model's answer. `str(completion)` is its text.

    `latency` and `time_to_first_token` are in seconds, the latter None unless streamed. `reported_cost` is
    what the provider said it cost, in US dollars, None where it said nothing. `raw` is the
    provider's body (of a stream: the body it adds up to).
    """

    choices: tuple[Choice, ...]
    model: str
    provider: str = ""
    id: str | None = None
    usage: Usage | None = None
    reported_cost: Decimal | None = None
    latency: float = 0.0
    time_to_first_token: float | None = None
    cached: bool = False
    attempts: tuple[Attempt, ...] = ()
    trace_id: str | None = None
    raw: JSON = field(default_factory=dict, repr=False)
    output_type: Any = field(default=None, repr=False)
    pricing: Pricing | None = field(default=None, repr=False, compare=False)
    _parsed: tuple[Any, Any] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def cost(self) -> Decimal | None:
        """US dollars: as the provider reported, else by your own prices, else by the table; None if unknown.

        The first look into the table loads it, which takes half a second.
        """
        return _cost(self)

    @property
    def message(self) -> Message:
        """The first choice's message, fit to be sent back as the next request's history."""
        return self.choices[0].message if self.choices else Message("assistant", "")

    @property
    def text(self) -> str:
        return self.message.text

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return self.message.tool_calls

    @property
    def reasoning(self) -> str | None:
        return self.message.reasoning

    @property
    def refusal(self) -> str | None:
        return self.message.refusal

    @property
    def finish_reason(self) -> FinishReason | None:
        return self.choices[0].finish_reason if self.choices else None

    @property
    def parsed(self) -> Any:
        """The answer as `response_format` asked: an instance of its pydantic class, or the parsed JSON.

        None if no format was asked, or if the model called tools instead. Raises OutputError if the answer
        does not fit (a refusal, or one cut at the limit, does not); the text is kept.
        """
        if self.output_type is None or (self.tool_calls and not self.text):
            return None
        if self.refusal:
            raise OutputError(f"The model refused: {self.refusal}", text=self.refusal)
        if self._parsed is None or self._parsed[0] is not self.output_type:
            self._parsed = (self.output_type, parse_output(self.text, self.output_type))
        return self._parsed[1]

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True)
class ToolCallChunk:
    """A piece of a tool call: pieces with the same `index` belong together, `arguments` add up."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(slots=True)
class Chunk:
    """A piece of a streamed answer. `index` is the choice it belongs to; `raw` the event's own body.

    `tool_calls` are pieces, too: whole calls are in the stream's `completion`.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallChunk, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    index: int = 0
    raw: JSON = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """What to embed: a text, or several texts (or lists of token ids, where the provider takes those).

    `dimensions` shortens the vectors where the model can.
    """

    inputs: str | tuple[Any, ...]
    model: str | None = None
    dimensions: int | None = None
    user: str | None = None
    extra: JSON = field(default_factory=dict)
    options: CallOptions = NO_OPTIONS

    def __post_init__(self) -> None:
        if not self.inputs or not all(isinstance(entry, int) or entry for entry in self.inputs):
            raise InvalidRequestError("There is nothing to embed: pass a text or a list of texts, none of them empty")
        if not all(isinstance(entry, str | int | list | tuple) for entry in self.inputs):
            raise InvalidRequestError("Only texts (or lists of token ids) can be embedded")

    @property
    def texts(self) -> list[str]:
        """The inputs as texts. Raises InvalidRequestError for token ids, which only some providers take."""
        texts = [self.inputs] if isinstance(self.inputs, str) else list(self.inputs)
        if not all(isinstance(text, str) for text in texts):
            raise InvalidRequestError("This provider embeds texts, not token ids")
        return texts


@dataclass(slots=True)
class Embedding:
    """The vectors of the texts, in their order: iterate, index, or take `.vector` of a single text."""

    vectors: list[list[float]]
    model: str
    provider: str = ""
    usage: Usage | None = None
    reported_cost: Decimal | None = None
    latency: float = 0.0
    attempts: tuple[Attempt, ...] = ()
    trace_id: str | None = None
    raw: JSON = field(default_factory=dict, repr=False)
    pricing: Pricing | None = field(default=None, repr=False, compare=False)

    @property
    def cost(self) -> Decimal | None:
        """US dollars, as `Completion.cost`."""
        return _cost(self)

    @property
    def vector(self) -> list[float]:
        """The vector of the first text."""
        return self.vectors[0]

    def __len__(self) -> int:
        return len(self.vectors)

    def __iter__(self) -> Iterator[list[float]]:
        return iter(self.vectors)

    def __getitem__(self, position: int) -> list[float]:
        return self.vectors[position]
