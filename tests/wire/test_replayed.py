"""Recorded answers read through real sockets, and given back to their provider in the next turn."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from aistrale import AsyncClient, Client
from aistrale.exceptions import APIError
from aistrale.models import Completion

from .exchanges import ABSENT, Exchange, exchanges, folder, params
from .readings import PROVIDERS, read, read_embedding, story_of

CHAT = [*params("openai.chat"), *params("anthropic.messages"), *params("google.generate")]
STREAMED = [param for param in CHAT if param.values[0] is None or param.values[0].streamed]


def serve(*options: str) -> Iterator[str]:
    if not exchanges():
        pytest.skip(ABSENT)
    command = [sys.executable, str(folder() / "replay.py"), "--port", "0", "--folder", str(folder()), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().removeprefix("listening on ").strip()
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def whole() -> Iterator[str]:
    """Where the recordings are served in one piece each."""
    yield from serve()


@pytest.fixture(scope="module")
def bytewise() -> Iterator[str]:
    """Where event streams are served byte by byte."""
    yield from serve("--split", "1")


def options_for(exchange: Exchange, url: str) -> dict[str, Any]:
    return {
        "provider": PROVIDERS[exchange.api.partition(".")[0]],
        "model": "asked-model",
        "base_url": f"{url}/{exchange.id}",
        "api_key": "sk-test",
        "max_retries": 0,
    }


def asked(exchange: Exchange, url: str) -> Completion | APIError:
    with Client(**options_for(exchange, url)) as client:
        try:
            return client.stream("Hello").until_done() if exchange.streamed else client.run("Hello")
        except APIError as error:
            return error


async def asked_async(exchange: Exchange, url: str) -> Completion | APIError:
    async with AsyncClient(**options_for(exchange, url)) as client:
        try:
            return await (client.stream("Hello").until_done() if exchange.streamed else client.run("Hello"))
        except APIError as error:
            return error


@pytest.mark.parametrize("exchange", CHAT)
def test_a_call_reads_what_was_recorded(exchange: Exchange, whole: str) -> None:
    """A client on real sockets tells the recording's story; an error answer is raised, typed, with its status."""
    answer, recorded = asked(exchange, whole), read(exchange)
    assert story_of(answer) == story_of(recorded)
    assert type(answer) is type(recorded)


@pytest.mark.parametrize("exchange", CHAT)
async def test_an_async_call_reads_what_was_recorded(exchange: Exchange, whole: str) -> None:
    """The same through the async client."""
    answer, recorded = await asked_async(exchange, whole), read(exchange)
    assert story_of(answer) == story_of(recorded)
    assert type(answer) is type(recorded)


@pytest.mark.parametrize("exchange", STREAMED)
def test_a_stream_sent_byte_by_byte_reads_the_same(exchange: Exchange, bytewise: str) -> None:
    """A stream that trickles in, on real sockets, is the same answer."""
    assert story_of(asked(exchange, bytewise)) == story_of(read(exchange))


@pytest.mark.parametrize("exchange", STREAMED)
async def test_an_async_stream_sent_byte_by_byte_reads_the_same(exchange: Exchange, bytewise: str) -> None:
    """The same through the async client."""
    assert story_of(await asked_async(exchange, bytewise)) == story_of(read(exchange))


@pytest.mark.parametrize("exchange", [*params("openai.embeddings"), *params("google.embed")])
def test_a_call_embeds_what_was_recorded(exchange: Exchange, whole: str) -> None:
    """The vectors of the recording, or the error it is."""
    recorded = read_embedding(exchange)
    with Client(**options_for(exchange, whole)) as client:
        if isinstance(recorded, APIError):
            with pytest.raises(type(recorded)) as caught:
                client.embed("Hello")
            assert caught.value.status == recorded.status
        else:
            assert client.embed("Hello").vectors == recorded.vectors
