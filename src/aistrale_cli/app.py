"""The commands. Each parses, calls the SDK and hands the result to render.py."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import aistrale
from aistrale_cli import telemetry
from aistrale_cli.errors import exits
from aistrale_cli.render import summary

app = typer.Typer(
    name="aistrale",
    help="Call language models from the shell.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Prompt = Annotated[str, typer.Argument(help="What to ask.")]
Model = Annotated[str | None, typer.Option("--model", "-m", help='A model, such as "openai/gpt-5-mini".')]
Provider = Annotated[str | None, typer.Option("--provider", help='A provider; "echo" answers offline.')]
Streaming = Annotated[bool, typer.Option("--stream/--no-stream", help="Print the answer as it comes.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No last line with tokens, cost and time.")]


@app.callback()
def _aistrale() -> None:
    """Call language models from the shell."""


@app.command()
def run(
    prompt: Prompt, model: Model = None, provider: Provider = None, stream: Streaming = True, quiet: Quiet = False
) -> None:
    """Ask a model, and print its answer."""
    with exits():
        answer = aistrale.Client(surface="cli").stream(prompt, model=model, provider=provider)
        for chunk in answer:
            if stream and chunk.text:
                sys.stdout.write(chunk.text)
                sys.stdout.flush()
        completion = answer.completion
        sys.stdout.write("\n" if stream else f"{completion.text}\n")
        sys.stdout.flush()
    if not quiet:
        typer.echo(summary(completion), err=True)


app.add_typer(telemetry.app)
