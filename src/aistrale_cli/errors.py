"""How a command ends that fails: one line that says what happened and what to do, and a status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from aistrale.exceptions import (
    AistraleError,
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    InvalidRequestError,
    OutputError,
    PermissionDeniedError,
    RateLimitError,
)

EXIT_CODES: tuple[tuple[type[AistraleError], int], ...] = (
    (AuthenticationError, 4),
    (PermissionDeniedError, 4),
    (RateLimitError, 5),
    (BudgetExceededError, 5),
    (ConfigurationError, 2),
    (InvalidRequestError, 2),
    (AistraleError, 1),
)


def exit_code(error: AistraleError) -> int:
    """The exit status that stands for an error: 2 usage, 4 authentication, 5 rate limit or budget, else 1."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


@contextmanager
def exits(output: str = "plain") -> Iterator[None]:
    """Have an error of ours end the command: in one line on stderr, of JSON where that is its output.

    An answer that is not what was asked for is not lost: it stands above the line, or in the JSON.
    """
    try:
        yield
    except AistraleError as error:
        code = exit_code(error)
        answer = error.text if isinstance(error, OutputError) else ""
        if output == "json":
            told = {"type": type(error).__name__, "message": error.message, "exit_code": code}
            typer.echo(json.dumps({"error": told | ({"text": answer} if answer else {})}), err=True)
        else:
            typer.echo(f"{answer}\naistrale: {error.message}" if answer else f"aistrale: {error.message}", err=True)
        raise typer.Exit(code) from None
