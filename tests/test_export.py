"""Spans as files that other programs read."""

import csv
import inspect
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.compute
import pyarrow.parquet
import pytest
from calls import MOMENT, add, call, ids
from programs import printed

from aistrale import telemetry
from aistrale.exceptions import InvalidRequestError, StoreError
from aistrale.export import write_spans
from aistrale.models import Usage
from aistrale.spans import USAGE_ATTRIBUTES, Span, SpanEvent
from aistrale.store.store import Store

every_format = pytest.mark.parametrize("format", ["jsonl", "csv", "parquet"])

TEXTS = ["plain", "né✓😀", 'a "quoted", text;\r\nof two lines', "a\0b", "a\ud800b", "  ", "\u2028"]

SPANS = [
    call(
        MOMENT + n,
        0.25,
        model=text,
        session=text,
        tags=["nightly", "eu"],
        first_token=0.125,
        cost="0.000000000001",
        cost_source="provider",
        events=(SpanEvent("retry", MOMENT, {"text": text}),),
        parent_id="1" * 16,
        input_tokens=130_213,
        output_tokens=503,
        cache_read_tokens=128_955,
    )
    for n, text in enumerate(TEXTS)
] + [call(MOMENT + 100, model=None, operation=None, error="Timeout"), call(MOMENT + 101, cached=True, cost="12")]

NEWEST_FIRST = SPANS[::-1]


def strict(text: str) -> Any:
    """JSON as others read it, which has no NaN."""

    def refused(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refused)


def lines(path: Path) -> list[Any]:
    return [strict(line) for line in path.read_text("utf-8").splitlines()]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


READERS: dict[str, Callable[[Path], list[Any]]] = {
    "jsonl": lines,
    "csv": table,
    "parquet": lambda path: pyarrow.parquet.read_table(path).to_pylist(),
}


def readable(text: str | None) -> str | None:
    """A text as UTF-8 can hold it: half a character is none."""
    return None if text is None else text.encode("utf-8", "replace").decode()


def columns(span: Span) -> dict[str, Any]:
    """What a table tells of a span."""
    usage = span.usage
    return {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "kind": "client",
        "status": span.status,
        "operation": span.operation,
        "provider": span.provider,
        "model": readable(span.model),
        "response_model": span.response_model,
        "surface": span.surface,
        "session_id": readable(span.session_id),
        "user_id": span.user_id,
        "error_type": span.error_type,
        "cached": span.cached,
        "latency": span.latency,
        "time_to_first_token": span.time_to_first_token,
        "input_tokens": usage and usage.input_tokens,
        "output_tokens": usage and usage.output_tokens,
        "cache_read_tokens": usage and usage.cache_read_tokens,
        "cache_write_tokens": usage and usage.cache_write_tokens,
        "reasoning_tokens": usage and usage.reasoning_tokens,
        "cost": None if span.cost is None else format(span.cost, "f"),
        "cost_source": span.cost_source,
        "tags": " ".join(span.tags),
    }


# What is in them


def test_lines_of_json_hold_all_of_a_span(store: Store, tmp_path: Path) -> None:
    """The same span can be made of its line again."""
    add(store, SPANS)
    assert telemetry.export(tmp_path / "calls.jsonl") == len(SPANS)
    read = [
        Span(
            **{name: line[name] for name in ("trace_id", "span_id", "parent_id", "name", "kind", "status")},
            **{name: line[name] for name in ("start", "end", "attributes", "cost_source", "price_version")},
            events=tuple(SpanEvent(**event) for event in line["events"]),
            cost=None if line["cost"] is None else Decimal(line["cost"]),
        )
        for line in lines(tmp_path / "calls.jsonl")
    ]
    assert read == telemetry.query()
    assert ids(read) == ids(NEWEST_FIRST)


def test_parquet_has_a_column_for_each_thing(store: Store, tmp_path: Path) -> None:
    """Times, amounts, numbers and lists as what they are, what is not known as NULL, the rest among the attributes."""
    add(store, SPANS)
    assert telemetry.export(tmp_path / "calls.parquet") == len(SPANS)
    rows = READERS["parquet"](tmp_path / "calls.parquet")
    own = [{"cost": span.cost, "tags": [*span.tags], "started": span.started} for span in NEWEST_FIRST]
    expected = [{**columns(span), **typed} for span, typed in zip(NEWEST_FIRST, own, strict=True)]
    assert [{name: row[name] for name in expected[0]} for row in rows] == expected
    assert [json.loads(row["attributes"]) for row in rows] == [span.attributes for span in NEWEST_FIRST]


def test_parquet_says_of_what_kind_a_column_is(tmp_path: Path) -> None:
    """So that whoever reads it adds amounts up exactly, and asks for a day without taking a text apart."""
    write_spans(tmp_path / "calls.parquet", None, [])
    schema = pyarrow.parquet.read_schema(tmp_path / "calls.parquet")
    kinds = {field.name: str(field.type) for field in schema}
    assert {name: kind for name, kind in kinds.items() if kind != "string"} == {
        "started": "timestamp[us, tz=UTC]",
        "cached": "bool",
        "latency": "double",
        "time_to_first_token": "double",
        **dict.fromkeys(USAGE_ATTRIBUTES, "int64"),
        "cost": "decimal128(38, 12)",
        "tags": "list<element: string>",
    }


def test_amounts_in_parquet_add_up_exactly(store: Store, tmp_path: Path) -> None:
    """From the least the books can hold to the most; and times are those of the calls, wherever it is read."""
    amounts = ["0.000000000001", "9999.999999999999", "0.1", "0.2", "0", None]
    add(store, [call(MOMENT + n * 10**9, cost=amount) for n, amount in enumerate(amounts)])
    telemetry.export(tmp_path / "calls.parquet")
    read = pyarrow.parquet.read_table(
        tmp_path / "calls.parquet", filters=[("started", ">", datetime.fromtimestamp(0, UTC))]
    )
    assert pyarrow.compute.sum(read["cost"]).as_py() == sum(Decimal(amount) for amount in amounts if amount)
    assert read["cost"].null_count == 1
    whole = pyarrow.compute.min(read["started"]).as_py()
    assert whole == datetime(2026, 3, 1, 10, tzinfo=UTC)


def test_tags_with_blanks_stay_apart_in_parquet(tmp_path: Path) -> None:
    """And a character that is none is replaced."""
    tags = [["a b", "c"], ["a", "b c"], ["half \ud800"], []]
    write_spans(tmp_path / "calls.parquet", None, [call(tags=some) for some in tags])
    rows = READERS["parquet"](tmp_path / "calls.parquet")
    assert [row["tags"] for row in rows] == [["a b", "c"], ["a", "b c"], ["half ?"], []]


@every_format
def test_numbers_that_json_has_none_of_are_null(store: Store, tmp_path: Path, format: str) -> None:
    """NaN and infinities, wherever they are: other programs read every line."""
    span = call(events=(SpanEvent("odd", MOMENT, {"score": float("nan"), "fine": 0.5}),))
    span.attributes |= {"score": float("nan"), "scores": [1.5, float("-inf")], "half": "\ud800"}
    add(store, [span])
    path = tmp_path / f"calls.{format}"
    assert telemetry.export(path) == 1
    (row,) = READERS[format](path)
    attributes = row["attributes"] if format == "jsonl" else strict(row["attributes"])
    assert (attributes["score"], attributes["scores"], attributes["half"]) == (None, [1.5, None], "\ud800")
    if format == "jsonl":
        assert row["events"][0]["attributes"] == {"score": None, "fine": 0.5}


@every_format
def test_a_file_grows_while_spans_are_read(tmp_path: Path, format: str) -> None:
    """They are not all held first, however many there are."""
    sizes = []

    def reading() -> Iterator[Span]:
        for n in range(20_001):
            if n in (10_000, 20_000):
                sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
            yield call(MOMENT + n)

    write_spans(tmp_path / f"calls.{format}", None, reading())
    assert 0 < sizes[0] < sizes[1]


def test_csv_has_the_same_columns(store: Store, tmp_path: Path) -> None:
    """As text; what is not known is empty. Line breaks, quotes and commas are kept."""
    add(store, SPANS)
    assert telemetry.export(tmp_path / "calls.csv") == len(SPANS)
    rows = table(tmp_path / "calls.csv")
    expected = [columns(span) for span in NEWEST_FIRST]
    assert [{name: row[name] for name in expected[0]} for row in rows] == [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in expected
    ]
    telemetry.export(tmp_path / "calls.parquet")
    assert list(rows[0]) == pyarrow.parquet.read_schema(tmp_path / "calls.parquet").names


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_spreadsheet_runs_nothing_of_it(tmp_path: Path, start: str) -> None:
    """A text that looks like a formula becomes one that says so (OWASP, CSV injection); other formats keep it."""
    formula = f"{start}HYPERLINK(1)"
    span = call(model=formula, session=formula, tags=[formula], user=formula, error=formula, surface=formula)
    write_spans(tmp_path / "calls.csv", None, [span])
    (row,) = table(tmp_path / "calls.csv")
    for name in ("model", "session_id", "tags", "user_id", "error_type", "surface"):
        assert row[name] == f"'{formula}"
    assert not any(value.startswith(start) for value in row.values())

    write_spans(tmp_path / "calls.jsonl", None, [span])
    assert lines(tmp_path / "calls.jsonl")[0]["model"] == formula


@every_format
def test_every_page_of_the_books_is_in_a_file(store: Store, tmp_path: Path, format: str) -> None:
    """Each span once, however many there are."""
    spans = [call(MOMENT + n // 3) for n in range(5500)]
    add(store, spans)
    path = tmp_path / f"calls.{format}"
    assert telemetry.export(path) == 5500
    assert sorted(row["span_id"] for row in READERS[format](path)) == sorted(ids(spans))


@every_format
def test_filters_say_which(store: Store, tmp_path: Path, format: str) -> None:
    """The same as of queries; and none may be what is found."""
    add(store, [call(), call(model="gpt-5"), call(provider="gcp.gemini", model="gpt-5")])
    path = tmp_path / "calls"
    assert telemetry.export(str(path), format=format, model="openai/gpt-5") == 1
    assert [row["model"] for row in READERS[format](path)] == ["gpt-5"]
    assert telemetry.export(path, format=format, last="1h") == 0
    assert READERS[format](path) == []


def test_the_tables_of_no_spans_still_have_columns(store: Store, tmp_path: Path) -> None:
    """Whoever reads them finds the names."""
    telemetry.export(tmp_path / "calls.csv")
    telemetry.export(tmp_path / "calls.parquet")
    names = pyarrow.parquet.read_schema(tmp_path / "calls.parquet").names
    assert (tmp_path / "calls.csv").read_text() == ",".join(names) + "\n"


# Where


@pytest.mark.parametrize(
    ("name", "format", "told"), [("calls.xls", None, "xls"), ("calls", None, ""), ("calls.csv", "yaml", "yaml")]
)
def test_an_unknown_format_is_refused(in_folder: Path, name: str, format: str | None, told: str) -> None:
    """With those there are; and nothing is written."""
    with pytest.raises(InvalidRequestError) as caught:
        telemetry.export(name, format=format)
    assert str(caught.value) == f"{told!r} is no format to export: name the file .jsonl, .csv or .parquet"
    assert list(in_folder.iterdir()) == []


@every_format
@pytest.mark.parametrize(
    ("name", "why"),
    [("missing/calls", "No such file or directory"), ("folder", "Is a directory"), ("file/x", "Not a directory")],
)
def test_a_path_that_cannot_be_written_is_told(in_folder: Path, name: str, why: str, format: str) -> None:
    """By its name; and nothing is left behind."""
    (in_folder / "folder").mkdir()
    (in_folder / "file").write_text("mine")
    with pytest.raises(StoreError) as caught:
        write_spans(Path(name), format, [call()])
    assert str(caught.value).startswith(f"{name} cannot be written: ")
    assert why in str(caught.value)
    assert sorted(path.name for path in in_folder.rglob("*")) == ["file", "folder"]


@every_format
def test_a_file_is_replaced_once_the_new_one_is_whole(tmp_path: Path, format: str) -> None:
    """Until then it is as it was; and a draft that fails is gone."""
    path = tmp_path / f"calls.{format}"

    def failing() -> Iterator[Span]:
        yield call()
        assert path.read_text() == "old"
        raise StoreError("the database is gone")

    path.write_text("old")
    with pytest.raises(StoreError, match="the database is gone"):
        write_spans(path, None, failing())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]

    assert write_spans(path, None, [call()]) == 1
    assert len(READERS[format](path)) == 1
    assert list(tmp_path.iterdir()) == [path]


@every_format
def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path: Path, format: str) -> None:
    """A limit on the size of files does as much."""
    program = f"""
        import resource
        import signal
        from pathlib import Path

        import pyarrow.parquet
        from aistrale import StoreError
        from aistrale.export import write_spans
        from aistrale.spans import Span

        path = Path("calls.{format}")
        path.write_text("old")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            write_spans(path, None, (Span(f"{{n:032x}}", f"{{n * 7919:016x}}", "chat", n, n) for n in range(9_000)))
        except StoreError as error:
            print(error)
        print(path.read_text(), len(list(Path().iterdir())))
    """
    told, left = printed(program, cwd=tmp_path).splitlines()
    assert told.startswith(f"calls.{format} cannot be written: ")
    assert "File too large" in told
    assert left == "old 1"


def test_parquet_says_what_it_needs(tmp_path: Path) -> None:
    """Everything else works without."""
    program = """
        import sys
        from pathlib import Path

        sys.modules["pyarrow"] = None  # as if it were not installed
        from aistrale import ConfigurationError
        from aistrale.export import write_spans

        print(write_spans(Path("calls.csv"), None, []))
        try:
            write_spans(Path("calls.parquet"), None, [])
        except ConfigurationError as error:
            print(error)
    """
    assert printed(program, cwd=tmp_path) == "0\nParquet needs pyarrow: pip install pyarrow\n"


# From async code


async def test_async_code_has_the_same_functions(store: Store, tmp_path: Path) -> None:
    """They do their work in a thread."""
    span = call(model="our-own", input_tokens=1_000_000, output_tokens=0)
    add(store, [span])
    assert await telemetry.query_async(limit=1, model="our-own") == [span]
    assert [node.span for node in await telemetry.trace_async(span.trace_id)] == [span]
    price = await telemetry.set_price_async("our-own", input=2)
    assert await telemetry.prices_async() == [price]
    assert await telemetry.reprice_async(model="our-own") == 1
    (told,) = await telemetry.summary_async("model", last=None)
    assert (told.cost, told.usage) == (2, Usage(1_000_000))
    assert await telemetry.remove_price_async("our-own")
    assert await telemetry.export_async(tmp_path / "calls.csv", format="jsonl") == 1
    assert await telemetry.purge_async("1h") == 1
    assert await telemetry.query_async() == []
    with pytest.raises(TypeError, match="there is no filter 'colour'"):
        await telemetry.query_async(colour="red")  # type: ignore[call-arg]


def test_every_function_that_asks_the_books_has_a_twin_for_async_code() -> None:
    """With the same arguments."""
    public = {name: entry for name, entry in vars(telemetry).items() if callable(entry) and not name.startswith("_")}
    twins = {name for name in public if name.endswith("_async")}
    asking = {"query", "summary", "trace", "export", "purge", "set_price", "remove_price", "prices", "reprice", "flush"}
    assert twins == {f"{name}_async" for name in asking}
    for name in asking:
        twin = public[f"{name}_async"]
        assert inspect.iscoroutinefunction(twin)
        assert inspect.signature(twin) == inspect.signature(public[name])
        assert (twin.__name__, twin.__doc__) == (f"{name}_async", f"`{name}` for async code.")
