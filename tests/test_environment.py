"""Proxies and certificate authorities from the environment, each in a program that starts with it."""

import shutil
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from programs import printed
from proxy import TunnelProxy
from upstream import Upstream

ASK = """
    import asyncio, sys
    import aistrale

    options = {"provider": "openai", "model": "m", "api_key": "sk-environment", "base_url": %r, "max_retries": 0}
    try:
        answer = %s
    except aistrale.AistraleError as error:
        print(type(error).__name__, error)
    else:
        print(answer.text)
"""
HOW = {
    "sync": "aistrale.run('Hello', **options)",
    "async": "asyncio.run(aistrale.run_async('Hello', **options))",
    "stream": "aistrale.stream('Hello', **options).until_done()",
}
however = pytest.mark.parametrize("how", HOW)


def answer(how: str, url: str, folder: Path, **environment: str) -> str:
    """What a program prints that asks the model at `url`, with nothing but `environment` said about the way."""
    return printed(
        ASK % (url, HOW[how]), cwd=folder, env={"SSL_CERT_FILE": "", "SSL_CERT_DIR": "", **environment}
    ).strip()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_upstream(authority: trustme.CA) -> Iterator[Upstream]:
    """An upstream that speaks HTTPS, with a certificate of the test's own authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Upstream(context).running() as running:
        yield running


@pytest.fixture
def proxy() -> Iterator[TunnelProxy]:
    with TunnelProxy().running() as running:
        yield running


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> Path:
    """The authority's certificate as a file."""
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return tmp_path / "authority.pem"


@however
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_plain_http_goes_through_the_proxy(
    how: str, name: str, upstream: Upstream, other_upstream: Upstream, tmp_path: Path
) -> None:
    # A proxy gets the whole address of what it is to fetch, and this one answers it itself.
    assert answer(how, upstream.url, tmp_path, **{name: f"http://{other_upstream.host}"}) == "Hello"
    assert [request.path for request in other_upstream.requests] == [f"{upstream.url}/chat/completions"]
    assert not upstream.requests


@however
@pytest.mark.parametrize("exempt", ["127.0.0.1", "example.org, 127.0.0.1", "{host}", "*"])
def test_no_proxy_names_hosts_that_are_reached_directly(
    how: str, exempt: str, upstream: Upstream, tmp_path: Path
) -> None:
    nobody = "http://127.0.0.1:9"
    direct = {"HTTP_PROXY": nobody, "NO_PROXY": exempt.format(host=upstream.host)}
    assert answer(how, upstream.url, tmp_path, **direct) == "Hello"


@however
def test_https_goes_through_a_tunnel(
    how: str, tls_upstream: Upstream, proxy: TunnelProxy, bundle: Path, tmp_path: Path
) -> None:
    way = {"HTTPS_PROXY": f"http://user:word@{proxy.host}", "SSL_CERT_FILE": str(bundle)}
    assert answer(how, tls_upstream.url, tmp_path, **way) == "Hello"
    assert proxy.targets == [tls_upstream.host]
    assert proxy.credentials == ["Basic " + b64encode(b"user:word").decode()]
    (request,) = tls_upstream.requests
    assert request.path == "/v1/chat/completions"
    assert "proxy-authorization" not in request.headers


@however
def test_a_proxy_that_is_not_there_is_named_without_its_password(how: str, upstream: Upstream, tmp_path: Path) -> None:
    said = answer(how, upstream.url, tmp_path, HTTP_PROXY="http://user:word@127.0.0.1:9")
    assert said.startswith("NetworkError Cannot connect to ")
    assert "http://127.0.0.1:9" in said
    assert "word" not in said


@however
@pytest.mark.parametrize("proxy_url", ["socks5://127.0.0.1:9", "http://127.0.0.1:port"])
def test_a_proxy_we_cannot_use_is_named(how: str, proxy_url: str, upstream: Upstream, tmp_path: Path) -> None:
    said = answer(how, upstream.url, tmp_path, HTTP_PROXY=proxy_url)
    assert said.startswith("ConfigurationError ")
    assert proxy_url in said
    assert "HTTP_PROXY" in said


@however
def test_an_authority_from_a_file(how: str, tls_upstream: Upstream, bundle: Path, tmp_path: Path) -> None:
    assert answer(how, tls_upstream.url, tmp_path, SSL_CERT_FILE=str(bundle)) == "Hello"


@however
@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed, which names a folder's certificates")
def test_an_authority_from_a_folder(how: str, tls_upstream: Upstream, bundle: Path, tmp_path: Path) -> None:
    subprocess.run(["openssl", "rehash", bundle.parent], check=True)
    assert answer(how, tls_upstream.url, tmp_path, SSL_CERT_DIR=str(bundle.parent)) == "Hello"


@however
def test_a_stranger_s_certificate_is_refused(how: str, tls_upstream: Upstream, tmp_path: Path) -> None:
    said = answer(how, tls_upstream.url, tmp_path)
    assert said.startswith("NetworkError ")
    assert "SSL_CERT_FILE" in said
    assert not tls_upstream.requests


@however
def test_a_bundle_that_is_not_there_is_named(how: str, tls_upstream: Upstream, tmp_path: Path) -> None:
    said = answer(how, tls_upstream.url, tmp_path, SSL_CERT_FILE="/no/such/bundle.pem")
    assert said.startswith("ConfigurationError ")
    assert "SSL_CERT_FILE" in said
    assert "/no/such/bundle.pem" in said
