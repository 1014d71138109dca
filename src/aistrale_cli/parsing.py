"""What commands have in common where their arguments are parsed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

Output = Annotated[Literal["table", "json", "plain"], typer.Option("--output", help="How it is printed.")]
"""How a list is printed: a table for people; one JSON text; or lines with tabs between, without a head."""


def group(**settings: Any) -> typer.Typer:
    """Commands that belong together. Help is plain text: Rich would double the time it takes."""
    return typer.Typer(
        **settings,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
