"""The commands. Each parses, calls the SDK and hands the result to render.py."""

from __future__ import annotations

import typer

from aistrale_cli import telemetry
from aistrale_cli.run import run

app = typer.Typer(
    name="aistrale",
    help="Call language models from the shell.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def _aistrale() -> None:
    """Call language models from the shell."""


app.command()(run)
app.add_typer(telemetry.app)
