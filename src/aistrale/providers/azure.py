"""Azure OpenAI: OpenAI's protocol at an address of its own, where the model is a deployment.

Source: https://learn.microsoft.com/azure/ai-services/openai/reference
"""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit

from aistrale.providers.openai import OpenAICodec
from aistrale.providers.profile import Route

API_VERSION = "2024-10-21"
"""The newest version of the dated API that is generally available; `base_url` may name another by query."""


class AzureCodec(OpenAICodec):
    """`base_url` is the resource's endpoint, or the newer API's, which ends in `/openai/v1`."""

    def url(self, route: Route, path: str) -> str:
        scheme, host, folder, query, _ = urlsplit(route.base_url)
        folder = folder.rstrip("/")
        if folder.endswith("/openai/v1"):
            return urlunsplit((scheme, host, f"{folder}/{path}", query, ""))
        if "/deployments/" not in folder:
            folder = f"{folder.removesuffix('/openai')}/openai/deployments/{quote(route.model, safe='')}"
        return urlunsplit((scheme, host, f"{folder}/{path}", query or f"api-version={API_VERSION}", ""))
