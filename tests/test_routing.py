"""Which provider, model, address and key a call goes to."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from programs import printed, run_program
from scripted import AT_ONCE, Provider, failure

import aistrale
from aistrale import Client, ConfigurationError

KEYS = {
    "OPENAI_API_KEY": "sk-openai",
    "ANTHROPIC_API_KEY": "sk-anthropic",
    "GEMINI_API_KEY": "sk-gemini",
    "OPENROUTER_API_KEY": "sk-openrouter",
    "TOGETHER_API_KEY": "sk-together",
    "HF_TOKEN": "hf-token",
    "GROQ_API_KEY": "gsk-groq",
    "MISTRAL_API_KEY": "mistral",
}


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key for each of the larger providers."""
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)


@dataclass(frozen=True)
class Place:
    """Where a request went, and with which key; Gemini's model is in its address."""

    url: str
    key: str | None
    model: str | None = None


def places(own: dict[str, Any], **call: Any) -> list[Place]:
    """Where a client with options of its own sends a call, if nobody answers."""
    provider = Provider(failure(401))
    client = Client(**own, http_client=provider.http_client(), retry=AT_ONCE, telemetry="off")  # a server takes spans
    with suppress(aistrale.APIError):
        client.run("Hello", **call)
    return [
        Place(str(request.url), key_of(request.headers), body.get("model"))
        for request, body in zip(provider.requests, provider.asked, strict=True)
    ]


def place(own: dict[str, Any] | None = None, **call: Any) -> Place:
    (only,) = places(own or {}, **call)
    return only


def key_of(headers: Any) -> str | None:
    found = [headers[name] for name in ("authorization", "x-api-key", "x-goog-api-key", "api-key") if name in headers]
    assert len(found) <= 1
    return found[0].removeprefix("Bearer ") if found else None


OPENAI = "https://api.openai.com/v1/chat/completions"
ANTHROPIC = "https://api.anthropic.com/v1/messages"
OPENROUTER = "https://openrouter.ai/api/v1/chat/completions"
TOGETHER = "https://api.together.xyz/v1/chat/completions"
HUGGINGFACE = "https://router.huggingface.co/v1/chat/completions"
GROQ = "https://api.groq.com/openai/v1/chat/completions"
MISTRAL = "https://api.mistral.ai/v1/chat/completions"


# Names


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # "provider/model", or both apart
        ({"model": "openai/gpt-4o"}, Place(OPENAI, "sk-openai", "gpt-4o")),
        ({"model": "gpt-4o", "provider": "openai"}, Place(OPENAI, "sk-openai", "gpt-4o")),
        ({"model": "openai/gpt-4o", "provider": "openai"}, Place(OPENAI, "sk-openai", "gpt-4o")),
        ({"model": "claude-x", "provider": "anthropic"}, Place(ANTHROPIC, "sk-anthropic", "claude-x")),
        ({"model": "ft:gpt-4o:mine", "provider": "openai"}, Place(OPENAI, "sk-openai", "ft:gpt-4o:mine")),
        # a bare name that says whose it is
        ({"model": "gpt-4o"}, Place(OPENAI, "sk-openai", "gpt-4o")),
        ({"model": "o3-mini"}, Place(OPENAI, "sk-openai", "o3-mini")),
        ({"model": "claude-sonnet-5-5"}, Place(ANTHROPIC, "sk-anthropic", "claude-sonnet-5-5")),
        ({"model": "mistral-small-latest"}, Place(MISTRAL, "mistral", "mistral-small-latest")),
        # a provider alone: its default model
        ({"provider": "openai"}, Place(OPENAI, "sk-openai", "gpt-5.4-mini")),
        ({"provider": "anthropic"}, Place(ANTHROPIC, "sk-anthropic", "claude-sonnet-5-5")),
        # providers whose models are named with a slash themselves
        ({"model": "openrouter/openai/gpt-4o"}, Place(OPENROUTER, "sk-openrouter", "openai/gpt-4o")),
        ({"model": "openrouter/auto"}, Place(OPENROUTER, "sk-openrouter", "openrouter/auto")),
        ({"model": "openai/gpt-4o", "provider": "openrouter"}, Place(OPENROUTER, "sk-openrouter", "openai/gpt-4o")),
        ({"model": "together/meta-llama/Llama-3"}, Place(TOGETHER, "sk-together", "meta-llama/Llama-3")),
        ({"model": "huggingface/openai/gpt-oss-120b"}, Place(HUGGINGFACE, "hf-token", "openai/gpt-oss-120b")),
        (
            {"model": "meta-llama/Llama-3", "provider": "huggingface"},
            Place(HUGGINGFACE, "hf-token", "meta-llama/Llama-3"),
        ),
        # a model of a namespace's at a provider of no namespaces
        ({"model": "groq/openai/gpt-oss-120b"}, Place(GROQ, "gsk-groq", "openai/gpt-oss-120b")),
        ({"model": "openai/gpt-oss-120b", "provider": "groq"}, Place(GROQ, "gsk-groq", "openai/gpt-oss-120b")),
    ],
)
@pytest.mark.parametrize("of", ["call", "client"])
def test_a_model_is_named_with_its_provider_beside_it_or_by_itself(
    options: dict[str, str], expected: Place, of: str
) -> None:
    """Whether the call says it or its client."""
    assert (place(**options) if of == "call" else place(options)) == expected


@pytest.mark.usefixtures("keys")
def test_gemini_models_are_found_by_their_names() -> None:
    """Their names are part of the address."""
    url = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:generateContent"
    assert place(model="gemini-2.5-pro") == place(model="google/gemini-2.5-pro") == Place(url, "sk-gemini")


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("own", "call", "expected"),
    [
        ({"provider": "anthropic"}, {"model": "claude-x"}, Place(ANTHROPIC, "sk-anthropic", "claude-x")),
        ({"provider": "groq"}, {"model": "gpt-4o"}, Place(GROQ, "gsk-groq", "gpt-4o")),
        ({"provider": "groq"}, {"model": "openai/gpt-oss"}, Place(GROQ, "gsk-groq", "openai/gpt-oss")),
        ({"provider": "mistral"}, {"model": "openai/gpt-4o"}, Place(OPENAI, "sk-openai", "gpt-4o")),
        ({"provider": "openrouter"}, {"model": "openai/gpt-4o"}, Place(OPENROUTER, "sk-openrouter", "openai/gpt-4o")),
        ({"model": "openai/gpt-4o"}, {"provider": "anthropic"}, Place(ANTHROPIC, "sk-anthropic", "claude-sonnet-5-5")),
        ({"model": "openai/gpt-4o"}, {"provider": "openai"}, Place(OPENAI, "sk-openai", "gpt-4o")),
        ({"model": "gpt-4o"}, {"provider": "openai"}, Place(OPENAI, "sk-openai", "gpt-4o")),
        ({"model": "gpt-4o"}, {"model": "claude-x"}, Place(ANTHROPIC, "sk-anthropic", "claude-x")),
    ],
)
def test_what_a_call_names_goes_before_what_its_client_names(
    own: dict[str, str], call: dict[str, str], expected: Place
) -> None:
    """A client's model is only sent to the provider it belongs to."""
    assert place(own, **call) == expected


@pytest.mark.usefixtures("keys")
def test_a_model_of_the_environment_does_not_go_to_a_provider_named_in_code(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The argument is the stronger word; what the environment names belongs to another provider."""
    monkeypatch.setenv("AISTRALE_MODEL", "openai/gpt-4o")
    expected = Place(ANTHROPIC, "sk-anthropic", "claude-sonnet-5-5")

    assert place(provider="anthropic") == expected
    assert place({"provider": "anthropic"}) == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"provider": "opnai"}, ["Unknown provider 'opnai'", "Did you mean 'openai'?", "anthropic, azure"]),
        ({"model": "antropic/claude-x"}, ["Unknown provider 'antropic'", "Did you mean 'anthropic'?"]),
        ({"model": "my-model"}, ["Whose model is 'my-model'?", '"provider/my-model"']),
        ({"provider": "vllm"}, ["vllm has no default model", '"vllm/..."']),
        ({"provider": "openai"}, ["No API key for openai: set OPENAI_API_KEY"]),
        ({"provider": "google"}, ["set GEMINI_API_KEY or GOOGLE_API_KEY"]),
        ({"model": "azure/mine", "api_key": "k"}, ["azure needs a base URL: set AZURE_OPENAI_ENDPOINT"]),
        ({"provider": "openai", "api_key": "a\nb"}, ["The API key for openai"]),
        ({"provider": "openai", "api_key": "k", "base_url": "localhost:8000"}, ["must read http(s)://host"]),
        ({}, ["No model is named", "OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY", 'provider="echo"']),
    ],
)
def test_what_cannot_be_called_says_what_to_set(options: dict[str, str], words: list[str]) -> None:
    """Before anything is sent."""
    provider = Provider(failure(401))
    with pytest.raises(ConfigurationError) as caught:
        Client(http_client=provider.http_client()).run("Hello", **options)
    for word in words:
        assert word in caught.value.message
    assert provider.requests == []


# Keys


def test_the_first_provider_with_a_key_answers_where_nobody_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the list of providers."""
    monkeypatch.setenv("GROQ_API_KEY", "gsk-groq")
    assert place() == Place(GROQ, "gsk-groq", "openai/gpt-oss-120b")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-anthropic")
    assert place() == Place(ANTHROPIC, "sk-anthropic", "claude-sonnet-5-5")
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    assert place().url == ANTHROPIC
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    assert place().url == OPENAI


def test_keys_come_from_the_providers_variables_stripped(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell's `$(cat key)` may leave a line break; the first of several variables goes first."""
    monkeypatch.setenv("GOOGLE_API_KEY", "sk-google")
    assert place(provider="google").key == "sk-google"
    monkeypatch.setenv("GEMINI_API_KEY", " sk-gemini\n")
    assert place(provider="google").key == "sk-gemini"
    assert place(provider="google", api_key=" sk-call\n").key == "sk-call"


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    "own",
    [
        {"provider": "openai", "api_key": "sk-mine"},
        {"model": "openai/gpt-4o", "api_key": "sk-mine"},
        {"model": "gpt-4o", "api_key": "sk-mine"},
        {"model": "gpt-4o", "api_key": "sk-mine", "base_url": "https://proxy.example/v1", "provider": "openai"},
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        {"model": "anthropic/claude-x"},
        {"model": "claude-x", "provider": "anthropic"},
        {"model": "anthropic/claude-x", "provider": "anthropic"},
    ],
)
def test_a_key_and_an_address_stay_with_their_provider(own: dict[str, Any], call: dict[str, Any]) -> None:
    """A model of another provider's goes there with that provider's own key."""
    assert place(own, **call) == Place(ANTHROPIC, "sk-anthropic", "claude-x")


@pytest.mark.usefixtures("keys")
def test_a_bare_name_of_another_providers_takes_no_key_with_it() -> None:
    """Where the client named no provider but a model that says whose it is."""
    assert place({"model": "gpt-4o", "api_key": "sk-mine"}, model="claude-x").key == "sk-anthropic"


@pytest.mark.usefixtures("keys")
def test_a_clients_own_address_gets_no_providers_key() -> None:
    """It was given for no provider; a call that names one may go to that provider, but its key goes nowhere else."""
    tried = place({"base_url": "http://localhost:8000/v1"}, model="groq/llama")
    assert tried.url == GROQ or tried.key is None


@pytest.mark.usefixtures("keys")
def test_a_key_of_a_client_that_names_no_provider_is_for_the_one_a_call_names() -> None:
    """`configure(api_key=...)` and then `run(model="openai/...")`."""
    assert place({"api_key": "sk-mine"}, model="openai/gpt-4o") == Place(OPENAI, "sk-mine", "gpt-4o")


@pytest.mark.usefixtures("keys")
def test_a_key_stays_with_its_provider_when_a_fallback_answers() -> None:
    """One of the same provider uses the same key and address, one of another its own."""
    fallbacks = ["gpt-4o-mini", "anthropic/claude-x", "openai/o3"]
    tried = places(
        {"provider": "openai", "base_url": "https://proxy.example/v1", "api_key": "sk-mine"}, fallbacks=fallbacks
    )

    proxy = "https://proxy.example/v1/chat/completions"
    assert tried == [
        Place(proxy, "sk-mine", "gpt-5.4-mini"),
        Place(proxy, "sk-mine", "gpt-4o-mini"),
        Place(ANTHROPIC, "sk-anthropic", "claude-x"),
        Place(proxy, "sk-mine", "o3"),
    ]


@pytest.mark.usefixtures("keys")
def test_a_fallback_of_unknown_family_is_the_first_providers() -> None:
    """Its own fine-tuned model, for example."""
    assert [tried.model for tried in places({}, provider="groq", fallbacks=["my-model"])][1] == "my-model"


def test_a_fallback_that_cannot_be_called_is_told_at_once() -> None:
    """Not when it is needed."""
    with pytest.raises(ConfigurationError, match="No API key for anthropic"):
        Client(provider="echo").run("Hello", fallbacks=["anthropic/claude-x"])


# Addresses


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("base_url", ["http://localhost:8000/v1", "http://localhost:8000/v1/"])
def test_a_base_url_alone_is_a_compatible_server(base_url: str) -> None:
    """It speaks OpenAI's protocol, and no provider's key goes there."""
    url = "http://localhost:8000/v1/chat/completions"
    assert place(base_url=base_url, model="my-model") == Place(url, None, "my-model")
    assert place(base_url=base_url, model="gpt-4o") == Place(url, None, "gpt-4o")
    assert place(base_url=base_url, model="meta-llama/Llama-3") == Place(url, None, "meta-llama/Llama-3")
    assert place({"base_url": base_url}, model="my-model") == Place(url, None, "my-model")
    assert place(base_url=base_url, model="my-model", api_key="mine") == Place(url, "mine", "my-model")


@pytest.mark.parametrize(
    ("variable", "options"),
    [
        ("OPENAI_BASE_URL", {"model": "openai/gpt-4o"}),
        ("ANTHROPIC_BASE_URL", {"model": "anthropic/claude-x"}),
        ("GOOGLE_GEMINI_BASE_URL", {"model": "google/gemini-2.5-pro"}),
        ("GROQ_BASE_URL", {"model": "groq/llama"}),
        ("OLLAMA_BASE_URL", {"model": "ollama/llama3"}),
        ("AZURE_OPENAI_ENDPOINT", {"model": "azure/mine"}),
    ],
)
def test_a_providers_own_variable_moves_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, options: dict[str, str]
) -> None:
    """Under the name that the provider's own tools read; `base_url=` goes before it."""
    monkeypatch.setenv(variable, " https://proxy.example/api ")
    assert place(**options, api_key="k").url.startswith("https://proxy.example/api/")
    assert place(**options, api_key="k", base_url="https://other.example").url.startswith("https://other.example/")


@pytest.mark.parametrize("model", ["ollama/llama3", "vllm/llama3", "llamacpp/llama3"])
def test_local_servers_need_no_key(model: str) -> None:
    """Nor an address, if they listen where they do by default."""
    assert place(model=model).key is None
    assert place(model=model).url.startswith("http://localhost:")


def test_an_azure_deployment_is_part_of_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint is the resource's own."""
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-key")
    assert place(model="azure/my-deployment") == Place(
        "https://mine.openai.azure.com/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21",
        "azure-key",
        "my-deployment",
    )


def test_embeddings_have_a_default_model_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chat model is none that embeds."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    provider = Provider(failure(401))
    with pytest.raises(aistrale.AuthenticationError):
        Client(provider="openai", http_client=provider.http_client()).embed("Hello")
    assert str(provider.requests[0].url) == "https://api.openai.com/v1/embeddings"
    assert provider.asked[0]["model"] == "text-embedding-3-small"


# An Aistrale server

SERVER = {"api_url": "https://llm.example"}
SERVED = "https://llm.example/v1/chat/completions"


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("own", "call", "model"),
    [
        ({}, {"model": "openai/gpt-4o"}, "openai/gpt-4o"),
        ({}, {"model": "gpt-4o", "provider": "openai"}, "openai/gpt-4o"),
        ({}, {"model": "house-model"}, "house-model"),
        ({"model": "openai/gpt-4o"}, {}, "openai/gpt-4o"),
        ({"model": "gpt-4o", "provider": "openai"}, {}, "openai/gpt-4o"),
        ({"provider": "openai"}, {"model": "gpt-4o"}, "openai/gpt-4o"),
        ({"provider": "openai"}, {"model": "anthropic/claude-x"}, "anthropic/claude-x"),
        ({"provider": "openrouter"}, {"model": "openai/gpt-4o"}, "openrouter/openai/gpt-4o"),
    ],
)
def test_with_a_server_every_call_goes_there(own: dict[str, str], call: dict[str, str], model: str) -> None:
    """The server finds the provider, by the whole name, and has its keys: none of ours is sent."""
    assert places({**SERVER, **own}, **call) == [Place(SERVED, None, model)]


def test_a_servers_key_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """AISTRALE_API_KEY, or the one that the client or the call was given."""
    monkeypatch.setenv("AISTRALE_API_URL", "https://llm.example/")
    monkeypatch.setenv("AISTRALE_API_KEY", "server-key")

    assert place(model="openai/gpt-4o") == Place(SERVED, "server-key", "openai/gpt-4o")
    assert place({"api_key": "client-key"}, model="openai/gpt-4o").key == "client-key"
    assert place({"api_key": "client-key"}, model="openai/gpt-4o", api_key="call-key").key == "call-key"


def test_a_call_with_an_address_of_its_own_does_not_go_to_the_server() -> None:
    """Nor does the server's key."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AISTRALE_API_KEY", "server-key")
        tried = place(SERVER, model="my-model", base_url="http://localhost:8000/v1")
    assert tried == Place("http://localhost:8000/v1/chat/completions", None, "my-model")


def test_a_provider_without_a_model_is_not_the_clients_model_at_the_server() -> None:
    """A call that names another provider is not answered by the one the client named."""
    with suppress(ConfigurationError):
        assert place({**SERVER, "model": "openai/gpt-4o"}, provider="anthropic").model.startswith("anthropic/")


def test_with_a_server_no_model_is_an_error() -> None:
    """The server has no default of its own."""
    with pytest.raises(ConfigurationError, match='pass model="provider/name"'):
        Client(**SERVER).run("Hello")


# Providers of other packages


def install(folder: Path, profile: str, name: str = "acme") -> None:
    """A distribution that brings a provider, as an installer would lay it out."""
    info = folder / "acme_aistrale-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-aistrale\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[aistrale.providers]\n{name} = acme_aistrale:PROFILE\n")
    (folder / "acme_aistrale.py").write_text(f"from aistrale.providers import Profile\n\nPROFILE = {profile}\n")


ACME = (
    """Profile(name="acme", base_url="https://acme.example/v1", key_variables=("ACME_KEY",), default_model="acme-1")"""
)

CALL = """
    import httpx
    import aistrale

    def handle(request):
        print(request.url, request.headers["authorization"], request.content.decode())
        return httpx.Response(401, stream=httpx.ByteStream(b"{}"))

    try:
        aistrale.Client(http_client=httpx.Client(transport=httpx.MockTransport(handle))).run("Hi", MODEL)
    except aistrale.AistraleError as error:
        print(type(error).__name__)
"""


@pytest.mark.parametrize("options", ['provider="acme"', 'model="acme/acme-1"'])
def test_an_installed_package_brings_a_provider(tmp_path: Path, options: str) -> None:
    """By an entry point; it is named, keyed and called as our own are."""
    install(tmp_path, ACME)
    out = printed(CALL.replace("MODEL", options), cwd=tmp_path, env={"PYTHONPATH": str(tmp_path), "ACME_KEY": "k"})
    assert out == (
        "https://acme.example/v1/chat/completions Bearer k "
        '{"model":"acme-1","messages":[{"role":"user","content":"Hi"}]}\nAuthenticationError\n'
    )


def test_an_installed_package_may_not_replace_a_provider_of_ours(tmp_path: Path) -> None:
    """Else it could read other people's keys."""
    install(tmp_path, ACME, name="openai")
    out = printed(
        CALL.replace("MODEL", 'model="openai/gpt-4o"'),
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "OPENAI_API_KEY": "k"},
    )
    assert out.startswith("https://api.openai.com/v1/")


def test_an_installed_package_that_brings_no_profile_is_named(tmp_path: Path) -> None:
    """So that one knows which to remove."""
    install(tmp_path, "3")
    program = """
        import aistrale

        try:
            aistrale.run("Hi", provider="acme")
        except aistrale.ConfigurationError as error:
            print(error)
    """
    out = printed(program, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert out == "The entry point 'acme' of group aistrale.providers gives no Profile but 3\n"


def test_an_installed_package_that_does_not_load_harms_nobody_else(tmp_path: Path) -> None:
    """Calls of our own providers go on, and a call of its own says what is wrong, as an error of ours."""
    install(tmp_path, "1 / 0")
    program = """
        import httpx
        import aistrale

        def refuse(request):
            raise httpx.ConnectError("refused")

        http_client = httpx.Client(transport=httpx.MockTransport(refuse))
        for options in ({"model": "gpt-4o", "api_key": "k"}, {"provider": "acme"}, {"provider": "opnai"}):
            try:
                aistrale.Client(**options, http_client=http_client, max_retries=0, telemetry=False).run("Hi")
            except aistrale.AistraleError as error:
                print(type(error).__name__)
        print(aistrale.run("Hi", provider="echo"))
    """
    done = run_program(program, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert done.stdout == "NetworkError\nConfigurationError\nConfigurationError\nHi\n", done.stderr
