"""Spans on their way to a collector: what is sent, where to, and what happens if nobody takes them.

Source: the OTLP 1.x specification, and OpenTelemetry's environment variables for exporters.
"""

import gzip
import itertools
import json
import logging
import os
import pty
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent
from typing import Any, TypeAlias

import pytest
import trustme
from callers import SYNC, Calling
from cryptography.hazmat.primitives import serialization
from families import FAMILY, family_programs
from inline_snapshot import snapshot
from keeping import ON, charging, on_sqlite
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from programs import run_program
from tenacity import wait_none
from upstream import BOUND, Upstream, completion, failure, stream

import aistrale
from aistrale import Client, ConfigurationError, RetryPolicy, telemetry
from aistrale.store.store import Store
from aistrale.tracing.attributes import SCHEMA_URL
from aistrale.tracing.recorder import Delivery

HELLO = 'import aistrale\naistrale.run("Hello", provider="echo")\n'
CHANGING = ("aistrale.attempt.seconds", "server.port")
LOGGED = "import logging\nlogging.basicConfig()\n" + HELLO
SETTLED = f"""
import time
deadline = time.monotonic() + {BOUND}
while any(each.waiting and not each.last_error for each in aistrale.telemetry.status()):
    assert time.monotonic() < deadline
    time.sleep(0.01)
"""
"""What a program ends with that waits until its spans are delivered, or cannot be."""


@dataclass
class Sent:
    """A request as the collector got it: header names in lower case, the body inflated and decoded."""

    path: str
    headers: dict[str, str]
    export: ExportTraceServiceRequest
    at: float
    peer: tuple[str, int]

    @property
    def spans(self) -> list[Span]:
        scopes = [scope for resource in self.export.resource_spans for scope in resource.scope_spans]
        return [span for scope in scopes for span in scope.spans]


_addresses: set[int] = set()
"""The ports there were collectors at: what was delivered to an address is counted as long as a process lives."""


def _server_at_a_new_address(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    while (server := ThreadingHTTPServer(("127.0.0.1", 0), handler)).server_port in _addresses:
        server.server_close()
    _addresses.add(server.server_port)
    return server


class Collector:
    """Takes in OTLP over HTTP. `answers` are what it says next, status, headers and body, before it is content."""

    def __init__(self, *, keeps_alive: bool = False) -> None:
        self._protocol = "HTTP/1.1" if keeps_alive else "HTTP/1.0"
        self.sent: list[Sent] = []
        self.answers: deque[tuple[int, dict[str, str], bytes]] = deque()
        self.gate: threading.Event | None = None
        self._changed = threading.Condition()

    @contextmanager
    def running(self, tls: ssl.SSLContext | None = None) -> Iterator["Collector"]:
        server = _server_at_a_new_address(self._handler())
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="collector")
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join(BOUND)
            server.server_close()

    def wait_for(self, requests: int) -> list[Sent]:
        """The requests, once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.sent) >= requests, BOUND), f"{len(self.sent)} requests came"
        return self.sent

    @property
    def span(self) -> Span:
        """The only span of the only request."""
        (sent,) = self.wait_for(1)
        (span,) = sent.spans
        return span

    def _took(
        self, path: str, headers: dict[str, str], body: bytes, peer: tuple[str, int]
    ) -> tuple[int, dict[str, str], bytes]:
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        with self._changed:
            self.sent.append(Sent(path, headers, ExportTraceServiceRequest.FromString(body), time.monotonic(), peer))
            self._changed.notify_all()
        if self.gate is not None:
            self.gate.wait(BOUND)
        return self.answers.popleft() if self.answers else (200, {}, b"")

    def _handler(collector) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the handler has a self of its own
        class Handler(BaseHTTPRequestHandler):
            protocol_version = collector._protocol

            def do_POST(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers["content-length"]))
                if self.path.endswith("/chat/completions"):  # a server that also answers calls
                    status, named, answer = 200, {}, json.dumps(completion()).encode()
                else:
                    status, named, answer = collector._took(self.path, headers, body, self.client_address)
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **named}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments: object) -> None: ...

        return Handler


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector().running() as running:
        yield running


@pytest.fixture
def configured(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Collector:
    """The collector that the environment names."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    return collector


def plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return [plain(entry) for entry in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def told(attributes: Any) -> dict[str, Any]:
    """Attributes by name, as they are in Python, without what differs each time."""
    read = {each.key: plain(each.value) for each in attributes}
    return {name: value for name, value in sorted(read.items()) if name not in CHANGING}


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# What is sent


Asking: TypeAlias = Callable[[], tuple[aistrale.Completion, Span, Span]]


@pytest.fixture
def asking(configured: Collector, upstream: Upstream, calling: Calling) -> Asking:
    """An agent asks, and gets an answer at the second attempt: the answer, and the spans of call and agent."""

    def ask() -> tuple[aistrale.Completion, Span, Span]:
        upstream.will(failure(500, code="down"))
        caller = calling(SYNC, model="gpt-4o", retry=RetryPolicy(wait=wait_none()))
        with telemetry.agent("planner"):
            answer = caller.ask("Hello", stop=["a", "b"], temperature=0.5, user="ada", tags=["nightly"])
        spans = {span.name: span for sent in configured.wait_for(1) for span in sent.spans}
        return answer, spans["chat gpt-4o"], spans["invoke_agent planner"]

    return ask


def test_a_span_as_the_collector_gets_it(asking: Asking) -> None:
    """Ids, parent, kind, times and status: all there is besides attributes and events."""
    before = time.time_ns()
    answer, chat, agent = asking()
    after = time.time_ns()

    assert (chat.trace_id.hex(), agent.trace_id.hex()) == (answer.trace_id, answer.trace_id)
    assert (len(chat.span_id), chat.parent_span_id, agent.parent_span_id) == (8, agent.span_id, b"")
    assert (chat.kind, agent.kind) == (Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_INTERNAL)
    assert (chat.status.code, chat.status.message) == (Status.STATUS_CODE_UNSET, "")
    times = (agent.start_time_unix_nano, chat.start_time_unix_nano, chat.end_time_unix_nano, agent.end_time_unix_nano)
    assert [before, *times, after] == sorted([before, *times, after])


def test_attributes_reach_the_collector_as_what_they_are(asking: Asking) -> None:
    """Texts, numbers and lists."""
    _, chat, _ = asking()
    assert told(chat.attributes) == snapshot(
        {
            "aistrale.surface": "sdk",
            "aistrale.tags": ["nightly"],
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.request.stop_sequences": ["a", "b"],
            "gen_ai.request.temperature": 0.5,
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.response.id": "chatcmpl-1",
            "gen_ai.response.model": "gpt-test",
            "gen_ai.usage.cost": 2.75e-05,
            "gen_ai.usage.input_tokens": 3,
            "gen_ai.usage.output_tokens": 2,
            "server.address": "127.0.0.1",
            "user.id": "ada",
        }
    )


def test_attempts_reach_the_collector_as_events(asking: Asking) -> None:
    """Each with its error, if it has one, at a time within the call's."""
    _, chat, _ = asking()
    common = {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}
    failed = {"error.type": "down", "http.response.status_code": 500}
    assert [(event.name, told(event.attributes)) for event in chat.events] == [
        ("aistrale.attempt", {"aistrale.attempt.number": 1, **common, **failed}),
        ("aistrale.attempt", {"aistrale.attempt.number": 2, **common}),
    ]
    assert chat.start_time_unix_nano <= chat.events[0].time_unix_nano <= chat.end_time_unix_nano


def test_a_call_that_failed_has_the_status_of_an_error(
    configured: Collector, upstream: Upstream, calling: Calling
) -> None:
    """With its kind, and without the provider's words, which may quote the prompt."""
    upstream.will(failure(400, "I do not like Hello"))
    with pytest.raises(aistrale.InvalidRequestError):
        calling(SYNC).ask("Hello")

    span = configured.span
    assert (span.status.code, span.status.message) == (Status.STATUS_CODE_ERROR, "")
    assert told(span.attributes)["error.type"] == "some_error"
    assert b"Hello" not in span.SerializeToString()


def test_scope_and_schema_say_whose_span_it_is(configured: Collector) -> None:
    """Our name, our version, and the conventions that the names are from."""
    Client(provider="echo").run("Hello")
    (scope,) = configured.wait_for(1)[0].export.resource_spans[0].scope_spans
    assert (scope.scope.name, scope.scope.version) == ("aistrale", aistrale.__version__)
    assert scope.schema_url == SCHEMA_URL


def test_the_resource_is_what_the_environment_says(configured: Collector, tmp_path: Path) -> None:
    """By the variables that all of OpenTelemetry reads."""
    variables = {"OTEL_SERVICE_NAME": "shop", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
    assert run_program(HELLO, cwd=tmp_path, env=variables).returncode == 0
    resource = told(configured.sent[0].export.resource_spans[0].resource.attributes)
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("shop", "test")


def test_a_batch_is_one_request(configured: Collector, tmp_path: Path) -> None:
    """Spans that end close together travel together."""
    program = 'import aistrale\nfor _ in range(50): aistrale.run("Hello", provider="echo")'
    assert run_program(program, cwd=tmp_path).stderr == ""
    assert sum(len(sent.spans) for sent in configured.sent) == 50
    assert len(configured.sent) <= 2


# Where to


ADDRESSES: list[tuple[dict[str, str], str]] = [
    ({"ENDPOINT": "{}"}, "/v1/traces"),
    ({"ENDPOINT": "{}/"}, "/v1/traces"),
    ({"ENDPOINT": "{}/otlp"}, "/otlp/v1/traces"),
    ({"TRACES_ENDPOINT": "{}/as/it/stands"}, "/as/it/stands"),
    ({"TRACES_ENDPOINT": "{}/own", "ENDPOINT": "http://127.0.0.1:1"}, "/own"),
    ({"ENDPOINT": "{}", "PROTOCOL": "http/protobuf"}, "/v1/traces"),
    ({"ENDPOINT": "{}", "PROTOCOL": "grpc", "TRACES_PROTOCOL": "http/protobuf"}, "/v1/traces"),
]


def test_the_address_is_the_environments() -> None:
    """A path is added to the address of all signals, none to that of traces alone."""
    with ExitStack() as stack:
        collectors = [stack.enter_context(Collector().running()) for _ in ADDRESSES]
        for collector, (variables, _) in zip(collectors, ADDRESSES, strict=True):
            with pytest.MonkeyPatch.context() as environment:
                for name, value in variables.items():
                    environment.setenv(f"OTEL_EXPORTER_OTLP_{name}", value.format(collector.url))
                Client(provider="echo").run("Hello")
        sent = [collector.wait_for(1)[0] for collector in collectors]

    assert [each.path for each in sent] == [path for _, path in ADDRESSES]
    assert {each.headers["content-type"] for each in sent} == {"application/x-protobuf"}
    assert not any("content-encoding" in each.headers for each in sent)


@pytest.mark.parametrize("name", ["HEADERS", "TRACES_HEADERS"])
def test_headers_are_decoded_and_sent(configured: Collector, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Percent-encoded, between commas, as in W3C baggage."""
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", "Authorization=Bearer%20a%3Db , x-two=2,")
    Client(provider="echo").run("Hello")
    headers = configured.wait_for(1)[0].headers
    assert (headers["authorization"], headers["x-two"]) == ("Bearer a=b", "2")


@pytest.mark.usefixtures("store")
def test_your_own_prices_are_sent(configured: Collector, upstream: Upstream, calling: Calling) -> None:
    """As the books have them: over the table's."""
    telemetry.set_price("gpt-4o", input=1_000_000, output=0)
    answer = calling(SYNC, model="gpt-4o").ask("Hello")
    assert answer.usage is not None
    assert told(configured.span.attributes)["gen_ai.usage.cost"] == answer.usage.input_tokens


@pytest.mark.parametrize("name", ["COMPRESSION", "TRACES_COMPRESSION"])
def test_a_body_is_compressed_where_that_is_wanted(
    configured: Collector, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It says so, and is the same span."""
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", "gzip")
    Client(provider="echo").run("Hello")
    assert configured.span.name == "chat echo"
    assert configured.sent[0].headers["content-encoding"] == "gzip"


def test_a_protocol_that_is_not_spoken_is_named(
    configured: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, and the calls are answered."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    client = Client(provider="echo")
    assert [client.run("Hello").text for _ in range(2)] == ["Hello"] * 2
    (warning,) = warnings_in(caplog)
    assert "OTEL_EXPORTER_OTLP_PROTOCOL is grpc" in warning


NOTHING_SENT: list[tuple[dict[str, str], str]] = [
    ({"OTEL_TRACES_EXPORTER": "none"}, ""),
    ({"OTEL_SDK_DISABLED": " True"}, ""),
    ({"OTEL_TRACES_SAMPLER": "always_off"}, ""),
    ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, ""),
    ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, ""),
    ({"OTEL_TRACES_EXPORTER": "zipkin,console"}, "OTEL_TRACES_EXPORTER is console,zipkin, and not otlp"),
    ({"OTEL_TRACES_EXPORTER": "otlp_proto_grpc"}, "OTEL_TRACES_EXPORTER is otlp_proto_grpc, and not otlp"),
    ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL is http/json, and not http/protobuf"),
    (
        {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"},
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is grpc, and not http/protobuf",
    ),
]


@pytest.mark.parametrize(("variables", "told"), NOTHING_SENT, ids=str)
def test_nothing_is_sent_where_nothing_should_be(
    configured: Collector, tmp_path: Path, variables: dict[str, str], told: str
) -> None:
    """`none` is an exporter, too; what we cannot do is told. The books have the call all the same."""
    program = f"{LOGGED}print(len(aistrale.telemetry.query()))"
    done = run_program(program, cwd=tmp_path, env={"AISTRALE_TELEMETRY": "on", **variables})
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert done.stderr == (f"WARNING:aistrale:no spans are sent: {told}\n" if told else "")
    assert configured.sent == []


SENT: list[tuple[dict[str, str], str]] = [
    ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ""),
    ({"OTEL_TRACES_EXPORTER": "otlp_proto_http"}, ""),
    ({"OTEL_TRACES_EXPORTER": " "}, ""),
    ({"OTEL_SDK_DISABLED": "yes"}, ""),
    ({"OTEL_EXPORTER_OTLP_COMPRESSION": "none"}, ""),
    ({"OTEL_TRACES_SAMPLER": "always_on"}, ""),
    ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}, ""),
    ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1.0"}, ""),
    ({"OTEL_TRACES_SAMPLER": "xray"}, "all spans are sent: OTEL_TRACES_SAMPLER is xray, which is not known"),
    (
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "10%"},
        "all spans are sent: OTEL_TRACES_SAMPLER_ARG is 10%, and not a number from 0 to 1",
    ),
    (
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "nan"},
        "all spans are sent: OTEL_TRACES_SAMPLER_ARG is nan, and not a number from 0 to 1",
    ),
    (
        {"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "deflate"},
        "spans are sent as they are: OTEL_EXPORTER_OTLP_TRACES_COMPRESSION is deflate, and not gzip",
    ),
]


@pytest.mark.parametrize(("variables", "told"), SENT, ids=str)
def test_what_is_not_understood_keeps_no_span_back(
    configured: Collector, tmp_path: Path, variables: dict[str, str], told: str
) -> None:
    """As the specification has it: it is told, and as if it were not there."""
    done = run_program(LOGGED + SETTLED, cwd=tmp_path, env=variables)
    assert done.stderr == (f"WARNING:aistrale:{told}\n" if told else "")
    assert configured.span.name == "chat echo"


@pytest.mark.parametrize("sampler", ["traceidratio", "parentbased_traceidratio"])
def test_a_collector_gets_its_part_of_the_traces(configured: Collector, tmp_path: Path, sampler: str) -> None:
    """Each whole or not at all, and those that OpenTelemetry's own sampler would choose; the books have every one."""
    program = """
        import aistrale
        for _ in range(60):
            with aistrale.telemetry.agent("planner"):
                aistrale.run("Hello", provider="echo")
        print(*[span.trace_id for span in aistrale.telemetry.query()])
    """
    variables = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": "0.4", "AISTRALE_TELEMETRY": "on"}
    done = run_program(program, cwd=tmp_path, env=variables)
    kept = done.stdout.split()
    assert (len(kept), len({*kept}), done.stderr) == (120, 60, "")

    reference = TraceIdRatioBased(0.4)
    chosen = [each for each in kept if reference.should_sample(None, int(each, 16), "").decision != Decision.DROP]
    assert sorted(span.trace_id.hex() for sent in configured.sent for span in sent.spans) == sorted(chosen)
    assert 0 < len(chosen) < 120


@pytest.mark.parametrize("value", ["soon", "1s", "0", "-1", "nan", "inf"])
@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"])
def test_a_timeout_that_is_no_number_is_refused(
    configured: Collector, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """With the name of its variable."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"^{name} must be a number of seconds, not '{value}'$"):
        Client(provider="echo")


def test_a_collector_that_takes_too_long_is_left(
    configured: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After OTEL_EXPORTER_OTLP_TIMEOUT seconds; the spans are sent again, with those that came since."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    configured.gate = threading.Event()
    client = Client(provider="echo")
    client.run("Hello")
    configured.wait_for(1)
    configured.gate = None
    client.run("Hello")
    assert [len(sent.spans) for sent in configured.wait_for(2)] == [1, 2]
    assert len(warnings_in(caplog)) == 1


@pytest.mark.parametrize("key", ["argument", "environment"])
def test_spans_go_to_the_server_that_calls_go_to(collector: Collector, tmp_path: Path, key: str) -> None:
    """With the key of the server; it keeps the books, so there are none here."""
    program = """
        import sys
        import aistrale
        client = aistrale.Client(api_url=sys.argv[1], api_key=sys.argv[2] or None)
        print(client.run("Hello", model="openai/gpt-4o"))
    """
    home = tmp_path / "home"
    variables = {"AISTRALE_TELEMETRY": "on", "AISTRALE_HOME": str(home)}
    if key == "environment":
        variables["AISTRALE_API_KEY"] = "sk-server"
    given = f"{collector.url}/", "sk-server" if key == "argument" else ""
    done = run_program(program, cwd=tmp_path, env=variables, arguments=given)
    assert (done.stdout, done.stderr) == ("Hello\n", "")

    (sent,) = collector.sent
    assert (sent.path, sent.headers["authorization"]) == ("/v1/traces", "Bearer sk-server")
    assert [span.name for span in sent.spans] == ["chat openai/gpt-4o"]
    assert not home.exists()


TO_A_SERVER = f"""
import logging, sys
logging.basicConfig()
import aistrale
client = aistrale.Client(api_url=sys.argv[1], api_key="sk-server")
print(client.run("Hello", model="openai/gpt-4o"))
{SETTLED}
"""


@pytest.mark.parametrize("telemetry", ["on", "otlp"])
def test_spans_go_to_the_server_and_to_the_collector(collector: Collector, tmp_path: Path, telemetry: str) -> None:
    """The same ones. What is meant for one of them, its key and its headers, the other does not get."""
    variables = {
        "AISTRALE_TELEMETRY": telemetry,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=ours,authorization=collectors",
    }
    with Collector().running() as server:
        variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
        done = run_program(TO_A_SERVER, cwd=tmp_path, env=variables, arguments=(server.url,))
        assert (done.stdout, done.stderr) == ("Hello\n", "")
        (to_server,), (to_collector,) = server.sent, collector.sent

    assert to_server.spans == to_collector.spans
    assert [span.name for span in to_server.spans] == ["chat openai/gpt-4o"]
    assert (to_server.headers["authorization"], to_server.headers.get("x-tenant")) == ("Bearer sk-server", None)
    assert (to_collector.headers["authorization"], to_collector.headers["x-tenant"]) == ("collectors", "ours")


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_SAMPLER": "always_off"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "0.000001", "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=ours"},
    ],
    ids=str,
)
def test_what_is_said_of_a_collector_is_not_said_of_the_server(
    collector: Collector, tmp_path: Path, variables: dict[str, str]
) -> None:
    """It keeps the books, and books have every call."""
    done = run_program(
        TO_A_SERVER, cwd=tmp_path, env={"AISTRALE_TELEMETRY": "on", **variables}, arguments=(collector.url,)
    )
    assert (done.stdout, done.stderr) == ("Hello\n", "")
    assert "x-tenant" not in collector.sent[0].headers
    assert collector.span.name == "chat openai/gpt-4o"


def test_a_server_that_is_also_the_collector_gets_spans_once(configured: Collector, tmp_path: Path) -> None:
    """As the server, with its key."""
    done = run_program(TO_A_SERVER, cwd=tmp_path, env={"AISTRALE_TELEMETRY": "on"}, arguments=(f"{configured.url}/",))
    assert (done.stdout, done.stderr) == ("Hello\n", "")
    (sent,) = configured.sent
    assert (len(sent.spans), sent.headers["authorization"]) == (1, "Bearer sk-server")


# Through TLS


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """A collector's own, with a certificate of the test's authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    """The authority's certificate, and ours with its key, as files: in one, and apart."""
    ours = authority.issue_cert("client.example")
    found = {name: str(tmp_path / f"{name}.pem") for name in ("authority", "both", "certificate", "key")}
    authority.cert_pem.write_to_path(found["authority"])
    ours.private_key_and_cert_chain_pem.write_to_path(found["both"])
    ours.cert_chain_pems[0].write_to_path(found["certificate"])
    ours.private_key_pem.write_to_path(found["key"])
    return found


def over_tls(tls: ssl.SSLContext, folder: Path, program: str = LOGGED, **variables: str) -> tuple[Collector, str]:
    """Run a program beside a collector that speaks TLS, with these variables of the exporter; what it logs."""
    named = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in variables.items()}
    with Collector().running(tls) as collector:
        named["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
        program = textwrap.dedent(program) + SETTLED
        done = run_program(program, cwd=folder, env={"SSL_CERT_FILE": "", "SSL_CERT_DIR": "", **named})
    assert done.returncode == 0, done.stderr
    return collector, done.stderr


@pytest.mark.parametrize("name", ["CERTIFICATE", "TRACES_CERTIFICATE"])
def test_a_collector_is_known_by_its_authority(
    tls: ssl.SSLContext, files: dict[str, str], tmp_path: Path, name: str
) -> None:
    """The one that is named for traces before the one for all signals."""
    variables = {"CERTIFICATE": "/no/such/file.pem", name: files["authority"]}
    collector, said = over_tls(tls, tmp_path, **variables)
    assert (collector.span.name, said) == ("chat echo", "")


def test_a_collector_of_an_unknown_authority_gets_nothing(tls: ssl.SSLContext, tmp_path: Path) -> None:
    """Neither spans nor headers."""
    collector, said = over_tls(tls, tmp_path, HEADERS="authorization=secret")
    assert collector.sent == []
    assert "CERTIFICATE_VERIFY_FAILED" in said


def test_an_authority_of_the_collectors_is_trusted_in_place_of_all_others(
    tls: ssl.SSLContext, files: dict[str, str], tmp_path: Path
) -> None:
    """Also of those that the environment has other connections trust."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    program = f"import os\nos.environ['SSL_CERT_FILE'] = {files['authority']!r}\n{LOGGED}"
    collector, said = over_tls(tls, tmp_path, program, CERTIFICATE=str(other))
    assert collector.sent == []
    assert "CERTIFICATE_VERIFY_FAILED" in said
    assert len(over_tls(tls, tmp_path, program)[0].sent) == 1


@pytest.mark.parametrize("prefix", ["", "TRACES_"])
@pytest.mark.parametrize(
    "named", [{"CLIENT_CERTIFICATE": "both"}, {"CLIENT_CERTIFICATE": "certificate", "CLIENT_KEY": "key"}]
)
def test_a_collector_that_asks_who_we_are_is_told(
    tls: ssl.SSLContext, files: dict[str, str], tmp_path: Path, prefix: str, named: dict[str, str]
) -> None:
    """By our certificate, its key in the same file or in another."""
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(files["authority"])
    ours = {f"{prefix}{name}": files[file] for name, file in named.items()}
    collector, said = over_tls(tls, tmp_path, CERTIFICATE=files["authority"], **ours)
    assert (collector.span.name, said) == ("chat echo", "")
    assert over_tls(tls, tmp_path, CERTIFICATE=files["authority"])[0].sent == []


def test_our_certificate_goes_with_the_machines_authorities(
    tls: ssl.SSLContext, files: dict[str, str], tmp_path: Path
) -> None:
    """Where no other is named."""
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(files["authority"])
    program = f"import os\nos.environ['SSL_CERT_FILE'] = {files['authority']!r}\n{LOGGED}"
    collector, said = over_tls(tls, tmp_path, program, CLIENT_CERTIFICATE=files["both"])
    assert (collector.span.name, said) == ("chat echo", "")


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"CERTIFICATE": "/no/such/file.pem"}, "OTEL_EXPORTER_OTLP_CERTIFICATE='/no/such/file.pem'"),
        ({"CERTIFICATE": "{key}"}, "OTEL_EXPORTER_OTLP_CERTIFICATE='{key}'"),
        ({"CLIENT_CERTIFICATE": "/no/such.pem"}, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE='/no/such.pem'"),
        (
            {"CLIENT_CERTIFICATE": "{certificate}", "CLIENT_KEY": "{locked}"},
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE='{certificate}', OTEL_EXPORTER_OTLP_CLIENT_KEY='{locked}'",
        ),
    ],
)
def test_a_certificate_that_cannot_be_read_is_named(
    tls: ssl.SSLContext, files: dict[str, str], tmp_path: Path, variables: dict[str, str], told: str
) -> None:
    """And the call is answered."""
    files["locked"] = locked(files["key"])
    collector, said = over_tls(tls, tmp_path, **{name: value.format(**files) for name, value in variables.items()})
    assert f"No certificate can be read, and so no span be sent, with {told.format(**files)}: " in said
    assert collector.sent == []


def locked(path: str) -> str:
    """The same key in another file, with a password."""
    key = serialization.load_pem_private_key(Path(path).read_bytes(), None)
    password = serialization.BestAvailableEncryption(b"word")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, password)
    Path(f"{path}.locked").write_bytes(pem)
    return f"{path}.locked"


def test_nobody_is_asked_for_the_password_of_a_key(files: dict[str, str]) -> None:
    """A program at a terminal would wait for it while its user wonders what for."""
    program = f"""
        import fcntl, termios
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # OpenSSL asks there, whatever stdin is
        import aistrale
        from aistrale.tracing.destinations import TLSFiles

        try:
            TLSFiles(certificate={files["certificate"]!r}, key={locked(files["key"])!r}).context()
        except aistrale.ConfigurationError as error:
            print(type(error).__name__)
    """
    master, terminal = pty.openpty()
    try:
        command = [sys.executable, "-c", textwrap.dedent(program)]
        done = subprocess.run(
            command, stdin=terminal, capture_output=True, text=True, timeout=30, check=False, start_new_session=True
        )
    finally:
        os.close(master)
        os.close(terminal)
    assert (done.stdout, done.stderr) == ("ConfigurationError\n", "")


def test_a_key_without_a_certificate_is_refused(configured: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would go unused, and the collector would not know us."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", "key.pem")
    with pytest.raises(ConfigurationError, match="set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE as well"):
        Client(provider="echo")


def test_certificates_are_read_anew_after_a_failure(
    tls: ssl.SSLContext, files: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They are renewed while a process runs; spans wait until they are good."""
    used = tmp_path / "used.pem"
    trustme.CA().cert_pem.write_to_path(str(used))
    with Collector().running(tls) as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(used))
        Client(provider="echo").run("Hello")
        deadline = time.monotonic() + BOUND
        while delivery_to(collector).last_error is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "CERTIFICATE_VERIFY_FAILED" in str(delivery_to(collector).last_error)
        used.write_bytes(Path(files["authority"]).read_bytes())
        assert collector.span.name == "chat echo"


def test_a_collectors_authority_is_not_the_servers(tls: ssl.SSLContext, files: dict[str, str], tmp_path: Path) -> None:
    """It gets nothing, though both are the same machine."""
    program = """
        import logging, os
        logging.basicConfig()
        import aistrale
        client = aistrale.Client(api_url=os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] + "/own", max_retries=0)
        try:
            client.run("Hello", model="openai/gpt-4o")
        except aistrale.NetworkError as error:
            print(error)
    """
    collector, said = over_tls(tls, tmp_path, program, CERTIFICATE=files["authority"], CLIENT_CERTIFICATE=files["both"])
    assert [sent.path for sent in collector.sent] == ["/v1/traces"]
    assert "CERTIFICATE_VERIFY_FAILED" in said


# Whose span it is

OWN_PROVIDER = """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider, sampling
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    import aistrale

    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampling.{sampler})
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    {set}
    client = aistrale.Client(provider="echo"{option})
    client.run("Hello")
    print([span.name for span in exporter.get_finished_spans()])
"""


@pytest.mark.parametrize(
    "whose",
    [
        {"set": "trace.set_tracer_provider(provider)", "option": ""},
        {"set": "", "option": ", tracer_provider=provider"},
    ],
    ids=["global", "the client's"],
)
@pytest.mark.parametrize(("sampler", "expected"), [("ALWAYS_ON", ["chat echo"]), ("ALWAYS_OFF", [])])
def test_an_applications_own_provider_is_left_to_send_the_span(
    configured: Collector, tmp_path: Path, whose: dict[str, str], sampler: str, expected: list[str]
) -> None:
    """Else it would arrive twice; and what it chooses not to sample is not sent past it."""
    done = run_program(OWN_PROVIDER.format(sampler=sampler, **whose), cwd=tmp_path)
    assert (done.stdout, done.stderr) == (f"{expected}\n", "")
    assert configured.sent == []


# Beside the books, and from children


def told_of(sent: list[Sent]) -> list[str]:
    """Whose calls the collector was told of, by name, each as often as it was."""
    return sorted(told(span.attributes).get("user.id", "") for one in sent for span in one.spans)


def test_the_books_and_the_collector_get_the_same_spans(
    keeping: Store, configured: Collector, upstream: Upstream, calling: Calling
) -> None:
    """Each once, with the same ids, times, attributes, status and cost: calls of all kinds, and what contains them."""
    upstream.will(charging(0.25), stream("Hel", "lo"), failure(400, code="no"))
    client = calling(SYNC, model="gpt-4o").client
    with telemetry.agent("planner"):
        client.run("Hello", user="reported")
        client.stream("Hello", user="priced").until_done()
    with pytest.raises(aistrale.InvalidRequestError):
        client.run("Hello", user="failed")

    kept = {span.span_id: span for span in telemetry.query()}
    sent: list[Span] = []
    for number in itertools.count(1):
        sent = [span for one in configured.wait_for(number) for span in one.spans]
        if len(sent) >= len(kept):
            break
    assert sorted(span.span_id.hex() for span in sent) == sorted(kept)
    for span in sent:
        own = kept[span.span_id.hex()]
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (own.trace_id, own.parent_id or "")
        assert (span.name, span.start_time_unix_nano, span.end_time_unix_nano) == (own.name, own.start, own.end)
        assert (span.status.code == Status.STATUS_CODE_ERROR) == (own.status == "error")
        attributes = {each.key: plain(each.value) for each in span.attributes}
        priced = {} if own.cost is None else {"gen_ai.usage.cost": float(own.cost)}
        assert attributes == {**own.attributes, **priced}
        assert [event.name for event in span.events] == [event.name for event in own.events]
    costs = {span.user_id: span.cost for span in kept.values() if span.is_inference}
    assert costs == {"reported": Decimal("0.25"), "priced": Decimal("0.0000275"), "failed": None}


@on_sqlite
@pytest.mark.usefixtures("store")
@family_programs
def test_children_and_threads_deliver_to_the_collector(
    configured: Collector, tmp_path: Path, program: str, expected: list[str]
) -> None:
    """Each its own, once, to it and to the books; and none says a word about it."""
    # Four children that load this at their end, on a busy machine, take longer than an end may wait.
    loaded = "import opentelemetry.exporter.otlp.proto.common.trace_encoder, httpx, httpcore"
    done = run_program(f"{loaded}\n{program}", cwd=tmp_path, env=ON)
    assert (done.returncode, done.stderr) == (0, "")
    assert told_of(configured.sent) == expected
    assert sorted(str(span.user_id) for span in telemetry.query()) == expected


def test_a_fork_while_a_connection_is_being_made_harms_no_child(upstream: Upstream, tmp_path: Path) -> None:
    """What a thread of the parent is importing just then stays half imported in the child, and locked."""
    program = FAMILY + dedent(
        """
        import faulthandler, threading, time
        from aistrale.transport import sync_http  # which loads httpx
        call = partial(aistrale.run, "Hello", provider="openai", model="m", api_key="k", base_url=sys.argv[1])
        assert "httpcore" not in sys.modules
        thread = threading.Thread(target=call)
        thread.start()
        while "httpcore" not in sys.modules:
            time.sleep(0.0005)
        pid = os.fork()
        if not pid:
            faulthandler.dump_traceback_later(10, exit=True)
            os._exit(0 if call().text == "Hello" else 1)
        thread.join()
        print("the child ends with", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """
    )
    done = run_program(program, cwd=tmp_path, env={"AISTRALE_TELEMETRY": "off"}, arguments=(upstream.url,))
    assert (done.stdout, done.stderr) == ("the child ends with 0\n", "")


def test_a_child_does_not_use_its_parents_connection(tmp_path: Path) -> None:
    """One that is open, and has delivered already: answers would go to whoever reads first."""
    program = FAMILY + dedent(
        """
        import time
        from aistrale import telemetry

        def delivered():
            return sum(each.delivered for each in telemetry.status())

        def deliver(user):
            wanted, deadline = delivered() + 1, time.monotonic() + 20
            call(user=user)
            while delivered() < wanted:
                assert time.monotonic() < deadline, telemetry.status()
                time.sleep(0.01)

        deliver("parent")
        workers = []
        for number in range(3):
            workers.append(os.fork())
            if not workers[-1]:
                deliver(f"worker {number}")
                deliver(f"worker {number}")
                sys.exit()
        deliver("parent")
        for pid in workers:
            wait_for(pid)
        """
    )
    with Collector(keeps_alive=True).running() as collector:
        done = run_program(program, cwd=tmp_path, env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert (done.returncode, done.stderr) == (0, "")
    assert told_of(collector.sent) == ["parent"] * 2 + [f"worker {number}" for number in range(3) for _ in range(2)]
    connections = {told_of([sent])[0]: sent.peer for sent in collector.sent}
    assert len(set(connections.values())) == 4
    assert {sent.peer for sent in collector.sent} == set(connections.values())


# When nobody takes them


def test_what_is_refused_for_the_moment_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """429, 502, 503 and 504 ask for it; no other answer does."""
    with ExitStack() as stack:
        collectors = {status: stack.enter_context(Collector().running()) for status in (429, 502, 503, 504)}
        for status, collector in collectors.items():
            collector.answers.append((status, {}, b""))
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
            Client(provider="echo").run("Hello")
        for collector in collectors.values():
            first, second = collector.wait_for(2)
            assert first.spans == second.spans


@pytest.mark.parametrize("status", [400, 401, 500])
def test_what_is_refused_for_good_is_not_sent_again(configured: Collector, tmp_path: Path, status: int) -> None:
    """It would be refused again. The log says so."""
    configured.answers.append((status, {}, b""))
    done = run_program(LOGGED, cwd=tmp_path)
    assert len(configured.sent) == 1
    assert f"{configured.url} refused 1 of 1 spans: {status}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_spans_after_a_refused_batch_are_sent(configured: Collector, caplog: pytest.LogCaptureFixture) -> None:
    """One bad span does not end telemetry."""
    configured.answers.append((400, {}, b""))
    client = Client(provider="echo")
    client.run("Hello", user="first")
    configured.wait_for(1)
    client.run("Hello", user="second")
    assert [told(sent.spans[0].attributes)["user.id"] for sent in configured.wait_for(2)] == ["first", "second"]
    assert len(warnings_in(caplog)) == 1


def test_spans_that_are_refused_are_counted(configured: Collector, caplog: pytest.LogCaptureFixture) -> None:
    """All of a batch, or as many as the collector says it did not take."""
    partial = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=1, error_message="too old")
    )
    protobuf = {"Content-Type": "application/x-protobuf"}
    configured.answers += [(400, {}, b""), (200, protobuf, partial.SerializeToString()), (200, {}, b'{"not": "it"}')]
    client = Client(provider="echo")
    for number in range(3):
        client.run("Hello")
        configured.wait_for(number + 1)

    deadline = time.monotonic() + BOUND
    while (status := delivery_to(configured)).waiting or status.delivered + status.dropped < 3:
        assert time.monotonic() < deadline, status
        time.sleep(0.01)
    assert (status.delivered, status.dropped, status.last_error) == (1, 2, None)
    assert len(warnings_in(caplog)) == 1


def delivery_to(collector: Collector) -> Delivery:
    [delivery] = [each for each in telemetry.status() if each.destination.startswith(collector.url)]
    return delivery


def test_a_collectors_address_shows_no_secrets(tmp_path: Path) -> None:
    """Neither its password nor a key in its query; the last error is the collector's own."""
    program = """
        import logging, time
        logging.basicConfig()
        import aistrale
        aistrale.run("Hello", provider="echo")
        deadline = time.monotonic() + 20
        while not (status := aistrale.telemetry.status())[0].last_error and time.monotonic() < deadline:
            time.sleep(0.01)
        print(status[0].destination, status)
    """
    with refusing() as url:
        secret = url.replace("://", "://bob:s3cr3t@")
        address = f"{secret}/v1/traces?api-key=k3y"
        done = run_program(program, cwd=tmp_path, env={"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": address})
    assert done.stdout.startswith(f"{url} ")
    assert "Cannot connect" in done.stdout
    assert "left alone" not in done.stdout
    assert "spans cannot be delivered" in done.stderr
    assert "s3cr3t" not in done.stdout + done.stderr
    assert "k3y" not in done.stdout + done.stderr


def test_a_collector_says_when_it_wants_to_be_asked_again(configured: Collector) -> None:
    """Retry-After goes before our own pause, which is a second."""
    configured.answers.append((503, {"Retry-After": "2"}, b""))
    Client(provider="echo").run("Hello")
    first, second = configured.wait_for(2)
    assert first.spans == second.spans
    assert second.at - first.at >= 2.0


def test_a_flush_that_is_over_hurries_no_delivery_after_it(configured: Collector) -> None:
    """However much time it had: a collector that wants to be left alone then is left alone."""
    client = Client(provider="echo")
    client.run("Hello")
    assert telemetry.flush(timeout=3600)
    configured.answers.append((503, {"Retry-After": "3"}, b""))
    client.run("Hello")
    _, first, second = configured.wait_for(3)
    assert first.spans == second.spans
    assert second.at - first.at >= 3.0


def test_a_text_that_cannot_be_encoded_keeps_no_other_span_back(configured: Collector, tmp_path: Path) -> None:
    """Half a character, as JSON may hold it, in what a caller named: it costs nobody but itself."""
    program = """
        import logging
        logging.basicConfig()
        import aistrale
        client = aistrale.Client(provider="echo")
        try:
            client.run("Hello", model="a\\ud800", user="\\ud800")
        except aistrale.InvalidRequestError:
            client.run("Hello", user="ada")
    """
    assert run_program(program, cwd=tmp_path).stderr == ""
    spans = [span for sent in configured.sent for span in sent.spans]
    assert [told(span.attributes).get("user.id") for span in spans][-1:] == ["ada"]
    assert len(spans) == 2


@contextmanager
def refusing() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@contextmanager
def black_hole() -> Iterator[str]:
    """Takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize(("broken", "calls"), [(refusing, 1), (black_hole, 1), (black_hole, 2000)])
def test_a_collector_that_is_down_holds_up_nobody(tmp_path: Path, broken: Callable[[], Any], calls: int) -> None:
    """Neither calls nor the end of the process, which says once how many spans are lost."""
    program = f"""
        import logging, time
        logging.basicConfig()
        import aistrale
        client = aistrale.Client(provider="echo")
        texts = {{client.run("Hello").text for _ in range({calls})}}
        print(texts, time.time())
    """
    with broken() as url:
        done = run_program(program, cwd=tmp_path, env={"OTEL_EXPORTER_OTLP_ENDPOINT": url})
        ended = time.time()

    text, _, last = done.stdout.rpartition(" ")
    assert (done.returncode, text) == (0, "{'Hello'}")
    assert ended - float(last) < 3.0
    warnings = done.stderr.splitlines()
    assert len(warnings) == 1, warnings
    assert f"{calls} spans" in warnings[0]


def test_what_is_lost_at_the_end_is_told_of_after_other_warnings(tmp_path: Path) -> None:
    """That a collector was down was said within the minute; that its spans are lost, not yet."""
    program = """
        import logging, time
        logging.basicConfig()
        import aistrale
        aistrale.run("Hello", provider="echo")
        while not aistrale.telemetry.status()[0].last_error:
            time.sleep(0.01)
    """
    done = run_program(program, cwd=tmp_path, env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    first, last = done.stderr.splitlines()
    assert "spans cannot be delivered" in first
    assert "1 spans are lost with the end of the process" in last


def test_a_collector_that_is_down_keeps_no_call_waiting(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """The books are kept all the same."""
    program = """
        import aistrale
        aistrale.run("Hello", provider="echo")
        print(len(aistrale.telemetry.query()))
    """
    with black_hole() as url:
        variables = {"AISTRALE_TELEMETRY": "on", "OTEL_EXPORTER_OTLP_ENDPOINT": url}
        assert run_program(program, cwd=tmp_path, env=variables).stdout == "1\n"
