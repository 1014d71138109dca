"""How a command ends that fails: one line that says what happened and what to do, and a status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from aistrale.exceptions import (
    AistraleError,
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    InvalidRequestError,
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
def exits() -> Iterator[None]:
    """Have an error of ours end the command."""
    try:
        yield
    except AistraleError as error:
        typer.echo(f"aistrale: {error.message}", err=True)
        raise typer.Exit(exit_code(error)) from None
