"""What the environment says of the way out: proxies and certificate authorities.

Proxies: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY. Authorities: SSL_CERT_FILE, SSL_CERT_DIR.
"""

from __future__ import annotations

import os
import ssl
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def proxy_for(url: str) -> str | None:
    """The proxy a request to `url` goes through, None for none."""
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


@cache
def ssl_context() -> ssl.SSLContext:
    """The context every TLS connection is made with: the environment's authorities, else certifi's."""
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or folder:
        return ssl.create_default_context(cafile=file or None, capath=folder or None)
    import certifi

    return ssl.create_default_context(cafile=certifi.where())
