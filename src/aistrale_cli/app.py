"""Which commands there are, and how one of them is run. Each is loaded when it is called."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from aistrale.version import __version__
from aistrale_cli.ending import run_to_end
from aistrale_cli.parsing import group

if TYPE_CHECKING:
    from typer._click import Command, Context

COMMANDS = {
    "run": "Ask a model, and print its answer.",
    "telemetry": "Look into the books: calls, sums and traces.",
}
"""What each says of itself in one line. Its module here has its name, and its Typer app is called `app`."""


class _Commands(TyperGroup):
    """The commands by name and first line; the one that is called is loaded."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=line) for name, line in COMMANDS.items()}

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and get_command(import_module(f"aistrale_cli.{name}").app), rest


app = group(
    name="aistrale",
    cls=_Commands,
    help="""Call language models from the shell, and see what was called and what it cost.

    \b
    aistrale run "Why is the sky blue?" -m openai/gpt-5-mini
    git diff | aistrale run "Write a commit message"
    aistrale telemetry view --last 24h
    """,
    epilog="Each command has a --help of its own. Exit codes: 1 failed, 2 called wrongly, 4 key, 5 limit, 130 Ctrl-C.",
)


def _say_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"aistrale {__version__}")
        raise typer.Exit


@app.callback()
def _aistrale(
    profile: Annotated[
        str | None, typer.Option(help="The profile of your configuration to go by.", show_default=False)
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error, and what is logged.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Say the version, and exit.", is_eager=True, callback=_say_version)
    ] = False,
) -> None:
    if profile is not None:
        os.environ["AISTRALE_PROFILE"] = profile


def main(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name; returns the exit status."""
    return run_to_end(get_command(app), arguments)
