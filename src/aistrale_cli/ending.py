"""How a command ends: with a status and, where it failed, one line on stderr that says what happened and what to do."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import typer
from typer._click.exceptions import ClickException, NoArgsIsHelpError, UsageError

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

if TYPE_CHECKING:
    from typer._click import Command

EXIT_CODES: tuple[tuple[type[Exception], int], ...] = (
    (UsageError, 2),
    (ConfigurationError, 2),
    (InvalidRequestError, 2),
    (AuthenticationError, 4),
    (PermissionDeniedError, 4),
    (RateLimitError, 5),
    (BudgetExceededError, 5),
    (Exception, 1),
)
"""2 usage, 4 authentication, 5 rate limit or budget, else 1."""

INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""


class CommandError(AistraleError):
    """A command could not do what was asked, for a reason the SDK has no error for."""


def run_to_end(command: Command, arguments: Sequence[str]) -> int:
    """Run a command; returns the exit status. `--debug` may stand anywhere among its arguments."""
    given = list(arguments)
    own = given[: given.index("--")] if "--" in given else given
    is_debugged = "--debug" in own
    if is_debugged:
        given.remove("--debug")
        logging.basicConfig(level=logging.WARNING)
        logging.getLogger("aistrale").setLevel(logging.DEBUG)
    _make_writable()
    try:
        status = command.main(args=given, prog_name="aistrale", standalone_mode=False)
        sys.stdout.flush()
    except NoArgsIsHelpError as error:
        error.show()
        return 2
    except BrokenPipeError:  # whoever read it has read enough, as `head -1` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is flushed at exit must not fail again
        return 1
    except typer.Abort:  # the input ended where an answer was asked for
        return _told(CommandError("Nothing was answered, so nothing was done"), own)
    except Exception as error:  # noqa: BLE001 - the edge: users get a line, and a traceback where they ask for one
        if is_debugged:
            traceback.print_exc()
        return _told(error, own)
    if status == INTERRUPTED:
        typer.echo(err=True)  # below what was being printed
    return status if isinstance(status, int) else 0


def exit_code(error: Exception) -> int:
    """The exit status that stands for an error."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def _told(error: Exception, arguments: Sequence[str]) -> int:
    """Tell of an error: in one line, of JSON where that is the command's output.

    An answer that is not what was asked for is not lost: it stands above the line, or in the JSON.
    """
    code = exit_code(error)
    answer = error.text if isinstance(error, OutputError) else ""
    if _is_json(arguments):
        told = {"type": type(error).__name__, "message": _message(error), "exit_code": code}
        typer.echo(json.dumps({"error": told | ({"text": answer} if answer else {})}), err=True)
    else:
        typer.echo(f"{answer}\naistrale: {_message(error)}" if answer else f"aistrale: {_message(error)}", err=True)
    return code


def _message(error: Exception) -> str:
    match error:
        case AistraleError():
            return error.message
        case UsageError(ctx=ctx) if ctx is not None:
            said = _one_line(error.format_message())
            return f"{said}{'' if said.endswith(('.', '?')) else '.'} See {ctx.command_path} --help"
        case ClickException():
            return _one_line(error.format_message())
        case OSError(strerror=str(reason), filename=name):
            return f"{reason}: {name}" if name is not None else reason
    return f"Something is wrong in aistrale itself: {_one_line(repr(error))}. --debug shows where"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _is_json(arguments: Sequence[str]) -> bool:
    """Whether JSON is asked for, also by arguments that cannot be parsed."""
    return "--output=json" in arguments or ("--output", "json") in pairwise(arguments)


def _make_writable() -> None:
    """Have every character printed, in whatever encoding, and stdout be there."""
    if sys.stdout is None:
        sys.stdout = _Closed()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


class _Closed:
    """Standard output that was closed before the start (`>&-`): printing says so."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise CommandError("Standard output is closed: there is nowhere to print to")

    def writelines(self, lines: Any) -> None:
        self.write("")

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return False
