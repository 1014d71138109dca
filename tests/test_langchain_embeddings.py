"""AistraleEmbeddings: as many texts in a request as the provider takes, and nothing that it does not."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from langchain_core import exceptions as langchain
from model_behaviour import behave
from upstream import Request, Step, Upstream, failure, plain

import aistrale
from aistrale_langchain import AistraleEmbeddings

WAYS: dict[str, Callable[[AistraleEmbeddings, list[str]], list[list[float]]]] = {
    "embed_documents": lambda model, texts: model.embed_documents(texts),
    "aembed_documents": lambda model, texts: asyncio.run(model.aembed_documents(texts)),
}
sync_and_async = pytest.mark.parametrize("way", WAYS)


@pytest.fixture
def embedding(upstream: Upstream) -> Upstream:
    """An upstream whose vectors begin with the length of the text, in the shape that it is asked in."""
    upstream.default = answer
    return upstream


def answer(request: Request) -> list[Step]:
    if "requests" not in request.body:
        return behave(replace(request, path=request.path.partition("?")[0]))
    texts = [entry["content"]["parts"][0]["text"] for entry in request.body["requests"]]
    return plain({"embeddings": [{"values": [float(len(text))]} for text in texts]})


def model(upstream: Upstream, provider: str | None = "openai", **more: Any) -> AistraleEmbeddings:
    given = {"model": "embed-test", "provider": provider, "api_key": "sk", "base_url": upstream.url, "max_retries": 0}
    return AistraleEmbeddings(**{**given, **more})


def sent(upstream: Upstream) -> list[list[str]]:
    """The texts of each request."""
    bodies = [request.body for request in upstream.requests]
    return [
        [entry["content"]["parts"][0]["text"] for entry in body["requests"]] if "requests" in body else body["input"]
        for body in bodies
    ]


def sizes(upstream: Upstream) -> list[int]:
    return [len(texts) for texts in sent(upstream)]


@sync_and_async
@pytest.mark.parametrize(
    ("provider", "texts", "batches"),
    [
        ("openai", 2049, [2048, 1]),
        ("azure", 2049, [2048, 1]),
        ("google", 250, [100, 100, 50]),
        ("mistral", 600, [512, 88]),
        ("together", 70, [32, 32, 6]),
        ("vllm", 33, [32, 1]),
        (None, 33, [32, 1]),
    ],
)
def test_a_request_has_as_many_texts_as_its_provider_takes(
    embedding: Upstream, way: str, provider: str | None, texts: int, batches: list[int]
) -> None:
    """And the vectors come in the order of the texts; of a server that nobody knows, few are asked."""
    given = ["x" * (1 + number % 7) for number in range(texts)]
    vectors = WAYS[way](model(embedding, provider), given)
    assert sizes(embedding) == batches
    assert [text for batch in sent(embedding) for text in batch] == given
    assert [int(vector[0]) for vector in vectors] == [len(text) for text in given]


@sync_and_async
@pytest.mark.parametrize(
    ("name", "batches"), [("google/gemini-embedding-001", [100, 20]), ("BAAI/bge-m3", [32, 32, 32, 24])]
)
def test_a_server_is_asked_by_what_the_models_provider_takes(
    embedding: Upstream, monkeypatch: pytest.MonkeyPatch, way: str, name: str, batches: list[int]
) -> None:
    """It sends them on."""
    monkeypatch.setenv("AISTRALE_TELEMETRY", "off")  # or spans go there as well
    WAYS[way](AistraleEmbeddings(model=name, api_url=f"http://{embedding.host}", api_key="ak"), ["x"] * 120)
    assert sizes(embedding) == batches
    assert {request.body["model"] for request in embedding.requests} == {name}


@sync_and_async
@pytest.mark.parametrize(
    ("provider", "batches"), [("openai", [300, 100]), ("mistral", [16] * 25), ("google", [100] * 4)]
)
def test_a_request_has_no_more_tokens_than_its_provider_takes(
    embedding: Upstream, way: str, provider: str, batches: list[int]
) -> None:
    """However the texts are cut into tokens: none is less than a byte."""
    WAYS[way](model(embedding, provider), ["x" * 1000] * 400)
    assert sizes(embedding) == batches


def test_a_token_is_less_than_a_letter(embedding: Upstream) -> None:
    """In many alphabets."""
    model(embedding, "mistral").embed_documents(["\u6f22" * 1000] * 10)
    assert sizes(embedding) == [5, 5]


def test_a_text_that_is_too_long_goes_alone(embedding: Upstream) -> None:
    """What is to become of it is for the provider to say."""
    model(embedding, "mistral").embed_documents(["y" * 20_000, "z"])
    assert sizes(embedding) == [1, 1]
    embedding.will(answer, failure(400, "too long", "context_length_exceeded"))
    with pytest.raises(langchain.ContextOverflowError):
        model(embedding, "mistral").embed_documents(["x", "y" * 20_000, "z"])
    assert sent(embedding)[2:] == [["x"], ["y" * 20_000]]


@sync_and_async
def test_the_size_of_a_batch_can_be_chosen(embedding: Upstream, way: str) -> None:
    """Smaller for a server that takes fewer, larger for one that takes more; tokens are heeded all the same."""
    WAYS[way](model(embedding, batch_size=2), ["x"] * 5)
    WAYS[way](model(embedding, "vllm", batch_size=500), ["x"] * 501)
    WAYS[way](model(embedding, "mistral", batch_size=100), ["x" * 8_000] * 3)
    assert sizes(embedding) == [2, 2, 1, 500, 1, 2, 1]
    with pytest.raises(ValueError, match="batch_size"):
        model(embedding, batch_size=0)


@sync_and_async
def test_of_no_texts_there_are_no_vectors(embedding: Upstream, way: str) -> None:
    """And nobody is asked for them, whether there is anybody to ask or not."""
    assert WAYS[way](model(embedding), []) == []
    assert WAYS[way](AistraleEmbeddings(), []) == []
    assert embedding.requests == []


@sync_and_async
@pytest.mark.parametrize("texts", [[""], ["x", ""], [*["x"] * 50, ""]])
def test_an_empty_text_is_refused_before_anything_is_sent(embedding: Upstream, way: str, texts: list[str]) -> None:
    """By an error of both kinds that says which it is."""
    with pytest.raises(aistrale.InvalidRequestError, match=f"Text {len(texts) - 1} of {len(texts)} is empty") as caught:
        WAYS[way](model(embedding, "vllm"), texts)
    assert isinstance(caught.value, langchain.ModelInvalidRequestError)
    assert embedding.requests == []


def test_an_empty_question_is_refused(embedding: Upstream) -> None:
    """As well."""
    with pytest.raises(aistrale.InvalidRequestError, match="is empty"):
        model(embedding).embed_query("")
    with pytest.raises(aistrale.InvalidRequestError, match="is empty"):
        asyncio.run(model(embedding).aembed_query(""))


@sync_and_async
def test_where_nothing_leads_anywhere_the_error_says_so(embedding: Upstream, way: str) -> None:
    """Also where it is the size of a batch that is looked for."""
    with pytest.raises(aistrale.ConfigurationError, match='Write it as "provider/embed-test"'):
        WAYS[way](AistraleEmbeddings(model="embed-test"), ["x", "y"])
