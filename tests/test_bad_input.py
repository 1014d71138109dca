"""Whatever is wrong, in the call or in the answer, ends in one of our errors, and the client lives on."""

import gzip
import json
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from callers import (
    KEY,
    SYNC,
    Caller,
    Calling,
    Way,
    assert_holds_no_key,
    elsewhere,
    every_way,
    everything_shown,
    sync_and_async,
)
from pydantic import BaseModel
from upstream import (
    CLOSE,
    END_OF_BODY,
    Answer,
    Request,
    Step,
    Upstream,
    completion,
    events,
    failure,
    head,
    plain,
    zipped,
)

import aistrale
from aistrale import (
    AistraleError,
    APIError,
    AuthenticationError,
    ConfigurationError,
    InvalidRequestError,
    NetworkError,
    ServerError,
    StreamInterruptedError,
)

SECONDS = 2.0
"""In which a call that cannot work has to say so."""


def error_of(caller: Caller, *prompt: Any, **options: Any) -> AistraleError:
    """The error that a call ends in: one of ours, soon, and without the key."""
    started = time.monotonic()
    with pytest.raises(AistraleError) as caught:
        caller.ask(*prompt, max_retries=0, **options)
    assert time.monotonic() - started < SECONDS
    assert_holds_no_key(everything_shown(caught.value))
    assert caught.value.message == str(caught.value)
    return caught.value


def assert_still_works(caller: Caller, upstream: Upstream) -> None:
    """The same client answers the next calls, over one connection."""
    assert caller.ask("still there?").text == "still there?"
    accepted = upstream.accepted
    assert caller.ask("and now?").text == "and now?"
    assert upstream.accepted == accepted
    upstream.wait_until_open(1)


# What the caller gets wrong

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
NO_SCHEMAS: list[Any] = [
    {"type": "strnig"},
    {"type": 5},
    {"type": "object", "properties": ["city"]},
    {"type": "object", "properties": {"city": "string"}},
    {"type": "object", "required": "city"},
    {"anyOf": {"type": "string"}},
]


def tool(**function: Any) -> dict[str, Any]:
    return {"type": "function", "function": function}


WRONG_PROMPTS: dict[str, tuple[Any, str]] = {
    "empty text": ("", "The prompt is empty: pass"),
    "blank text": (" \n\t", "The prompt is empty: pass"),
    "no messages": ([], "The prompt is empty: pass"),
    "a message with an empty text": ([{"role": "user", "content": ""}], "The prompt is empty: pass"),
    "a message with no content": ([{"role": "user", "content": None}], "The prompt is empty: pass"),
    "a message of no parts": ([{"role": "user", "content": []}], "The prompt is empty: pass"),
    "an unknown role": ([{"role": "usr", "content": "Hello"}], "use one of system, developer, user, assistant"),
    "no role": ([{"content": "Hello"}], "needs a 'role'"),
    "a number": (5, "A prompt is a string or a list of messages"),
    "a list of texts": (["Hello"], "A message must be a dict or a Message"),
    "content of a wrong type": ([{"role": "user", "content": 5}], "must be a string or a list of parts"),
    "a part without a type": ([{"role": "user", "content": [{"text": "Hi"}]}], "must be a dict with a 'type'"),
    "half a surrogate pair": ("Hello \ud800", "Look for values JSON cannot hold"),
}
WRONG_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "a tool without a name": ({"tools": [tool(parameters={})]}, "A tool needs a name"),
    "a tool with an empty name": ({"tools": [tool(name="")]}, "A tool needs a name"),
    "a tool that is none": ({"tools": [5]}, "must be a dict, a function or a pydantic class"),
    "tools that are no list": ({"tools": TOOL}, "tools must be a list"),
    **{
        f"tool parameters {schema}": ({"tools": [tool(name="weather", parameters=schema)]}, "JSON schema|must be")
        for schema in [*NO_SCHEMAS, "object", 5]
    },
    **{f"response format {schema}": ({"response_format": schema}, "JSON schema|must be") for schema in NO_SCHEMAS},
    "a response format in a word": ({"response_format": "json"}, "must be a JSON schema or a pydantic class"),
    "a response format without its schema": ({"response_format": {"type": "json_schema"}}, "needs"),
    "a hot temperature": ({"temperature": "hot"}, "temperature must be a number, not 'hot'"),
    "a temperature that is no number": ({"temperature": float("nan")}, "Look for values JSON cannot hold"),
    "half a token": ({"max_tokens": 0.5}, "max_tokens must be a whole number"),
    "no tokens": ({"max_tokens": 0}, "max_tokens must be at least 1"),
    "a value JSON cannot hold": ({"extra_body": {"x": object()}}, "Look for values JSON cannot hold"),
    "one fallback as a text": ({"fallbacks": "openai/gpt-test"}, "must be a list"),
}


@sync_and_async
@pytest.mark.parametrize("case", WRONG_PROMPTS)
def test_a_prompt_nobody_could_answer_is_refused_unsent(
    way: Way, case: str, calling: Calling, upstream: Upstream
) -> None:
    """Empty prompts, unknown roles and odd messages are told at once, and nothing is sent."""
    prompt, words = WRONG_PROMPTS[case]
    caller = calling(way)
    error = error_of(caller, prompt)
    assert type(error) is InvalidRequestError
    assert words in error.message
    assert upstream.requests == []
    assert_still_works(caller, upstream)


@sync_and_async
@pytest.mark.parametrize("case", WRONG_OPTIONS)
def test_an_option_nobody_could_take_is_refused_unsent(
    way: Way, case: str, calling: Calling, upstream: Upstream
) -> None:
    """Nameless tools, schemas that are none and values of the wrong type are told at once."""
    options, words = WRONG_OPTIONS[case]
    caller = calling(way)
    with pytest.raises(InvalidRequestError, match=words):
        raise error_of(caller, **options)
    assert upstream.requests == []
    assert_still_works(caller, upstream)


@sync_and_async
def test_an_unknown_provider_is_told_with_those_known(way: Way, calling: Calling, upstream: Upstream) -> None:
    """A typo in a provider's name is answered with the name meant and with all there are."""
    caller = calling(way)
    for options in ({"provider": "opnai"}, {"provider": "opnai", "model": "gpt-test"}):
        error = error_of(caller, **options)
        assert type(error) is ConfigurationError
        assert "Did you mean 'openai'?" in error.message
        assert all(name in error.message for name in ("anthropic", "google", "mistral", "ollama"))
    assert upstream.requests == []
    assert_still_works(caller, upstream)


@sync_and_async
def test_a_missing_key_is_told_with_its_variable(way: Way, calling: Calling, upstream: Upstream) -> None:
    """Without a key nothing is sent, and the message names the variable to set."""
    caller = calling(way)
    error = error_of(caller, provider="groq", model="llama")
    assert type(error) is ConfigurationError
    assert "GROQ_API_KEY" in error.message
    assert upstream.requests == []
    assert_still_works(caller, upstream)


@sync_and_async
@pytest.mark.parametrize("break_in", ["\n", " ", "\u00e9", "\0"])
def test_a_key_that_no_header_can_hold_is_refused_unshown(
    way: Way, break_in: str, calling: Calling, upstream: Upstream
) -> None:
    """A key pasted with a line break or such is refused before a header is made of it, and is not repeated."""
    caller = calling(way)
    error = error_of(caller, api_key=f"{KEY}{break_in}{KEY}")
    assert type(error) is ConfigurationError
    assert "The API key for openai" in error.message
    assert upstream.requests == []
    assert_still_works(caller, upstream)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens at."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


WRONG_URLS = ["htp://127.0.0.1/v1", "127.0.0.1/v1", "http:///v1", "http://127.0.0.1:99999/v1", "http://127.0.0.1:0"]
WRONG_URLS += ["http://127.0.0.1:abc/v1", "http://[::1/v1", "localhost:8080", "/v1", "http"]
NO_HOSTS = [
    "http://no-such-host.invalid/v1",
    "http://api..invalid/v1",
    "http://no such host/v1",
    f"http://{'x' * 70}.invalid",
]


@every_way
@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_base_url_that_is_none_is_told(way: Way, url: str, calling: Calling, upstream: Upstream) -> None:
    """A typo in the scheme, the host or the port is our error, and says how an address reads."""
    caller = calling(way)
    error = error_of(caller, **elsewhere(url))
    assert type(error) is ConfigurationError
    assert "base URL" in error.message
    assert "must" in error.message
    assert_still_works(caller, upstream)


@every_way
@pytest.mark.parametrize("url", NO_HOSTS)
def test_a_host_that_does_not_resolve_is_told(way: Way, url: str, calling: Calling, upstream: Upstream) -> None:
    """A typo in the host name is our error, and says to check the base URL."""
    caller = calling(way)
    error = error_of(caller, **elsewhere(url))
    assert isinstance(error, NetworkError | ConfigurationError)
    assert "base URL" in error.message
    assert isinstance(error, ConfigurationError) or error.__cause__ is not None
    assert_still_works(caller, upstream)


@every_way
def test_a_port_nobody_listens_at_is_told(way: Way, closed_port: int, calling: Calling, upstream: Upstream) -> None:
    """A refused connection says where it was refused and what to check, and chains what the system said."""
    caller = calling(way)
    error = error_of(caller, **elsewhere(f"http://127.0.0.1:{closed_port}/v1"))
    assert type(error) is NetworkError
    assert f"127.0.0.1:{closed_port}" in error.message
    assert "Check the base URL" in error.message
    assert error.__cause__ is not None
    assert_still_works(caller, upstream)


@sync_and_async
@pytest.mark.parametrize("headers", [{"X-Test": "a\nb"}, {"X-Te\nst": "a"}], ids=repr)
def test_a_header_that_cannot_be_sent_is_told(
    way: Way, headers: dict[str, str], calling: Calling, upstream: Upstream
) -> None:
    """A header with a line break is refused as what it is, unsent."""
    caller = calling(way)
    error = error_of(caller, extra_headers=headers)
    assert type(error) is ConfigurationError
    assert "header" in error.message
    assert upstream.requests == []
    assert_still_works(caller, upstream)


@sync_and_async
@pytest.mark.parametrize("value", ["Caf\u00e9", 5], ids=repr)
def test_an_unusual_header_is_sent_or_refused_as_ours(
    way: Way, value: Any, calling: Calling, upstream: Upstream
) -> None:
    """A header value beyond ASCII, or a number, never ends in a raw error of the library below."""
    caller = calling(way)
    with suppress(ConfigurationError):
        caller.ask(extra_headers={"X-Title": value})
    assert_still_works(caller, upstream)


# What an upstream, or something before it, gets wrong

HTML = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
WHOLE = json.dumps(completion("never to be seen")).encode()
JSON = "application/json"
DEEP = b"[" * 200_000

WRONG_SHAPES = ["[]", '"x"', "5", "null", '{"foo": 1}', '{"choices": 3}', '{"choices": null}', '{"choices": [3]}']
WRONG_SHAPES += [
    '{"choices": [{"message": "x"}]}',
    '{"choices": [{"message": {"content": 5}}]}',
    '{"choices": {"a": 1}}',
]
WRONG_SHAPES += ['{"choices": [{"message": {"tool_calls": [{"function": {}}]}}]}']


# Name: the answer, the error's class, what its message says, and whether it has a cause.
WRONG_ANSWERS: dict[str, tuple[Answer, type[AistraleError], str, bool]] = {
    "the key is wrong": (failure(401, "Incorrect API key provided"), AuthenticationError, "OPENAI_API_KEY", False),
    "a page of a proxy as 200": (plain(HTML), ServerError, "whether a proxy stands in between", True),
    "a page of a proxy as 502": (plain(HTML, 502), ServerError, "502 Bad Gateway. Try again later", False),
    "a page of 2 MB as 200": (plain("<p>" * 700_000), ServerError, "whether a proxy", True),
    "a page of 2 MB as 500": (plain("<p>" * 700_000, 500), ServerError, "Try again later", False),
    "JSON that ends too soon": (plain(WHOLE[:50], content_type=JSON), ServerError, "its body is no JSON", True),
    "nothing": (plain(b"", content_type=JSON), ServerError, "its body is empty", True),
    "bytes that are no text": (plain(b"\xff\xfe\xfd", content_type=JSON), ServerError, "its body is no JSON", True),
    "JSON too deep to read": (plain(DEEP, content_type=JSON), ServerError, "Check the base URL", True),
    "an error too deep to read": (plain(DEEP, 500, content_type=JSON), ServerError, "Try again later", False),
    **{
        f"JSON of another shape: {shape}": (plain(shape, content_type=JSON), ServerError, "has not the shape", True)
        for shape in WRONG_SHAPES
    },
    "an error as 200": (
        plain({"error": {"message": "Take another model", "type": "invalid_request_error"}}),
        InvalidRequestError,
        "Take another model",
        False,
    ),
    "an error as 200 that says overloaded": (
        plain({"error": {"message": "Overloaded", "type": "overloaded_error"}}),
        ServerError,
        "Try again later",
        False,
    ),
    "gzip that is none": (
        plain(WHOLE, content_encoding="gzip", content_type=JSON),
        ServerError,
        "Content-Encoding",
        True,
    ),
    "gzip that ends too soon": (
        plain(gzip.compress(WHOLE)[:40], content_encoding="gzip", content_type=JSON),
        ServerError,
        "Content-Encoding|its body is",
        True,
    ),
    "a redirect": (
        plain("", 302, location="http://127.0.0.1:1/elsewhere"),
        ServerError,
        "redirects to http://127.0.0.1:1/elsewhere .*Check the base URL",
        False,
    ),
    "no answer": ([CLOSE], NetworkError, "Check|[Tt]ry", True),
    "half an answer": (
        [head(200, {"Content-Type": "application/json", "Content-Length": "5000"}) + WHOLE[:50], CLOSE],
        NetworkError,
        "Check|[Tt]ry",
        True,
    ),
    "what is not HTTP": ([b"SSH-2.0-OpenSSH_9.6\r\n\r\n", CLOSE], NetworkError, "Check|[Tt]ry", True),
    "a head without end": ([b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000, CLOSE], NetworkError, "Check|[Tt]ry", True),
}


@every_way
@pytest.mark.parametrize("case", WRONG_ANSWERS)
def test_what_is_no_answer_is_told(way: Way, case: str, calling: Calling, upstream: Upstream) -> None:
    """Whatever comes back instead of an answer: our error says so and what to do, and the next call works."""
    answer, kind, words, has_cause = WRONG_ANSWERS[case]
    upstream.will(answer)
    caller = calling(way)
    error = error_of(caller)
    assert type(error) is kind
    with pytest.raises(kind, match=words):
        raise error
    assert len(error.message) < 1500
    assert (error.__cause__ is not None) == has_cause
    assert len(error.attempts) == 1
    assert len(upstream.requests) == 1
    assert_still_works(caller, upstream)


@pytest.mark.parametrize("status", [200, 500])
def test_the_body_an_error_keeps_is_bounded(status: int, calling: Calling, upstream: Upstream) -> None:
    """Of a page of 2 MB an error keeps 64 KiB."""
    upstream.will(plain("<p>" * 700_000, status))
    error = error_of(calling(SYNC))
    assert isinstance(error, APIError)
    assert len(error.body) == 64 * 1024


@pytest.mark.parametrize("status", [200, 500])
def test_a_body_of_one_long_word_is_told_as_soon(status: int, calling: Calling, upstream: Upstream) -> None:
    """What to leave out of a message is found in time that grows with the text, not with its square."""
    upstream.will(plain("x" * 100_000, status))
    assert isinstance(error_of(calling(SYNC)), ServerError)


@every_way
def test_a_compressed_answer_is_read(way: Way, calling: Calling, upstream: Upstream) -> None:
    """The counterpart of the gzip that lies: one that does not."""
    upstream.will(zipped(completion("small")))
    assert calling(way).ask().text == "small"


streams = pytest.mark.parametrize("way", [Way(streamed=True), Way(is_async=True, streamed=True)], ids=str)
WRONG_STREAMS: dict[str, tuple[Answer, type[AistraleError], str]] = {
    "an event that is no JSON": (events("Hi", b'{"choices'), ServerError, "an event in its stream cannot be read"),
    "an event too deep to read": (events("Hi", DEEP), ServerError, "an event in its stream cannot be read"),
    "an event of another shape": (events("Hi", b"[]"), ServerError, "an event in its stream cannot be read"),
    "choices of another shape": (events(b'{"choices": 3}'), ServerError, "an event in its stream cannot be read"),
    "an error": (events("Hi", b'{"error": {"message": "Overloaded", "code": 503}}'), ServerError, "Try again later"),
    "what does not add up": (
        [*events("Hi", b'{"choices": [{"index": 0, "delta": {"tool_calls": "x"}}]}', b"[DONE]"), END_OF_BODY],
        ServerError,
        "Check the base URL",
    ),
    "no events": ([*events(), END_OF_BODY], StreamInterruptedError, "without a word that it was over"),
    "no end": ([*events("Hi"), END_OF_BODY], StreamInterruptedError, "without a word that it was over"),
}


@streams
@pytest.mark.parametrize("case", WRONG_STREAMS)
def test_a_stream_that_goes_wrong_is_told(way: Way, case: str, calling: Calling, upstream: Upstream) -> None:
    """Unreadable events, errors among events and missing ends are our errors, and the next stream works."""
    answer, kind, words = WRONG_STREAMS[case]
    upstream.will(answer)
    caller = calling(way)
    error = error_of(caller)
    assert type(error) is kind
    assert words in error.message
    assert_still_works(caller, upstream)


# Keys


def echoing(place: str, request: Request) -> list[Step]:
    """An answer that repeats the request's key in some place."""
    key = request.headers["authorization"]
    data = json.dumps(key).encode()
    answers: dict[str, list[Step]] = {
        "the message": failure(401, f"Incorrect API key provided: {key}"),
        "the code": failure(400, "no", code=key),
        "a message of parts": plain({"error": {"message": [{"detail": key}]}}, 422),
        "an error's text": plain({"error": f"bad {key}"}, 500),
        "an error as 200": plain({"error": {"message": f"bad {key}", "type": key}}),
        "a page as 502": plain(f"<html><title>{key}</title>{key}</html>", 502),
        "a page as 200": plain(f"<html><title>{key}</title>{key}</html>"),
        "a text as 500": plain(f"you sent {key}", 500, content_type="text/plain"),
        "broken JSON": plain(b'{"choices": ' + data, content_type=JSON),
        "JSON of another shape": plain({"choices": {key: key}}),
        "the location": plain("", 302, location=f"http://127.0.0.1:1/?key={key}"),
        "the content type": plain(HTML, content_type=f"text/html+{key.removeprefix('Bearer ')}"),
        "the request id": plain("{}", 500, x_request_id=key),
        "other headers": plain("{}", 500, retry_after=key, x_should_retry=key, www_authenticate=key),
        "the status line": [f"HTTP/1.1 500 {key}\r\nContent-Length: 0\r\n\r\n".encode()],
        "a broken status line": [f"HTTP/1.1 {key}\r\n\r\n".encode(), CLOSE],
        "a broken header": [f"HTTP/1.1 200 OK\r\n{key}\r\n\r\n".encode(), CLOSE],
        "gzip that is none": plain(data, content_encoding="gzip"),
        "an error among events": [*events(b'{"error": {"message": %b, "code": %b}}' % (data, data)), END_OF_BODY],
        "a broken event": [*events(b'{"choices": ' + data), END_OF_BODY],
        "an event of another shape": [*events(data), END_OF_BODY],
    }
    return answers[place]


PLACES = ["the message", "the code", "a message of parts", "an error's text", "an error as 200", "a page as 502"]
PLACES += ["a page as 200", "a text as 500", "broken JSON", "JSON of another shape", "the location", "the content type"]
PLACES += ["the request id", "other headers", "the status line", "a broken status line", "a broken header"]
PLACES += ["gzip that is none", "an error among events", "a broken event", "an event of another shape"]


@every_way
@pytest.mark.parametrize("place", PLACES)
def test_a_key_that_is_echoed_is_shown_nowhere(
    way: Way, place: str, calling: Calling, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever an answer repeats the key: no text, field, traceback or log line of ours does."""
    caplog.set_level(logging.DEBUG, logger="aistrale")
    upstream.will(lambda request: echoing(place, request))
    error = error_of(calling(way))
    assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert_holds_no_key(repr(error.attempts))
    ours = [record for record in caplog.records if record.name == "aistrale"]
    assert ours
    assert_holds_no_key("\n".join(logging.Formatter().format(record) for record in ours))


@pytest.mark.parametrize("shown", range(12, len(KEY), 3))
@pytest.mark.parametrize(("status", "limit"), [(500, 600), (500, 64 * 1024), (200, 64 * 1024)])
def test_a_key_that_a_limit_cuts_is_not_shown_in_part(
    status: int, limit: int, shown: int, calling: Calling, upstream: Upstream
) -> None:
    """Where a long answer is cut in the middle of the key, the first half is not left standing."""
    upstream.will(plain("-" * (limit - shown) + KEY + "-" * 100, status, content_type="text/plain"))
    error_of(calling(SYNC))


@every_way
def test_credentials_in_a_base_url_are_shown_nowhere(
    way: Way, closed_port: int, calling: Calling, upstream: Upstream
) -> None:
    """What stands before the @ of an address is for its server only."""
    caller = calling(way)
    upstream.will(failure(404), plain(HTML), [CLOSE])
    for host in (f"127.0.0.1:{closed_port}", upstream.host, upstream.host, upstream.host, "no-such-host.invalid"):
        error = error_of(caller, **elsewhere(f"http://someone:hunter2-hunter2@{host}/v1"))
        assert_holds_no_key(everything_shown(error), "hunter2-hunter2")


@pytest.mark.parametrize("name", ["response_format", "tools"])
def test_a_class_that_has_no_schema_is_refused(name: str, calling: Calling, upstream: Upstream) -> None:
    """A class pydantic cannot describe is our error, with pydantic's as its cause."""

    class Odd(BaseModel):
        model_config = {"arbitrary_types_allowed": True}
        client: aistrale.Client

    error = error_of(calling(SYNC), **{name: Odd if name == "response_format" else [Odd]})
    assert type(error) is InvalidRequestError
    assert error.__cause__ is not None
    assert upstream.requests == []
