"""`aistrale run`: ask a model, from an argument, a pipe, a stored prompt."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import typer

import aistrale
from aistrale.exceptions import InvalidRequestError
from aistrale.models import Message
from aistrale_cli.inputs import options_of, pairs_of, prompt_of, schema_of
from aistrale_cli.parsing import group
from aistrale_cli.render import Table, code_block, completion_json, completion_rows, print_table, summary

_HELP = """Ask a model, and print its answer.

\b
aistrale run "Why is the sky blue?"
cat main.py | aistrale run "Explain this" -m openai/gpt-5-mini
aistrale run "A dog" --schema "name, age int, bio: one sentence" --output json
aistrale run -p support-reply -v customer=Ada
"""

Prompt = Annotated[str | None, typer.Argument(help="What to ask; below what is piped in.", show_default=False)]
Model = Annotated[str | None, typer.Option("--model", "-m", help='A model, such as "openai/gpt-5-mini".')]
Provider = Annotated[str | None, typer.Option("--provider", help='A provider; "echo" answers offline.')]
System = Annotated[str | None, typer.Option("--system", "-s", help="What the model is to be.")]
Stored = Annotated[str | None, typer.Option("--prompt", "-p", help='A stored prompt, such as "reply@production".')]
Variables = Annotated[list[str] | None, typer.Option("--var", "-v", help="A variable of it, as name=value.")]
Options = Annotated[
    list[str] | None, typer.Option("--option", "-o", help="An option of the call, such as temperature=0.2.")
]
Schema = Annotated[
    str | None, typer.Option(help='The answer\'s shape: a file, JSON, or in short "name, age int, bio: a line".')
]
Streaming = Annotated[bool, typer.Option("--stream/--no-stream", help="Print the answer as it comes.")]
Output = Annotated[Literal["plain", "json", "table"], typer.Option("--output", help="How it is printed.")]
Extract = Annotated[bool, typer.Option("--extract", "-x", help="Print the first code block of the answer alone.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No last line with tokens, cost and time.")]


def run(
    prompt: Prompt = None,
    model: Model = None,
    provider: Provider = None,
    system: System = None,
    stored: Stored = None,
    variables: Variables = None,
    options: Options = None,
    schema: Schema = None,
    stream: Streaming = True,
    output: Output = "plain",
    extract: Extract = False,
    quiet: Quiet = False,
) -> None:
    asked, given = _asked(prompt, system, stored, variables or ())
    given |= options_of(options or ())
    if schema is not None:
        given["response_format"] = schema_of(schema)
    is_shown_as_it_comes = stream and output == "plain" and not extract
    completion = _answer(asked, {**given, "model": model, "provider": provider}, is_shown_as_it_comes)
    if output == "json":
        completion_json(completion)
    elif output == "table":
        print_table(Table(("what", "value"), completion_rows(completion)), output)
    elif extract:
        sys.stdout.write(code_block(completion.text))
    elif not is_shown_as_it_comes:
        sys.stdout.write(f"{completion.text}\n")
    sys.stdout.flush()
    if not quiet:
        typer.echo(summary(completion), err=True)


run.__doc__ = _HELP

app = group()
app.command()(run)


def _asked(
    prompt: str | None, system: str | None, stored: str | None, variables: Iterable[str]
) -> tuple[aistrale.Prompt, dict[str, Any]]:
    """What is asked, and the options that go with it: a stored prompt's text, if there is one, is its `input`."""
    text = prompt_of(prompt)
    if stored is None:
        if variables:
            raise InvalidRequestError("Variables are a stored prompt's: name one with -p, or leave out -v")
        return (text if system is None else [Message("system", system), Message("user", text)]), {}
    if system is not None:
        raise InvalidRequestError("A stored prompt says what the model is to be: leave out -s, or -p")
    given = pairs_of(variables, "A variable")
    return stored, {"variables": {**({"input": text} if text else {}), **given}}


def _answer(asked: aistrale.Prompt, options: dict[str, Any], is_shown: bool) -> aistrale.Completion:
    """The answer; as it comes, on stdout, if it is to be shown so."""
    answer = aistrale.Client(surface="cli").stream(asked, **options)
    for chunk in answer:
        if is_shown and chunk.text:
            sys.stdout.write(chunk.text)
            sys.stdout.flush()
    if is_shown:
        sys.stdout.write("\n")
    return answer.completion
