"""What every test may count on."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

NO_SKIPS = "AISTRALE_NO_SKIPS"

# How long an example takes depends on what else the machine does. Fixtures are shared by the examples of a test.
settings.register_profile(
    "ours", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("ours")

pytest_plugins = ["upstream", "callers", "books", "keeping"]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Where nothing may be skipped, a skipped test has failed: it ran on a machine that lacks something."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.skipped and os.environ.get(NO_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and {NO_SKIPS} is set: {report.longrepr}"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No key, setting or proxy of the machine reaches a test, and each starts with an unconfigured facade."""
    for name in list(os.environ):
        is_setting = name.endswith(("_API_KEY", "_BASE_URL")) or name.startswith(("AISTRALE_", "OTEL_", "AZURE_OPENAI"))
        if is_setting and name not in (NO_SKIPS, "AISTRALE_WIRE"):
            monkeypatch.delenv(name)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AISTRALE_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    monkeypatch.setenv("AISTRALE_TELEMETRY", "otlp")  # the books are kept by the tests that are about them
    from aistrale import facade

    facade.configure()
    yield
    facade.configure()


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def own_loop() -> Iterator[None]:
    """An event loop for LlamaIndex's sync code, which would make one and leave it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()
    asyncio.set_event_loop(None)
