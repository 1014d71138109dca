"""Threads, forks, event loops, cancellation and upstreams that die: nothing leaks or hangs, the next call works."""

import asyncio
import gc
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from callers import (
    ASYNC,
    ASYNC_STREAM,
    EVERY_WAY,
    KEY,
    OWN_ASYNC,
    OWN_ASYNC_STREAM,
    SYNC,
    SYNC_STREAM,
    Caller,
    Calling,
    Way,
    elsewhere,
    every_stream,
    every_way,
    our_ways,
    sync_and_async,
)
from programs import run_program
from tenacity import wait_none
from upstream import (
    BOUND,
    CLOSE,
    END_OF_BODY,
    HANG,
    RESET,
    Answer,
    Gate,
    Step,
    Upstream,
    completion,
    dripping,
    events,
    finish,
    head,
    plain,
    stream,
)

import aistrale
from aistrale import (
    AsyncClient,
    Client,
    NetworkError,
    RequestTimeoutError,
    RetryPolicy,
    StreamInterruptedError,
    Timeout,
)

AT_ONCE = RetryPolicy(max_retries=2, wait=wait_none())


def options(upstream: Upstream, **more: Any) -> Any:
    """What a client of the upstream is made with."""
    return {"provider": "openai", "model": "gpt-test", "api_key": KEY, "base_url": upstream.url, **more}


@pytest.fixture
def client(upstream: Upstream) -> Iterator[Client]:
    with Client(**options(upstream)) as client:
        yield client


@pytest.fixture
async def async_client(upstream: Upstream) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(**options(upstream)) as client:
        yield client


async def reached(wait: Any, *arguments: Any) -> None:
    """Wait for an event of the upstream without holding up the event loop."""
    await asyncio.to_thread(wait, *arguments)


# Many at once


@sync_and_async
def test_a_thousand_calls_in_a_row_use_one_connection(way: Way, calling: Calling, upstream: Upstream) -> None:
    """A connection is used again as long as it stands."""
    caller = calling(way)
    for number in range(1000):
        assert caller.ask(f"call {number}").text == f"call {number}"
    assert (upstream.accepted, len(upstream.requests)) == (1, 1000)


@every_stream
def test_streams_use_one_connection_too(way: Way, calling: Calling, upstream: Upstream) -> None:
    """A stream read to its end gives its connection back, and the next takes it."""
    caller = calling(way)
    for number in range(10):
        assert caller.ask(f"one two {number}").text == f"one two {number}"
    assert upstream.accepted == 1


def test_threads_share_a_client(client: Client, upstream: Upstream) -> None:
    """32 threads at once, whole and streamed: each gets its own answers, and no connection is lost."""

    def ask(thread: int) -> bool:
        texts = [f"thread {thread} call {number}" for number in range(10)]
        whole = [client.run(text).text for text in texts]
        return whole == texts == [client.stream(text).until_done().text for text in texts]

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(ask, range(32)))
    assert upstream.accepted <= 32
    upstream.wait_until_open(upstream.accepted)


def test_short_lived_threads_find_the_connection_open(client: Client, upstream: Upstream) -> None:
    """The pool is the client's, not a thread's."""
    for number in range(10):
        thread = threading.Thread(target=client.run, args=(f"call {number}",))
        thread.start()
        thread.join(BOUND)
    assert (upstream.accepted, len(upstream.requests)) == (1, 10)


@pytest.fixture
def many_files() -> Iterator[None]:
    """Enough file descriptors for both ends of many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("streamed", [False, True])
async def test_500_tasks_share_a_client(streamed: bool, async_client: AsyncClient, upstream: Upstream) -> None:
    """asyncio.gather of 500 calls: each gets its own answer, then 500 more over the same connections."""

    async def ask(number: int) -> str:
        if streamed:
            return (await async_client.stream(f"call {number}").until_done()).text
        return (await async_client.run(f"call {number}")).text

    for _ in range(2):
        assert await asyncio.gather(*map(ask, range(500))) == [f"call {number}" for number in range(500)]
    assert upstream.accepted <= 500


def test_one_client_serves_one_event_loop_after_another(upstream: Upstream) -> None:
    """The same object over three asyncio.run, whole and streamed: each loop's connections end with it."""
    client = AsyncClient(**options(upstream))

    async def ask() -> None:
        texts = [f"call {number}" for number in range(5)]
        assert [(await client.run(text)).text for text in texts] == texts
        assert [(await client.stream(text).until_done()).text for text in texts] == texts

    for number in range(1, 4):
        asyncio.run(ask())
        upstream.wait_until_open(0)
        assert upstream.accepted == number


def test_event_loops_in_threads_share_a_client(upstream: Upstream) -> None:
    """Eight event loops at once use the same object."""
    client = AsyncClient(**options(upstream))

    async def ask(thread: int) -> list[str]:
        return [(await client.run(f"thread {thread} call {number}")).text for number in range(5)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda thread: asyncio.run(ask(thread)), range(8)))
    assert answers == [[f"thread {thread} call {number}" for number in range(5)] for thread in range(8)]
    upstream.wait_until_open(0)


# Other processes


TESTS = Path(__file__).parent


IN_A_CHILD = """
import asyncio, os, sys, threading, traceback, warnings
import aistrale

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
options = dict(provider="openai", model="gpt-test", api_key="sk-child", base_url=sys.argv[1])

def child(work):
    pid = os.fork()
    if not pid:
        status = 1
        try:
            status = 0 if work() else 2
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
FORKS = {
    "sync": """
client = aistrale.Client(**options)
assert client.run("parent").text == "parent"
child(lambda: client.run("child").text == "child" == client.stream("child").until_done().text)
assert client.run("parent again").text == "parent again"
""",
    "after a stream": """
client = aistrale.Client(**options)
assert client.stream("parent").until_done().text == "parent"
child(lambda: client.stream("child").until_done().text == "child" == client.run("child").text)
assert client.stream("parent again").until_done().text == "parent again"
""",
    "of a child": """
client = aistrale.Client(**options)
assert client.run("parent").text == "parent"
def work():
    assert client.run("child").text == "child"
    child(lambda: client.run("grandchild").text == "grandchild")
    return client.run("child again").text == "child again"
child(work)
assert client.run("parent again").text == "parent again"
""",
    "async": """
client = aistrale.AsyncClient(**options)
async def ask(text):
    return (await client.run(text)).text == text == (await client.stream(text).until_done()).text
with asyncio.Runner() as runner:
    assert runner.run(ask("parent"))
    child(lambda: asyncio.run(ask("child")))
    assert runner.run(ask("parent again"))
""",
    "that closes the client": """
client = aistrale.Client(**options)
assert client.run("parent").text == "parent"
child(lambda: client.close() or client.run("child").text == "child")
assert client.run("parent again").text == "parent again"
""",
    "that closes a stream": """
client = aistrale.Client(**options)
stream = client.stream("one two three")
assert next(stream).text == "one "
child(lambda: stream.close() or client.run("child").text == "child")
assert stream.until_done().text == "one two three"
""",
    "while threads call": """
client = aistrale.Client(**options)
assert client.run("thread").text == "thread" == client.stream("thread").until_done().text
done = threading.Event()
def ask():
    while not done.is_set():
        assert client.run("thread").text == "thread"
threads = [threading.Thread(target=ask) for _ in range(4)]
for thread in threads:
    thread.start()
try:
    for _ in range(10):
        child(lambda: client.run("child").text == "child" == client.stream("child").until_done().text)
finally:
    done.set()
for thread in threads:
    thread.join()
""",
}


@pytest.mark.parametrize("fork", FORKS)
def test_a_client_works_on_after_a_fork(fork: str, upstream: Upstream) -> None:
    """A child uses its parent's warm client over connections of its own; the parent's stand as they stood."""
    done = run_program(IN_A_CHILD + FORKS[fork], cwd=TESTS, arguments=(upstream.url,))
    assert (done.returncode, done.stderr) == (0, "")
    connections = {text: set[int]() for text in ("parent", "child")}
    for request in upstream.requests:
        who = request.body["messages"][0]["content"].split()[0]
        connections.get(who, set()).add(request.connection)
    assert not connections["parent"] & connections["child"]
    assert len(connections["parent"]) <= 1
    upstream.wait_until_open(0)


UNCLOSED = """
import asyncio, logging, sys
import aistrale

logging.getLogger("asyncio").setLevel(logging.ERROR)  # -X dev has it warn of slow callbacks

options = dict(provider="openai", model="gpt-test", api_key="sk-exit", base_url=sys.argv[1])
client, async_client = aistrale.Client(**options), aistrale.AsyncClient(**options)
aistrale.configure(**options)
print(client.run("Hello").text, aistrale.run("Hello").text)
print(client.stream("one two").until_done().text, *[chunk.text for chunk in aistrale.stream("one two")])
left = client.stream("one two three")
print(next(left).text)

async def ask():
    print(await async_client.run("Hello"), await aistrale.run_async("Hello"))
    async for chunk in async_client.stream("one two"):
        print(chunk.text)
    async for chunk in aistrale.stream_async("one two three"):
        print(chunk.text)
        break
    await asyncio.gather(*(async_client.run(f"call {number}") for number in range(10)))
    return async_client.stream("one two three")

async def leave_open():
    stream = await ask()
    print((await anext(stream)).text)
    return stream

for _ in range(3):
    kept = asyncio.run(leave_open())
asyncio.run(ask())
"""


def test_nothing_is_said_at_exit(upstream: Upstream) -> None:
    """A program that closes nothing ends without a warning: sync, async, streams, over several event loops."""
    done = run_program(UNCLOSED, cwd=TESTS, env={"PYTHONDEVMODE": "1"}, arguments=(upstream.url,))
    assert (done.returncode, done.stderr) == (0, "")
    upstream.wait_until_open(0)


OUTLIVED = """
import asyncio, logging, sys
import aistrale

logging.getLogger("asyncio").setLevel(logging.ERROR)  # as above

async def leave_open():
    options = dict(provider="openai", model="gpt-test", api_key="sk-exit", base_url=sys.argv[1])
    stream = aistrale.AsyncClient(**options).stream("Hello")
    print((await anext(stream)).text)
    return stream

stream = asyncio.run(leave_open())
del stream
kept = asyncio.run(leave_open())
"""


def test_nothing_is_said_of_streams_that_outlive_their_event_loop(upstream: Upstream) -> None:
    """Not even of those that had not arrived whole."""
    upstream.default = events("One ", HANG)
    done = run_program(OUTLIVED, cwd=TESTS, env={"PYTHONDEVMODE": "1"}, arguments=(upstream.url,))
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "One \nOne \n")
    upstream.wait_until_open(0)


FORGOTTEN = """
import asyncio, gc, sys
import aistrale

async def forget(is_part_of_itself: bool) -> None:
    client = aistrale.AsyncClient(base_url=sys.argv[1], model="openai/m", api_key="k", telemetry=False)
    if is_part_of_itself:
        client.itself = client
    await client.run("Hello")

async def main() -> None:
    for is_part_of_itself in (False, True):
        await forget(is_part_of_itself)
        gc.collect()
    await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


def test_nothing_is_said_of_clients_that_are_forgotten_while_their_event_loop_runs(upstream: Upstream) -> None:
    """Their connections are closed in that loop, whoever forgets them."""
    upstream.default = plain(completion())
    command = [sys.executable, "-W", "error", "-c", FORGOTTEN, upstream.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        upstream.wait_for_requests(2)
        upstream.wait_until_open(0)
        _, said = process.communicate("")
    assert (process.returncode, said) == (0, "")


SERVE = """
import sys
from upstream import HANG, Upstream, events

upstream = Upstream()
upstream.default = events("One ", "two ", HANG)
with upstream.running():
    print(upstream.url, flush=True)
    sys.stdin.read()
"""


@every_stream
def test_a_stream_whose_server_is_killed_tells_what_had_arrived(way: Way, calling: Calling) -> None:
    """SIGKILL to the upstream's process ends the stream in StreamInterruptedError with the text so far."""
    command = [sys.executable, "-c", SERVE]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=TESTS, stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdout is not None
        caller = calling(way, base_url=server.stdout.readline().strip(), callbacks=[KillAt("two ", server)])
        with pytest.raises(StreamInterruptedError) as caught:
            caller.ask()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "One two "
    assert len(caught.value.attempts) == 1


class KillAt(aistrale.CallbackHandler):
    """Kills a process once a certain text has arrived."""

    def __init__(self, text: str, process: subprocess.Popen[str]) -> None:
        self.text, self.process = text, process

    def on_token(self, call: aistrale.Call, chunk: aistrale.Chunk) -> None:
        if chunk.text == self.text:
            self.process.kill()


# Streams that break

BREAKS: dict[str, list[Step]] = {
    "reset": [RESET],
    "closed": [CLOSE],
    "closed in an event": [b'40\r\ndata: {"choices', CLOSE],
    "ended without a word": [END_OF_BODY],
    "silent": [HANG],
}


@every_stream
@pytest.mark.parametrize("end", BREAKS)
def test_a_stream_that_breaks_is_not_retried(way: Way, end: str, calling: Calling, upstream: Upstream) -> None:
    """After the first token there is no second try, but the error holds the text so far."""
    gate = Gate()
    upstream.will([*events("One ", "two "), gate, *BREAKS[end]])
    caller = calling(way, retry=AT_ONCE, fallbacks=["openai/gpt-other"], callbacks=[OpenAt("two ", gate)])
    with pytest.raises(StreamInterruptedError) as caught:
        caller.ask(timeout=Timeout(read=0.2))
    assert caught.value.partial is not None
    assert caught.value.partial.text == "One two "
    assert caught.value.partial.provider == "openai"
    assert caught.value.provider == "openai"
    assert (caught.value.__cause__ is None) == (end == "ended without a word")
    assert isinstance(caught.value.__cause__, RequestTimeoutError) == (end == "silent")
    assert len(caught.value.attempts) == len(upstream.requests) == 1
    assert caller.ask("and now?").text == "and now?"


class OpenAt(aistrale.CallbackHandler):
    """Opens a gate once a certain text has arrived."""

    def __init__(self, text: str, gate: Gate) -> None:
        self.text, self.gate = text, gate

    def on_token(self, call: aistrale.Call, chunk: aistrale.Chunk) -> None:
        if chunk.text == self.text:
            self.gate.open()


ROLE = b'{"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}'


@every_stream
@pytest.mark.parametrize("end", BREAKS)
@pytest.mark.parametrize("start", [events(), events(ROLE)], ids=["nothing", "a role"])
def test_a_stream_that_breaks_before_its_first_token_is_retried(
    way: Way, start: list[Step], end: str, calling: Calling, upstream: Upstream
) -> None:
    """As long as the caller has seen nothing, a broken stream is asked for again."""
    upstream.will([*start, *BREAKS[end]])
    completion = calling(way, retry=AT_ONCE).ask("One two", timeout=Timeout(read=0.2))
    assert completion.text == "One two"
    assert len(completion.attempts) == len(upstream.requests) == 2


@every_stream
def test_what_breaks_before_anything_arrived_is_no_partial_answer(
    way: Way, calling: Calling, upstream: Upstream
) -> None:
    """`partial` is None if nothing had arrived."""
    upstream.will([*events(), END_OF_BODY])
    with pytest.raises(StreamInterruptedError) as caught:
        calling(way, max_retries=0).ask()
    assert caught.value.partial is None


@every_stream
@pytest.mark.parametrize("over", [finish(), finish()[:1]], ids=["DONE", "a finish reason"])
@pytest.mark.parametrize("end", [CLOSE, RESET])
def test_a_stream_that_was_over_may_break(
    way: Way, over: list[Step], end: Step, calling: Calling, upstream: Upstream
) -> None:
    """Once the provider said how the answer ends, a lost end of the body loses nothing."""
    upstream.will([*events("One ", "two"), *over, 0.05, end])
    caller = calling(way, max_retries=0)
    completion = caller.ask()
    assert (completion.text, completion.finish_reason) == ("One two", "stop")
    gc.collect()  # a connection that was not closed would say so here
    assert caller.ask("and now?").text == "and now?"


@every_stream
def test_a_stream_ends_with_its_last_word(way: Way, calling: Calling, upstream: Upstream) -> None:
    """A server that says [DONE] and never ends the body does not hold up the completion, nor the next call."""
    upstream.will([*events("One ", "two"), *finish(), HANG])
    caller = calling(way)
    started = time.monotonic()
    assert caller.ask().text == "One two"
    assert time.monotonic() - started < 2
    assert caller.ask("and now?").text == "and now?"
    upstream.wait_until_open(1)


# Streams that are left


@pytest.mark.parametrize("leave", ["close", "with", "forget", "raise"])
def test_a_stream_that_is_left_closes_its_connection(leave: str, client: Client, upstream: Upstream) -> None:
    """Closing, leaving the block, forgetting the stream and failing while reading: the server sees it end."""
    upstream.will(events("One ", "two ", HANG))
    chunks = client.stream("Hello")
    assert next(chunks).text == "One "
    if leave == "close":
        chunks.close()
    elif leave == "forget":
        del chunks
    else:
        with suppress(ZeroDivisionError), chunks:
            assert leave == "with" or 1 / 0
    upstream.wait_until_open(0)
    assert client.run("and now?").text == "and now?"


@pytest.mark.parametrize("leave", ["close", "with", "forget", "raise"])
async def test_an_async_stream_that_is_left_closes_its_connection(
    leave: str, async_client: AsyncClient, upstream: Upstream
) -> None:
    """The same for async code."""
    upstream.will(events("One ", "two ", HANG))
    chunks = async_client.stream("Hello")
    assert (await anext(chunks)).text == "One "
    if leave == "close":
        await chunks.aclose()
    elif leave == "forget":
        del chunks
    else:
        with suppress(ZeroDivisionError):
            async with chunks:
                assert leave == "with" or 1 / 0
    await reached(upstream.wait_until_open, 0)
    assert (await async_client.run("and now?")).text == "and now?"


def test_a_stream_forgotten_in_another_thread_closes_its_connection(upstream: Upstream) -> None:
    """An async stream whose last reference goes elsewhere than in its event loop is closed by that loop."""
    upstream.will(events("One ", HANG))

    async def main() -> None:
        kept = [AsyncClient(**options(upstream)).stream("Hello")]
        await anext(kept[0])
        await asyncio.to_thread(kept.clear)
        await reached(upstream.wait_until_open, 0)

    asyncio.run(main())


def test_a_stream_nobody_read_sends_nothing(client: Client, upstream: Upstream) -> None:
    """The request is sent at the first iteration; closing or forgetting a stream before it costs nothing."""
    client.stream("Hello").close()
    with client.stream("Hello"):
        pass
    del client
    gc.collect()
    assert upstream.requests == []


# Cancellation and interrupts


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_cancelled_while_it_waits_closes_its_connection(
    async_client: AsyncClient, upstream: Upstream
) -> None:
    """Cancelled before the head of the answer, and in the middle of its body."""
    answers: list[list[Step]] = [[HANG], [head(200, {"Content-Length": "500"}) + b"half", HANG]]
    for answer in answers:
        upstream.will(answer)
        seen = len(upstream.requests)
        task = asyncio.create_task(async_client.run("Hello"))
        await reached(upstream.wait_for_requests, seen + 1)
        await cancel(task)
        await reached(upstream.wait_until_open, 0)
        assert len(upstream.requests) == seen + 1
    assert (await async_client.run("and now?")).text == "and now?"
    await reached(upstream.wait_until_open, 1)


async def test_a_stream_cancelled_while_it_waits_closes_its_connection(
    async_client: AsyncClient, upstream: Upstream
) -> None:
    """Cancelled between two tokens: the connection goes, other streams and the next call do not notice."""
    gate = Gate()
    upstream.will(stream("One ", gate, "two"), events("One ", HANG))
    other, left = async_client.stream("Hello"), async_client.stream("Hello")
    await anext(other)
    await anext(left)
    task = asyncio.create_task(anext(left))
    await asyncio.sleep(0)
    await cancel(task)
    await reached(upstream.wait_until_open, 1)
    gate.open()
    assert (await other.until_done()).text == "One two"
    assert (await async_client.run("and now?")).text == "and now?"
    assert upstream.accepted == 2


async def test_500_cancelled_calls_leave_nothing_behind(
    many_files: None, async_client: AsyncClient, upstream: Upstream
) -> None:
    """A gather of 500 that is cancelled as a whole closes 500 connections, and the client works on."""
    upstream.default = [HANG]
    tasks = [asyncio.create_task(async_client.run("Hello")) for _ in range(500)]
    await reached(upstream.wait_for_requests, 500)
    for task in tasks:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends)
    await reached(upstream.wait_until_open, 0)
    upstream.default = plain(completion("fine"))
    assert (await async_client.run("and now?")).text == "fine"


async def test_a_retry_that_waits_can_be_cancelled(upstream: Upstream) -> None:
    """Cancelling during the pause before a retry ends the call at once, unsent."""
    upstream.will(plain({}, 503, retry_after="50"))
    attempted = asyncio.Event()

    class Attempted(aistrale.CallbackHandler):
        def on_attempt(self, call: aistrale.Call, attempt: aistrale.Attempt) -> None:
            attempted.set()

    async with AsyncClient(**options(upstream, callbacks=[Attempted()])) as client:
        task = asyncio.create_task(client.run("Hello"))
        await asyncio.wait_for(attempted.wait(), BOUND)
        await cancel(task)
        assert len(upstream.requests) == 1
        assert (await client.run("and now?")).text == "and now?"


def interrupt_once_waiting(thread: int) -> None:
    """Send SIGINT, as Ctrl-C does, once a thread waits for the network."""
    limit = time.monotonic() + BOUND
    while time.monotonic() < limit:
        frame = sys._current_frames().get(thread)
        if frame is not None and frame.f_code.co_name in ("read", "select"):
            signal.pthread_kill(thread, signal.SIGINT)
            return
        time.sleep(0.001)


@every_way
def test_an_interrupt_closes_the_connection(way: Way, calling: Calling, upstream: Upstream) -> None:
    """Ctrl-C while a call waits for its answer, or a stream for its next token, ends it and its connection."""
    here = threading.get_ident()
    half = head(200, {"Content-Length": "500", "Content-Type": "application/json"}) + b"half"
    upstream.will([*(events("One ") if way.streamed else [half]), lambda: interrupt_once_waiting(here), HANG])
    caller = calling(way)
    with pytest.raises(KeyboardInterrupt):
        caller.ask()
    upstream.wait_until_open(0)
    assert len(upstream.requests) == 1
    assert caller.ask("and now?").text == "and now?"


# Silence


def error_within(seconds: float, caller: Caller, **options: Any) -> RequestTimeoutError:
    started = time.monotonic()
    with pytest.raises(RequestTimeoutError) as caught:
        caller.ask(max_retries=0, **options)
    assert time.monotonic() - started < seconds
    assert caught.value.__cause__ is not None
    assert "Raise `timeout`" in caught.value.message
    return caught.value


@every_way
@pytest.mark.parametrize("limit", [0.2, Timeout(read=0.2), Timeout(total=0.2)], ids=str)
def test_an_upstream_that_never_answers_is_given_up(way: Way, limit: Any, calling: Calling, upstream: Upstream) -> None:
    """Each limit ends the wait for an answer in time, with the connection closed."""
    upstream.will([HANG])
    caller = calling(way)
    assert "0.2 s" in error_within(1.5, caller, timeout=limit).message
    upstream.wait_until_open(0)
    assert caller.ask("and now?").text == "and now?"


def halves(steps: list[Step]) -> tuple[bytes, bytes]:
    """The head and the body of an answer."""
    top, mark, body = b"".join(step for step in steps if isinstance(step, bytes)).partition(b"\r\n\r\n")
    return top + mark, body


@pytest.mark.parametrize(
    ("way", "part"),
    [
        # Of a head httpx bounds each read, not their sum, and offers no way to end it: see Timeout.
        *((way, "head") for way in (ASYNC, ASYNC_STREAM, OWN_ASYNC, OWN_ASYNC_STREAM)),
        *((way, "body") for way in EVERY_WAY),
    ],
    ids=str,
)
def test_an_upstream_that_drips_is_given_up(way: Way, part: str, calling: Calling, upstream: Upstream) -> None:
    """A byte now and then defeats no total limit: of the body anywhere, of the head in async code."""
    top, body = halves(stream("Hello, ", "slow ", "world") if way.streamed else plain(completion("Hello, slow world")))
    upstream.will(dripping([top, body], 0.02) if part == "head" else [top, *dripping([body], 0.02)])
    caller = calling(way)
    error = error_within(1.5, caller, timeout=Timeout(read=5, total=0.3))
    assert "0.3 s" in error.message
    upstream.wait_until_open(0)
    assert caller.ask("and now?").text == "and now?"


@sync_and_async
def test_a_slow_answer_within_its_limits_is_read(way: Way, calling: Calling, upstream: Upstream) -> None:
    """Dripping alone is no fault."""
    upstream.will(dripping(plain(completion("Hello, slow world")), 0.0005))
    assert calling(way).ask(timeout=Timeout(read=0.5, total=5)).text == "Hello, slow world"


@every_stream
def test_a_number_as_timeout_bounds_the_silence_of_a_stream(way: Way, calling: Calling, upstream: Upstream) -> None:
    """A stream may take longer than its timeout, as long as something keeps coming."""
    upstream.will(stream(*(step for number in range(6) for step in (f"{number} ", 0.06))))
    assert calling(way).ask(timeout=0.2).text == "0 1 2 3 4 5 "


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port that takes no connection and refuses none: the queue of those waiting is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield listener.getsockname()[1]


@every_way
@pytest.mark.parametrize("limit", [0.2, Timeout(connect=0.2)], ids=str)
def test_an_upstream_that_takes_no_connection_is_given_up(
    way: Way, limit: Any, full_port: int, calling: Calling
) -> None:
    """The wait for a connection ends in time."""
    error = error_within(1.5, calling(way), timeout=limit, **elsewhere(f"http://127.0.0.1:{full_port}/v1"))
    assert "127.0.0.1 within 0.2 s" in error.message


@our_ways
def test_a_total_limit_bounds_the_wait_for_a_connection(way: Way, full_port: int, calling: Calling) -> None:
    """The total limit runs from the start: connecting counts."""
    error_within(
        1.5, calling(way), timeout=Timeout(connect=3, total=0.2), **elsewhere(f"http://127.0.0.1:{full_port}/v1")
    )


# Connections that are no longer what they were


@pytest.mark.parametrize("way", [SYNC, SYNC_STREAM], ids=str)
def test_a_connection_the_server_closed_is_not_used_again(way: Way, calling: Calling, upstream: Upstream) -> None:
    """A server may close an idle connection at any time: the next call opens another, without an error."""
    caller = calling(way, max_retries=0)
    for number in range(3):
        assert caller.ask(f"call {number}").text == f"call {number}"
        upstream.hang_up()
        upstream.wait_until_open(0)
    assert upstream.accepted == 3


async def test_a_connection_the_server_closed_is_not_used_again_by_async_code(
    async_client: AsyncClient, upstream: Upstream
) -> None:
    """The same for async code, once its event loop has had the time to hear of it."""
    for number in range(3):
        assert (await async_client.run(f"call {number}", max_retries=0)).text == f"call {number}"
        upstream.hang_up()
        await reached(upstream.wait_until_open, 0)
    assert upstream.accepted == 3


@every_way
def test_an_answer_cut_short_is_asked_for_again(way: Way, calling: Calling, upstream: Upstream) -> None:
    """A connection that breaks before the answer, or in the middle of its body, is no end of the call."""
    half: Answer = [head(200, {"Content-Length": "500", "Content-Type": "application/json"}) + b"half", RESET]
    upstream.will([RESET], half)
    completion = calling(way, retry=AT_ONCE).ask("third time")
    assert completion.text == "third time"
    assert [type(attempt.error) for attempt in completion.attempts] == [NetworkError, NetworkError, type(None)]


@our_ways
def test_a_closed_client_opens_again(way: Way, calling: Calling, upstream: Upstream) -> None:
    """`close` closes the connections; a later call opens new ones."""
    caller = calling(way)
    for number in range(1, 3):
        assert caller.ask("Hello").text == "Hello"
        upstream.wait_until_open(1)
        caller.close_connections()
        upstream.wait_until_open(0)
        assert upstream.accepted == number


@every_way
def test_silence_in_the_middle_of_an_answer_ends_at_the_total(way: Way, calling: Calling, upstream: Upstream) -> None:
    """The total runs from the start: what the head and the first bytes took is not given again."""
    top, body = halves(stream("Hello, ", "slow ", "world") if way.streamed else plain(completion("Hello")))
    upstream.will([top, 0.25, body[:5], HANG])
    error_within(0.55, calling(way), timeout=Timeout(total=0.4))
