"""Figures as text: spreads, tables, and the bars with their verdicts. Nothing here measures."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import ge, le, lt


@dataclass(frozen=True)
class Spread:
    """The median of some samples and their range, or that of the middle half of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Iterable[float]) -> "Spread":
        ordered = sorted(samples)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])

    @classmethod
    def of_middle_half(cls, samples: Iterable[float]) -> "Spread":
        """For many samples, whose outermost say more of the machine than of what is measured."""
        low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, low, high)

    def text(self, number: str, scale: float = 1.0) -> str:
        """`median (low-high)`, each multiplied by `scale` and formatted as `number` says."""
        median, low, high = (format(value * scale, number) for value in (self.median, self.low, self.high))
        return median if low == high else f"{median} ({low} to {high})"


@dataclass(frozen=True)
class Bar:
    """A promise about one figure: `holds(figure's median, limit)`."""

    promise: str
    figure: str
    limit: float
    holds: Callable[[float, float], bool]
    number: str


BARS = (
    Bar("run: at most 1.5 times bare httpx", "run", 1.5, le, ".2f"),
    Bar("stream of 100 chunks: at most 2 times bare httpx", "stream", 2.0, le, ".2f"),
    Bar("50 in flight: at least 10 times openai's throughput", "async", 10.0, ge, ".1f"),
    Bar("200 in flight: throughput no lower than at 50", "more in flight", 1.0, ge, ".2f"),
    Bar("200 in flight: holds up as bare aiohttp does, to 10%", "more beside aiohttp", 0.9, ge, ".2f"),
    Bar("memory: grows by less than 2 MiB after warm-up", "memory", 2.0, lt, ".2f"),
    Bar("import: at most 25 ms over bare Python", "import", 25.0, le, ".1f"),
    Bar("import: loads none of the heavy packages", "heavy imports", 0, le, ".0f"),
    Bar("telemetry: a call pays at most 60 us in all", "telemetry", 60.0, le, ".0f"),
    Bar(
        "telemetry: costs at most twice the least that fills the books by hand",
        "telemetry beside least",
        2.0,
        le,
        ".2f",
    ),
    Bar("telemetry: costs at most 1.5 times the bare SDK with one table", "telemetry beside SDK", 1.5, le, ".2f"),
    Bar("a collector that refuses: a call pays less than 1 ms", "refusing paid", 1.0, lt, ".3f"),
    Bar("a collector that refuses: the process ends within 2 s", "refusing end", 2.0, lt, ".2f"),
    Bar("a collector that is silent: a call pays less than 1 ms", "silent paid", 1.0, lt, ".3f"),
    Bar("a collector that is silent: the process ends within 2 s", "silent end", 2.0, lt, ".2f"),
    Bar("LangChain: invoke costs at most 300 us over bare httpx", "langchain over httpx", 300, le, ".0f"),
    Bar("LangChain: invoke is at least 2 times as fast as ChatOpenAI's", "langchain invoke", 2.0, ge, ".2f"),
    Bar("LangChain: a stream is at least 4 times as fast as ChatOpenAI's", "langchain chunks", 4.0, ge, ".2f"),
    Bar("LangChain: 50 in flight: 8 times ChatOpenAI's throughput", "langchain ainvoke", 8.0, ge, ".1f"),
    Bar(
        "LangChain: a stream takes at most 1.5 times the barest model's time", "langchain chunks floor", 1.5, le, ".2f"
    ),
    Bar(
        "LangChain: 50 in flight: at least half the barest model's throughput",
        "langchain ainvoke floor",
        2.0,
        le,
        ".2f",
    ),
    Bar("LangChain: the tracer costs at most 15 us a token, async", "langchain tracer", 15.0, le, ".1f"),
    Bar("LlamaIndex: complete costs at most 372 us over bare httpx", "llamaindex over httpx", 372, le, ".0f"),
    Bar("LlamaIndex: complete is at least 2 times as fast as OpenAI's", "llamaindex complete", 2.0, ge, ".2f"),
    Bar("LlamaIndex: a stream is at least 4 times as fast as OpenAI's", "llamaindex stream_complete", 4.0, ge, ".2f"),
    Bar(
        "LlamaIndex: complete: at most 300 us over the barest model",
        "llamaindex complete over floor",
        300,
        le,
        ".0f",
    ),
    Bar(
        "LlamaIndex: a stream: at most 3,000 us over the barest",
        "llamaindex stream_complete over floor",
        3000,
        le,
        ".0f",
    ),
    Bar("LlamaIndex: 50 in flight: 8 times OpenAI's throughput", "llamaindex acomplete", 8.0, ge, ".1f"),
    Bar("a script of one call ends at most 100 ms later", "script", 100.0, le, ".0f"),
    Bar("at least 20,000 spans written a second", "rows", 20_000, ge, ",.0f"),
    Bar("query(last='24h') of 1,000,000 spans: at most 0.5 s, cold", "query", 0.5, le, ".3f"),
    Bar("summary(by='model') of them: at most 0.5 s, cold", "summary", 0.5, le, ".3f"),
    Bar("aistrale telemetry view --last 24h of them: at most 1 s, cold", "view", 1.0, le, ".3f"),
    Bar("a trace of 30,000 spans: at most 2 s, cold", "trace", 2.0, le, ".3f"),
    Bar("aistrale telemetry trace of them: at most 2 s, cold", "trace shown", 2.0, le, ".3f"),
    Bar("8 processes writing one file lose nothing", "lost", 0, le, ".0f"),
)
"""What Aistrale promises of itself."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns padded to their widest cell: the first to the left, the others to the right."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(_padded(line, widths) for line in lines)


def _padded(line: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    )
    return "  ".join((f"  {first}", *others)).rstrip()


@dataclass(frozen=True)
class Findings:
    """A section's text, and those of its figures that the bars ask for."""

    text: str
    figures: Mapping[str, Spread]


def findings(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    remarks: Iterable[str],
    figures: Mapping[str, Spread | None],
) -> Findings:
    """A table with remarks under it; figures that were not measured (None) are left out."""
    text = "\n".join((table(head, rows), *(f"    {remark}" for remark in remarks)))
    return Findings(text, {name: figure for name, figure in figures.items() if figure is not None})


def bars(figures: Mapping[str, Spread]) -> str:
    """The table of BARS; a figure that was not measured passes no verdict."""
    return table(("bar", "measured", "verdict"), (_bar_row(bar, figures.get(bar.figure)) for bar in BARS))


def _bar_row(bar: Bar, figure: Spread | None) -> tuple[str, str, str]:
    if figure is None:
        return bar.promise, "-", "not measured"
    return bar.promise, figure.text(bar.number), "ok" if bar.holds(figure.median, bar.limit) else "MISSED"
