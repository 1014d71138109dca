"""Who gets the spans, as the configuration says."""

from __future__ import annotations

from aistrale.config import Config
from aistrale.store.location import database_url
from aistrale.tracing.books import books_recorder
from aistrale.tracing.otlp import otlp_recorders
from aistrale.tracing.recorder import Recorder


def keeps_books(config: Config) -> bool:
    """Whether calls go into the books here: a server keeps them for those who call through it."""
    mode = config["telemetry"]
    return mode == "store" or (mode == "on" and not config["api_url"])


def recorders(config: Config, api_key: str | None = None) -> list[Recorder]:
    """The books', the server's, the collector's: those there are. api_key: the server's, over the configured one."""
    found: list[Recorder] = []
    if keeps_books(config):
        found.append(books_recorder(database_url(), config["telemetry_retention"]))
    if config["telemetry"] in ("on", "otlp"):
        found += otlp_recorders(config["api_url"], api_key or config["api_key"])
    return found
