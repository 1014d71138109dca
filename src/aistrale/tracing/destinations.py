"""Where spans are sent: to an Aistrale server, and to the collector that OpenTelemetry's variables name.

Source: OpenTelemetry's environment variables, for exporters and for SDKs. Those for exporters have two forms each, and
the one for traces (OTEL_EXPORTER_OTLP_TRACES_...) goes before the one for all signals (OTEL_EXPORTER_OTLP_...).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from aistrale.exceptions import ConfigurationError
from aistrale.http import check_header
from aistrale.logs import warn_once_a_minute

if TYPE_CHECKING:
    import ssl

_ALL = 1 << 64


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """What a collector is known by, and what it knows us by: PEM files, named by variables.

    authorities: trusted instead of the machine's. certificate: ours, with its key in the same file or in another.
    """

    authorities: str = ""
    certificate: str = ""
    key: str = ""

    def context(self) -> ssl.SSLContext:
        """Read them. Raises ConfigurationError."""
        import ssl

        from aistrale.transport.environment import new_ssl_context

        try:
            own = ssl.create_default_context(cafile=self.authorities) if self.authorities else new_ssl_context()
        except OSError as error:
            raise _unreadable(f"OTEL_EXPORTER_OTLP_CERTIFICATE={self.authorities!r}", error) from error
        if self.certificate:
            try:
                own.load_cert_chain(self.certificate, self.key or None, _no_password)
            except OSError as error:
                said = f"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE={self.certificate!r}"
                said += f", OTEL_EXPORTER_OTLP_CLIENT_KEY={self.key!r}" if self.key else ""
                raise _unreadable(said, error) from error
        return own


def _no_password() -> str:
    """An encrypted key is refused; without this, OpenSSL asks for its password at the terminal."""
    return ""


def _unreadable(said: str, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"No certificate can be read, and so no span be sent, with {said}: {error}")


@dataclass(frozen=True, slots=True)
class Destination:
    """An address that spans are posted to. timeout: seconds. share: which part of all traces it gets, 1 for all.

    yields: it gets no spans that an application's own provider makes.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    timeout: float = 10.0
    compress: bool = True
    tls: TLSFiles | None = None
    share: float = 1.0
    yields: bool = False

    def takes(self, trace_id: str) -> bool:
        """Whether it gets this trace: all of its spans, or none, and the same as other processes would decide.

        As OpenTelemetry's TraceIdRatioBased, by the last 64 bits.
        """
        return self.share >= 1.0 or int(trace_id[16:], 16) < round(self.share * _ALL)


def server(api_url: str, api_key: str | None) -> Destination:
    """An Aistrale server. It keeps the books, and books have all spans."""
    headers = (("Authorization", f"Bearer {api_key}"),) if api_key else ()
    return Destination(f"{api_url.rstrip('/')}/v1/traces", headers)


def collector() -> Destination | None:
    """The collector that the environment names; None for none. Raises ConfigurationError for values that are wrong."""
    url = _address()
    if not url or not _exports(url):
        return None
    variable, protocol = _variable("PROTOCOL")
    if protocol not in ("", "http/protobuf"):
        warn_once_a_minute(url, "no spans are sent: %s is %s, and not http/protobuf", variable, protocol)
        return None
    share = _share(url)
    if share <= 0.0:
        return None
    headers = tuple(_headers(_variable("HEADERS")[1]))
    return Destination(url, headers, _timeout(), _compresses(url), _tls_files(), share, yields=True)


def _address() -> str:
    variable, url = _variable("ENDPOINT")
    return url if not url or "_TRACES_" in variable else f"{url.rstrip('/')}/v1/traces"


def _exports(url: str) -> bool:
    """Whether OpenTelemetry is wanted, and OTLP among its exporters."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    wanted = {name.strip() for name in os.environ.get("OTEL_TRACES_EXPORTER", "").split(",")} - {""}
    if not wanted or wanted & {"otlp", "otlp_proto_http"}:
        return True
    if wanted != {"none"}:
        said = "no spans are sent: OTEL_TRACES_EXPORTER is %s, and not otlp"
        warn_once_a_minute(url, said, ",".join(sorted(wanted)))
    return False


def _timeout() -> float:
    variable, text = _variable("TIMEOUT")
    try:
        seconds = float(text or 10)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigurationError(f"{variable} must be a number of seconds, not {text!r}")
    return seconds


def _compresses(url: str) -> bool:
    variable, kind = _variable("COMPRESSION")
    if kind not in ("", "none", "gzip"):
        said = "spans are sent as they are: %s is %s, and not gzip"
        warn_once_a_minute(f"compression to {url}", said, variable, kind)
    return kind == "gzip"


def _tls_files() -> TLSFiles | None:
    authorities, certificate, key = (_variable(name)[1] for name in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"))
    if key and not certificate:
        raise ConfigurationError(
            "OTEL_EXPORTER_OTLP_CLIENT_KEY is a certificate's key: set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE as well"
        )
    return TLSFiles(authorities, certificate, key) if authorities or certificate else None


_SHARES = {"": 1.0, "always_on": 1.0, "always_off": 0.0}


def _share(url: str) -> float:
    """Which part of all traces is sent. What is not understood is told and, as the specification has it, not there."""
    sampler = os.environ.get("OTEL_TRACES_SAMPLER", "").strip()
    kind = sampler.removeprefix("parentbased_")
    if kind in _SHARES:
        return _SHARES[kind]
    if kind != "traceidratio":
        said = "all spans are sent: OTEL_TRACES_SAMPLER is %s, which is not known"
        warn_once_a_minute(f"sampling for {url}", said, sampler)
        return 1.0
    text = os.environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    try:
        share = float(text or 1)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        said = "all spans are sent: OTEL_TRACES_SAMPLER_ARG is %s, and not a number from 0 to 1"
        warn_once_a_minute(f"sampling for {url}", said, text)
        return 1.0
    return share


def _variable(name: str) -> tuple[str, str]:
    """A variable of the exporter, and what it says; an empty text where it is not set."""
    for variable in (f"OTEL_EXPORTER_OTLP_TRACES_{name}", f"OTEL_EXPORTER_OTLP_{name}"):
        if value := os.environ.get(variable, "").strip():
            return variable, value
    return f"OTEL_EXPORTER_OTLP_{name}", ""


def _headers(text: str) -> Iterator[tuple[str, str]]:
    """`name=value` pairs, percent-encoded, between commas."""
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = entry.partition("=")
        pair = name.strip(), unquote(value.strip())
        check_header(*pair)
        yield pair
