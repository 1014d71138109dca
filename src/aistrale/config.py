"""What is configured, and where each value comes from.

    argument  >  environment  >  project file  >  user file  >  default

An argument is what `aistrale.configure(...)` or a client was given. The project file is the nearest
`aistrale.toml`, or `pyproject.toml` with a `[tool.aistrale]` table, in the working directory or above it;
the user file is `config.toml` in `AISTRALE_HOME` (by default `~/.aistrale`). Nothing is read at import.

A project file comes with the code one happens to stand in, so it may choose models and limits, but
neither keys nor the addresses keys are sent to, nor what becomes of the books: without them budgets
count nothing, and what is not kept is gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aistrale.exceptions import ConfigurationError


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be configured: its type, its environment variable, and whether a project may set it.

    A number must be at least `minimum`; a text must be one of `choices`, if there are any, where true and
    false mean the first two.
    """

    name: str
    kind: type
    variable: str | None = None
    default: Any = None
    project: bool = True
    minimum: float | None = None
    choices: tuple[str, ...] = ()


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("api_url", str, "AISTRALE_API_URL", project=False),
        Setting("api_key", str, "AISTRALE_API_KEY", project=False),
        Setting("base_url", str, project=False),
        Setting("provider", str, "AISTRALE_PROVIDER"),
        Setting("model", str, "AISTRALE_MODEL"),
        Setting("timeout", float, "AISTRALE_TIMEOUT", minimum=0.001),
        Setting("max_retries", int, "AISTRALE_MAX_RETRIES", 2, minimum=0),
        Setting("fallbacks", list),
        Setting("telemetry", str, "AISTRALE_TELEMETRY", "on", project=False, choices=("on", "off", "store", "otlp")),
        Setting("telemetry_retention", float, "AISTRALE_TELEMETRY_RETENTION", project=False, minimum=0.001),  # days
        Setting("capture_content", bool, project=False),
    )
}


@dataclass(frozen=True, slots=True)
class Value:
    """A setting's value and its origin: `argument`, `environment NAME`, a file's path, or `default`."""

    value: Any
    origin: str


class Config:
    """The settings as they stand now. `config["model"]` is a value, `config.explain("model")` says whence."""

    def __init__(self, arguments: Mapping[str, Any] | None = None) -> None:
        self._values = {name: Value(setting.default, "default") for name, setting in SETTINGS.items()}
        for path, table in _files():
            self._take(table, str(path))
        for setting in SETTINGS.values():
            if setting.variable and (text := os.environ.get(setting.variable, "").strip()):
                origin = f"environment {setting.variable}"
                self._values[setting.name] = Value(_settled(setting, _from_text(setting, text)), origin)
        given = {name: value for name, value in (arguments or {}).items() if value is not None}
        self._take(given, "argument")

    def __getitem__(self, name: str) -> Any:
        return self._values[name].value

    def explain(self, name: str) -> Value:
        """The value of a setting with its origin."""
        return self._values[name]

    def _take(self, table: Mapping[str, Any], origin: str) -> None:
        for name, value in table.items():
            setting = SETTINGS.get(name)
            if setting is None:
                raise ConfigurationError(
                    f"Unknown setting {name!r} ({origin}); known are {', '.join(sorted(SETTINGS))}"
                )
            if origin != "argument" or setting.choices:  # what is passed in code is checked where it is used
                _check(setting, value, f"{origin}: {name}" if origin != "argument" else name)
            self._values[name] = Value(_settled(setting, value), origin)


def home() -> Path:
    """The folder of the user's own files: `AISTRALE_HOME`, by default `~/.aistrale`."""
    return Path(os.environ.get("AISTRALE_HOME") or "~/.aistrale").expanduser()


def _files() -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The configuration files that exist, the weakest first."""
    user = home() / "config.toml"
    if user.is_file():
        yield user, _read(user)
    project = _project_file()
    if project is not None:
        path, table = project
        for name in table:
            if name in SETTINGS and not SETTINGS[name].project:
                raise ConfigurationError(
                    f"{path} sets {name!r}, which a project file may not: where your keys go and what is kept of "
                    f"your calls is yours to say. Set it in the environment or in {user}"
                )
        yield path, table


def _project_file() -> tuple[Path, Mapping[str, Any]] | None:
    try:
        here = Path.cwd()
    except FileNotFoundError:  # the working directory is gone: then there is no project either
        return None
    for folder in (here, *here.parents):
        own = folder / "aistrale.toml"
        if own.is_file():
            return own, _read(own)
        shared = folder / "pyproject.toml"
        if shared.is_file() and b"aistrale" in shared.read_bytes():
            table = _read(shared).get("tool", {}).get("aistrale")
            if table is not None and not isinstance(table, dict):
                raise ConfigurationError(f"{shared}: tool.aistrale must be a table")
            if table is not None:
                return shared, table
    return None


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


_WORDS = {
    "1": True,
    "true": True,
    "on": True,
    "yes": True,
    "0": False,
    "false": False,
    "off": False,
    "no": False,
}


def _from_text(setting: Setting, text: str) -> Any:
    value: Any = text
    with suppress(ValueError):
        value = _WORDS.get(text.lower(), text) if setting.kind is bool or setting.choices else setting.kind(text)
    _check(setting, value, str(setting.variable))
    return value


def _check(setting: Setting, value: Any, where: str) -> None:
    if setting.choices:
        fine = isinstance(value, bool) or value in setting.choices
        wanted = f"one of {', '.join(setting.choices)}"
    else:
        kind = (int, float) if setting.kind is float else setting.kind
        fine = isinstance(value, kind) and (setting.kind is bool or not isinstance(value, bool))
        wanted = _WANTED[setting.kind]
    if fine and setting.kind is list:
        fine = all(isinstance(entry, str) for entry in value)
    if fine and setting.minimum is not None:
        fine = value >= setting.minimum
    if not fine:
        raise ConfigurationError(f"{where} must be {wanted}, not {value!r}")


def _settled(setting: Setting, value: Any) -> Any:
    """A truth value as the choice it stands for."""
    return setting.choices[not value] if setting.choices and isinstance(value, bool) else value


_WANTED = {
    str: "a text",
    bool: "on or off (in a file: true or false)",
    int: "a whole number from 0 on",
    float: "a positive number",
    list: "a list of model names",
}
