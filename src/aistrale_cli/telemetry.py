"""`aistrale telemetry`: what was called, what it cost, and what one trace was made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Any

import typer

from aistrale import telemetry
from aistrale_cli.ending import CommandError
from aistrale_cli.parsing import Output, group
from aistrale_cli.render import Table, as_json, print_table, span_row, trace_rows

app = group(help="Look into the books: calls, sums and traces.")

_FILTERS: dict[str, Any] = {
    "last": Annotated[str | None, typer.Option(help='How far back: "30m", "24h", "7d".')],
    "model": Annotated[str | None, typer.Option("--model", "-m", help="The model that was asked for.")],
    "provider": Annotated[str | None, typer.Option(help="Whose model.")],
    "session": Annotated[str | None, typer.Option(help="Of a session.")],
    "user": Annotated[str | None, typer.Option(help="For a user.")],
    "tag": Annotated[str | None, typer.Option(help="With a tag.")],
    "status": Annotated[str | None, typer.Option(help='"ok" or "error".')],
    "surface": Annotated[str | None, typer.Option(help="sdk, langchain, llamaindex, cli, ...")],
    "operation": Annotated[str | None, typer.Option(help="chat, embeddings, execute_tool, ...")],
    "min_cost": Annotated[str | None, typer.Option(help="US dollars at least.")],
    "min_latency": Annotated[float | None, typer.Option(help="Seconds at least.")],
}
"""The SDK's filters as options."""


def _filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the filters as options; as `filters` it gets those that were given."""
    own = signature(command, eval_str=True)
    options = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in _FILTERS.items()
    ]
    kept = [parameter for parameter in own.parameters.values() if parameter.name != "filters"]

    @wraps(command)
    def run(*arguments: Any, **given: Any) -> None:
        filters = {name: value for name in _FILTERS if (value := given.pop(name)) is not None}
        command(*arguments, filters=filters, **given)

    parameters = sorted([*kept, *options], key=lambda parameter: parameter.kind)
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


@app.command()
@_filtered
def view(
    filters: dict[str, Any],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 50,
    output: Output = "table",
) -> None:
    """Calls and what is around them, the newest first."""
    found = telemetry.query(limit=limit, **filters)
    if output == "json":
        as_json(found)
        return
    head: tuple[str, ...] = ("when", "what", "tokens", "cost", "seconds", "status")
    if output == "plain":  # a terminal has no room for it
        head = (*head, "trace")
    print_table(Table(head, [(*span_row(span), span.trace_id)[: len(head)] for span in found]), output)
    if found.next is not None and output == "table":
        typer.echo(f"The newest {limit:,}; --limit shows more.", err=True)


@app.command()
def trace(
    trace_id: Annotated[str, typer.Argument(help="As `view --output plain` and a completion's `trace_id` say it.")],
    output: Output = "table",
) -> None:
    """One trace as a tree, with when each span was at work."""
    roots = telemetry.trace(trace_id)
    if not roots:
        raise CommandError(f"There is no trace {trace_id} in the books")
    if output == "json":
        as_json(span for root in roots for _, span in root.walk())
        return
    print_table(Table(("what", "at work", "seconds", "cost", "status"), trace_rows(roots)), output)
