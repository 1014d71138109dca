"""A cache in the books: what one process was answered, all are."""

import json
import time
import zlib
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from callers import ASYNC_STREAM, KEY, SYNC, Calling, Way, our_ways
from keeping import charging, on_sqlite
from programs import printed, run_program
from sqlalchemy import select, update
from upstream import Step, Upstream, completion, events, plain, stream

from aistrale import (
    Client,
    Completion,
    ConfigurationError,
    MemoryCache,
    StoreCache,
    ToolCall,
    Usage,
    budgets,
    telemetry,
)
from aistrale import events as event_log
from aistrale.gateway.cache import AWAY_SECONDS
from aistrale.store.schema import response_cache
from aistrale.store.store import Store

CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}

# Answers, whole and as streams


def openai_tool_call() -> dict[str, Any]:
    body = completion(finish_reason="tool_calls")
    body["choices"][0]["message"] = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    return body


def anthropic(*, streamed: bool = False) -> list[Step]:
    """A text, a thought and a call of a tool, of an answer that read from the provider's cache."""
    usage = {"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 10}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test", "stop_sequence": None}
    blocks: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"type": "thinking", "thinking": "", "signature": "c2ln"}, {"type": "thinking_delta", "thinking": "Hm."}),
        ({"type": "text", "text": ""}, {"type": "text_delta", "text": "Let me see. \u2028"}),
        (
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
            {"type": "input_json_delta", "partial_json": '{"city": "Oslo"}'},
        ),
    ]
    if not streamed:
        content = [
            {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
            {"type": "text", "text": "Let me see. \u2028"},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}},
        ]
        return plain({**head, "content": content, "stop_reason": "tool_use", "usage": usage})
    pieces: list[Any] = [{"type": "message_start", "message": {**head, "content": [], "usage": usage}}]
    for index, (start, delta) in enumerate(blocks):
        pieces += [
            {"type": "content_block_start", "index": index, "content_block": start},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    pieces += [
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    ]
    return [*events(*(json.dumps(piece).encode() for piece in pieces)), b"0\r\n\r\n"]


def said(answer: Completion) -> dict[str, Any]:
    """All that an answer says, apart from how this call of it went."""
    names = (
        "message",
        "choices",
        "text",
        "reasoning",
        "tool_calls",
        "usage",
        "finish_reason",
        "model",
        "provider",
        "id",
    )
    return {name: getattr(answer, name) for name in names}


def cached_answers(store: Store) -> list[Any]:
    with store.database.read() as connection:
        return list(connection.execute(select(response_cache)))


def age(store: Store, column: str, seconds: float, **of: str) -> None:
    """Have answers be kept, or used, so much earlier than they were."""
    changed = update(response_cache).values({column: response_cache.c[column] - round(seconds * 1e9)})
    for name, value in of.items():
        changed = changed.where(response_cache.c[name] == value)
    with store.database.write() as connection:
        connection.execute(changed)


# Hits


@our_ways
@pytest.mark.usefixtures("store")
def test_the_same_request_is_answered_from_the_books(upstream: Upstream, calling: Calling, way: Way) -> None:
    """By another client as well: it costs nothing, and nothing is sent."""
    first = calling(way, cache=StoreCache()).ask("Hello")
    again = calling(way, cache=StoreCache()).ask("Hello")

    assert (first.cached, again.cached, again.cost, again.attempts) == (False, True, 0, ())
    assert len(upstream.requests) == 1
    assert calling(way, cache=StoreCache()).ask("Good bye").text == "Good bye"
    assert len(upstream.requests) == 2


@pytest.mark.usefixtures("store")
def test_another_process_is_answered_without_a_request(upstream: Upstream, calling: Calling, tmp_path: Path) -> None:
    """Sync or async, whole or as a stream."""
    calling(SYNC, cache=StoreCache()).ask("Hello there")
    program = f"""
        import asyncio
        import aistrale
        options = dict(
            provider="openai", model="gpt-test", api_key={KEY!r}, base_url={upstream.url!r}, cache=aistrale.StoreCache()
        )
        client, async_client = aistrale.Client(**options), aistrale.AsyncClient(**options)
        print(client.run("Hello there").cached, [chunk.text for chunk in client.stream("Hello there")])

        async def main():
            print((await async_client.run("Hello there")).cached)
            print([chunk.text async for chunk in async_client.stream("Hello there")])

        asyncio.run(main())
    """
    assert printed(program, cwd=tmp_path) == "True ['Hello there']\nTrue\n['Hello there']\n"
    assert len(upstream.requests) == 1


@on_sqlite
@pytest.mark.parametrize("second", [SYNC, ASYNC_STREAM], ids=str)
@pytest.mark.parametrize("first", [SYNC, ASYNC_STREAM], ids=str)
@pytest.mark.parametrize("kind", ["text", "tool call", "anthropic"])
def test_a_hit_says_what_the_first_answer_said(
    store: Store, upstream: Upstream, calling: Calling, kind: str, first: Way, second: Way
) -> None:
    """Text, thoughts, tool calls, usage and finish reason, however either was asked for."""
    options: dict[str, Any] = {"cache": StoreCache()}
    match kind:
        case "text":
            upstream.will(stream("One ", "two") if first.streamed else plain(completion("One two")))
        case "tool call":
            upstream.will(plain(openai_tool_call()))
        case _:
            upstream.will(anthropic(streamed=first.streamed))
            options |= {"provider": "anthropic", "model": "claude-test"}

    answer, hit = calling(first, **options).ask("Hello"), calling(second, **options).ask("Hello")

    assert said(hit) == said(answer)
    assert hit.cached
    if kind == "anthropic":
        assert hit.usage == Usage(115, 7, 100, 10)
        assert hit.tool_calls == (ToolCall("toolu_1", "weather", hit.tool_calls[0].arguments),)
        assert hit.tool_calls[0].args == {"city": "Oslo"}
    assert len(upstream.requests) == 1


@pytest.mark.usefixtures("store")
def test_another_key_is_another_answer(upstream: Upstream, calling: Calling) -> None:
    """What one account was answered is not told to another; nor is it where the key can be read."""
    calling(SYNC, cache=StoreCache()).ask("Hello")
    calling(SYNC, cache=StoreCache(), api_key="sk-another").ask("Hello")
    assert len(upstream.requests) == 2


def test_what_is_kept_holds_neither_the_key_nor_the_prompt(store: Store, upstream: Upstream, calling: Calling) -> None:
    """Only the provider's answer."""
    upstream.will(plain(completion("An answer")))
    calling(SYNC, cache=StoreCache()).ask("The question")
    ((row),) = cached_answers(store)
    aside = repr(tuple(row))
    assert KEY not in aside
    assert row.size == len(row.completion)
    assert b"question" not in zlib.decompress(row.completion)


@pytest.mark.parametrize("finish_reason", ["length", "content_filter"])
def test_answers_that_were_cut_short_are_not_kept(
    store: Store, upstream: Upstream, calling: Calling, finish_reason: str
) -> None:
    """The next call may do better."""
    upstream.default = plain(completion(finish_reason=finish_reason))
    caller = calling(SYNC, cache=StoreCache())
    assert [caller.ask().cached for _ in range(2)] == [False, False]
    assert cached_answers(store) == []


@our_ways
def test_a_hit_is_a_span_that_costs_nothing(keeping: Store, upstream: Upstream, calling: Calling, way: Way) -> None:
    """Marked cached; budgets and sums count what the first answer cost, once."""
    budgets.set("b", 10)
    upstream.will(charging(1))
    caller = calling(way, cache=StoreCache())
    assert [caller.ask().cached for _ in range(3)] == [False, True, True]

    assert [(span.cached, span.cost) for span in telemetry.query()] == [(True, 0), (True, 0), (False, 1)]
    assert [spend.spent for spend in budgets.spent("b")] == [1]
    (total,) = telemetry.summary()
    assert (total.calls, total.cost, total.unpriced) == (3, 1, 0)
    assert [event.data["cached"] for event in event_log.list(type="inference.completed")] == [False, True, True]


@pytest.mark.parametrize("options", [{}, {"cache": None}, {"cache": True}, {"cache": MemoryCache()}], ids=str)
def test_who_does_not_ask_for_it_leaves_no_answer_in_the_books(
    keeping: Store, calling: Calling, options: dict[str, Any]
) -> None:
    """Though they are kept, and though a cache in memory has it."""
    caller = calling(SYNC, **options)
    assert [caller.ask().text for _ in range(2)] == ["Hello"] * 2
    assert len(telemetry.query()) == 2
    assert cached_answers(keeping) == []


# Bounds


def test_an_answer_is_good_for_so_long(store: Store, upstream: Upstream, calling: Calling) -> None:
    """Then it is asked for anew, and the new one is kept in its place."""
    caller = calling(SYNC, cache=StoreCache(ttl=60))
    caller.ask("Hello")
    age(store, "stored", 59)
    assert caller.ask("Hello").cached
    age(store, "stored", 2)
    assert not caller.ask("Hello").cached
    assert caller.ask("Hello").cached
    assert len(cached_answers(store)) == 1


def test_the_least_recently_used_go_first(store: Store, upstream: Upstream, calling: Calling) -> None:
    """When all together are larger than they may be."""
    upstream.default = plain(completion("Always the same"))
    measuring = calling(SYNC, cache=StoreCache())
    measuring.ask("a")
    ((row),) = cached_answers(store)
    caller = calling(SYNC, cache=StoreCache(max_bytes=3 * row.size + 20))
    for prompt in ("b", "c"):
        caller.ask(prompt)
    age(store, "used", 3600)
    assert caller.ask("a").cached  # which is now the last one used
    assert not caller.ask("d").cached

    assert [caller.ask(prompt).cached for prompt in ("a", "d")] == [True, True]
    assert len(cached_answers(store)) == 3
    assert len(upstream.requests) == 4
    kept = sum(row.size for row in cached_answers(store))
    assert kept <= 3 * row.size + 20


def test_an_answer_larger_than_the_cache_is_not_kept(store: Store, calling: Calling) -> None:
    """Nor does it drive out the others."""
    calling(SYNC, cache=StoreCache()).ask("small")
    assert not calling(SYNC, cache=StoreCache(max_bytes=10)).ask("large").cached
    assert len(cached_answers(store)) == 1


# Books that cannot be read


@pytest.mark.parametrize("way", [SYNC, ASYNC_STREAM], ids=str)
@pytest.mark.usefixtures("unreadable")
def test_books_that_cannot_be_read_give_no_hit_and_no_error(upstream: Upstream, calling: Calling, way: Way) -> None:
    """The provider is asked."""
    caller = calling(way, cache=StoreCache())
    assert [(answer.text, answer.cached) for answer in (caller.ask("Hello"), caller.ask("Hello"))] == [
        ("Hello", False)
    ] * 2
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("unreadable", ["damaged", "refused"], indirect=True)
@pytest.mark.usefixtures("unreadable")
def test_books_that_cannot_be_read_are_told_of(upstream: Upstream, tmp_path: Path) -> None:
    """By one warning, which says why, however many calls there are."""
    program = """
        import logging, sys
        logging.basicConfig()
        import aistrale
        options = dict(provider="openai", model="gpt-test", api_key="k", base_url=sys.argv[1])
        client = aistrale.Client(cache=aistrale.StoreCache(), **options)
        print([client.run("Hello").text for _ in range(3)])
    """
    done = run_program(program, cwd=tmp_path, arguments=(upstream.url,))
    assert (done.returncode, done.stdout) == (0, f"{['Hello'] * 3}\n"), done.stderr
    (warning,) = [line for line in done.stderr.splitlines() if "the cache cannot be read" in line]
    assert warning.startswith("WARNING:aistrale:the cache cannot be read: ")


@pytest.mark.usefixtures("upstream")
def test_locked_books_slow_no_call(store: Store, calling: Calling) -> None:
    """Another process writes and does not come to an end: answers are not kept, and only one waits to find out."""
    caller = calling(SYNC, cache=StoreCache())
    assert not caller.ask("kept").cached
    with store.database.write():
        assert caller.ask("kept").cached  # reading goes on
        started = monotonic()
        assert not caller.ask("first").cached
        assert monotonic() - started < 1.0
        started = monotonic()
        assert [caller.ask(str(number)).cached for number in range(20)] == [False] * 20
        assert monotonic() - started < 1.0
    assert len(cached_answers(store)) == 1


def test_books_that_failed_are_left_alone_for_a_while(
    store: Store, upstream: Upstream, calling: Calling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is kept by the cache that met the failure, until AWAY_SECONDS are over; what is there it still gives."""
    caller, other = calling(SYNC, cache=StoreCache()), calling(SYNC, cache=StoreCache())
    with store.database.write():
        caller.ask("Hello")
    assert [caller.ask("Hello").cached for _ in range(2)] == [False, False]
    assert [other.ask("Hello").cached for _ in range(2)] == [False, True]
    assert caller.ask("Hello").cached
    assert len(upstream.requests) == 4

    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + AWAY_SECONDS)
    assert [caller.ask("Bye").cached for _ in range(2)] == [False, True]


def test_an_old_hit_waits_for_no_writer(store: Store, calling: Calling) -> None:
    """Its use is noted if that can be done at once."""
    caller = calling(SYNC, cache=StoreCache())
    caller.ask("Hello")
    with store.database.write() as connection:
        connection.execute(update(response_cache).values(used=0))
    with store.database.write():
        started = monotonic()
        assert all(caller.ask("Hello").cached for _ in range(10))
        assert monotonic() - started < 1.0


ODD = [
    b"",
    b"no zlib",
    *map(zlib.compress, [b"", b"no JSON", b"5", b"{}", b'{"provider": "openai", "model": 5, "body": 5}']),
]


@on_sqlite
@pytest.mark.parametrize("kept", ODD, ids=range(len(ODD)))
def test_a_kept_answer_that_cannot_be_read_is_none(
    store: Store, upstream: Upstream, calling: Calling, kept: bytes
) -> None:
    """Damaged, or of another release: it is asked for anew, and the new answer takes its place."""
    caller = calling(SYNC, cache=StoreCache())
    caller.ask("Hello")
    with store.database.write() as connection:
        connection.execute(update(response_cache).values(completion=kept))

    answer = caller.ask("Hello")

    assert (answer.text, answer.cached) == ("Hello", False)
    assert caller.ask("Hello").cached


@pytest.mark.parametrize("ttl", [0, -1, float("inf"), float("nan"), 1e300])
def test_a_time_that_is_none_is_refused_at_once(ttl: float) -> None:
    """Not by the first call."""
    with pytest.raises(ConfigurationError, match="ttl"):
        StoreCache(ttl=ttl)


def test_answers_are_forgotten(keeping: Store, upstream: Upstream) -> None:
    """All of them at once, or those that are older than what is kept."""
    cache = StoreCache()
    client = Client(model="openai/m", base_url=upstream.url, api_key="sk", cache=cache)
    for forget in (cache.clear, lambda: telemetry.purge("0s")):
        upstream.will(plain(completion("Hello")), plain(completion("Hello")))
        assert not client.run("Hello").cached
        assert client.run("Hello").cached
        forget()
