"""What the environment says of the way out: proxies and certificate authorities.

Proxies: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY. Authorities: SSL_CERT_FILE, SSL_CERT_DIR.
"""

from __future__ import annotations

import os
import ssl
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from aistrale.exceptions import ConfigurationError
from aistrale.http import host_of


def proxy_for(url: str) -> str | None:
    """The proxy a request to `url` goes through, None for none. Raises ConfigurationError for one we cannot use."""
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return _checked(proxy if "://" in proxy else f"http://{proxy}") if proxy else None


def _checked(proxy: str) -> str:
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        usable = False
    if not usable:
        raise ConfigurationError(
            f"{host_of(proxy)!r} is no proxy one can use: HTTP_PROXY, HTTPS_PROXY and ALL_PROXY take http(s)://host:port"
        )
    return proxy


@cache
def ssl_context() -> ssl.SSLContext:
    """The context that TLS connections are made with: the environment's authorities, else certifi's."""
    return new_ssl_context()


def new_ssl_context() -> ssl.SSLContext:
    """One like it, for whoever adds to it."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or folder:
        try:
            return ssl.create_default_context(cafile=file or None, capath=folder or None)
        except OSError as error:
            raise ConfigurationError(
                f"No certificate authorities can be read from SSL_CERT_FILE={file!r}: {error.strerror or error}"
            ) from error
    import certifi

    return ssl.create_default_context(cafile=certifi.where())
