"""The sections of the bench. Each measures, and gives its table as text and the figures the bars ask for."""

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from aistrale.tracing.recorder import LINGER_SECONDS
from benchmarks import bookkeepers, books, contenders, startup, upstream
from benchmarks.comparison import Comparison, Figure, Round, compare, field
from benchmarks.report import Findings, Spread, findings
from benchmarks.worker import WORKLOADS, Block, Job

US = "aistrale"
IN_FLIGHT = (50, 200)
MEMORY_STEPS = 10
MODULES = {
    US: "aistrale",
    "httpx": "httpx",
    "openai": "openai",
    "langchain-openai": "langchain_openai",
    "litellm": "litellm",
}

PEER_IMPORTS = 1
"""Peers take seconds to import: one round tells enough."""

WRITING_SECONDS = 2 * LINGER_SECONDS
"""Spans wait so long for company, twice over."""

ANSWER_SECONDS = 0.01
"""How long an upstream takes for an answer where many are to be in flight. With one that answers at once they are not:
a client that is busy has a dozen on their way, the others wait in it, and its pool is as small as that.
"""

Only = Collection[str]
"""The names of the contenders that take part."""


@dataclass(frozen=True)
class Plan:
    """How much to measure: counts of rounds, calls and imports, and about how long a block of calls lasts."""

    rounds: int = 10
    block_seconds: float = 0.2
    async_rounds: int = 3
    async_block_seconds: float = 1.5
    memory_calls: int = 100_000
    imports: int = 15
    size: books.Size = dataclasses.field(default_factory=books.Size)


QUICK = Plan(
    rounds=3,
    block_seconds=0.1,
    async_rounds=2,
    async_block_seconds=0.4,
    memory_calls=10_000,
    imports=5,
    size=books.QUICK,
)


def run(plan: Plan, only: Only, base_url: str) -> Findings:
    """One completion at a time."""
    return _latency("run", contenders.RUN, plan, only, base_url)


def stream(plan: Plan, only: Only, base_url: str) -> Findings:
    """One stream of 100 chunks at a time."""
    return _latency("stream", contenders.STREAM, plan, only, base_url)


def _latency(workload: str, names: Iterable[str], plan: Plan, only: Only, base_url: str) -> Findings:
    jobs = [Job(workload, name) for name in names if name in only]
    played = compare(jobs, base_url, rounds=plan.rounds, block_seconds=plan.block_seconds)
    floor = Job(workload, "httpx")
    rows = [
        (
            str(job),
            _milliseconds(played.spread(job, _seconds_each), ".3f"),
            _milliseconds(played.spread(job, _cpu_each), ".3f"),
            _ratio(played.ratio(job, floor, _seconds_each)),
        )
        for job in played.jobs
    ]
    figures = {workload: played.ratio(Job(workload, US), floor, _seconds_each)}
    return findings((workload, "ms a call", "CPU ms a call", "x bare httpx"), rows, played.remarks, figures)


def concurrency(plan: Plan, only: Only, base_url: str) -> Findings:
    """Completions in a closed loop on asyncio, many in flight."""
    few, many = IN_FLIGHT
    jobs = [Job("async", name, width) for name in contenders.ASYNC if name in only for width in IN_FLIGHT]
    played = compare(jobs, base_url, rounds=plan.async_rounds, block_seconds=plan.async_block_seconds)
    rows = [
        (
            str(job),
            played.spread(job, _rate).text(",.0f"),
            _milliseconds(played.spread(job, _cpu_each), ".3f"),
            _ratio(played.ratio(job, replace(job, contender="openai"), _rate)),
            _ratio(played.ratio(job, replace(job, in_flight=few), _rate)),
        )
        for job in played.jobs
    ]
    us = Job("async", US, few)
    figures = {
        "async": played.ratio(us, replace(us, contender="openai"), _rate),
        "more in flight": played.ratio(replace(us, in_flight=many), us, _rate),
        "more beside aiohttp": played.within_rounds(lambda blocks: _kept(blocks, US) / _kept(blocks, "aiohttp")),
    }
    head = ("async", "calls/s", "CPU ms a call", "x openai", f"x itself at {few}")
    return findings(head, rows, played.remarks, figures)


def _kept(blocks: Round, contender: str) -> float:
    """What part of its throughput a contender keeps when more are in flight."""
    few, many = (_rate(blocks[Job("async", contender, width)]) for width in IN_FLIGHT)
    return many / few


def memory(plan: Plan, only: Only, base_url: str) -> Findings:
    """Resident memory while one client makes many calls."""
    jobs = [Job("run", US)] if US in only else []
    return memory_of(jobs, plan.memory_calls // MEMORY_STEPS, base_url)


def memory_of(jobs: Sequence[Job], step: int, base_url: str) -> Findings:
    """The resident memory of `jobs` after each of MEMORY_STEPS blocks; growth counts from the second."""
    with field(jobs, base_url) as workers:
        blocks = [workers.ask(lambda _, worker: worker.block(step)) for _ in range(MEMORY_STEPS)]
        stood = workers.audit()
    resident = {job: [taken[job].resident_kib / 1024 for taken in blocks] for job in stood}
    growth = {job.contender: samples[-1] - samples[1] for job, samples in resident.items()}
    head = ("MiB after calls", *(f"{(number + 1) * step:,}" for number in range(MEMORY_STEPS)), "growth")
    rows = [
        (str(job), *(f"{mib:.1f}" for mib in samples), f"{growth[job.contender]:+.2f}")
        for job, samples in resident.items()
    ]
    return findings(head, rows, workers.remarks, {"memory": Spread.of([growth[US]]) if US in growth else None})


def imports(plan: Plan, only: Only, base_url: str) -> Findings:
    """The whole start-up of a process that imports a package, against one that imports nothing."""
    remarks = []
    rounds = {}
    for name in (name for name in MODULES if name in only):
        try:
            startup.warm_up(MODULES[name])
            rounds[MODULES[name]] = plan.imports if name == US else min(plan.imports, PEER_IMPORTS)
        except startup.ImportFailedError as error:
            remarks.append(f"{name}: left out: {error}")
    taken = startup.time_start_ups(rounds)
    over = {module: Spread.of(taken.over(module)) for module in rounds}
    rows = [("nothing", _milliseconds(Spread.of(taken.bare), ".1f"), "-")] if taken.bare else []
    rows += [
        (
            f"import {module}",
            _milliseconds(Spread.of(taken.seconds[module]), ".1f"),
            _milliseconds(over[module], ".1f"),
        )
        for module in rounds
    ]
    figures: dict[str, Spread | None] = {}
    if MODULES[US] in rounds:
        heavy = startup.heavy_imports(MODULES[US])
        remarks.append(f"{US}: loads {' '.join(heavy) or 'none'} of {' '.join(startup.HEAVY)}")
        figures = {
            "import": Spread.of(1e3 * seconds for seconds in taken.over(MODULES[US])),
            "heavy imports": Spread.of([len(heavy)]),
        }
    return findings(("start-up", "ms", "over bare Python"), rows, remarks, figures)


def telemetry(plan: Plan, only: Only, base_url: str) -> Findings:
    """What telemetry costs a call in all, to the end of the work in the background, which competes with the calls.

    Beside the books: the least, by hand, that takes part in traces and fills the tables of the books; OpenTelemetry's
    SDK, and the least that keeps a call at all, which put each span into one table as it is, without prices, sums,
    events or further indexes. A span of the SDK around nothing says how fast the machine is. A block lasts
    WRITING_SECONDS: its end has the rest written at once, and short blocks would have the books written much more often
    than they are by themselves. Many rounds, for these are small differences of large times.
    """
    names = ("unobserved", "booked", "SDK", "least", "bare", "span")
    jobs = [Job("books", name) for name in names] if US in only else []
    off, on, sdk, least, bare, span = (Job("books", name) for name in names)
    played = compare(jobs, base_url, rounds=2 * plan.rounds, block_seconds=WRITING_SECONDS)

    def paid(job: Job, figure: Figure) -> Spread | None:
        return played.within_rounds(
            lambda blocks: 1e6 * (figure(blocks[job]) - figure(blocks[off])), Spread.of_middle_half
        )

    named = {
        on: "the books, written",
        sdk: "OpenTelemetry's SDK, one bare table",
        least: "the least that fills the tables of the books",
        bare: "a queue, a thread, one bare table",
    }
    rows = []
    for job, what in named.items():
        taken = [paid(job, figure) for figure in (_seconds_each, _cpu_each, _caller_each)]
        if None not in taken:
            rows.append((what, *(spread.text(".0f") for spread in taken if spread)))
    alone = played.within_rounds(lambda blocks: 1e6 * _seconds_each(blocks[span]), Spread.of_middle_half)
    if alone is not None:
        rows.append(("to compare: a span of the SDK around nothing", alone.text(".0f"), "-", "-"))
    figures = {
        "telemetry": paid(on, _seconds_each),
        "telemetry beside SDK": _of_medians(paid(on, _cpu_each), paid(sdk, _cpu_each)),
        "telemetry beside least": _of_medians(paid(on, _cpu_each), paid(least, _cpu_each)),
    }
    head = ("telemetry, over a call without", "us a call", "us of CPU", "of it the caller's own")
    remarks = ("the middle half of the rounds in brackets", *played.remarks) if rows else played.remarks
    return findings(head, rows, remarks, figures)


def _of_medians(figure: Spread | None, reference: Spread | None) -> Spread | None:
    """Their ratio: that of each round would divide by differences near nothing."""
    return Spread.of([figure.median / reference.median]) if figure and reference else None


def collector(plan: Plan, only: Only, base_url: str) -> Findings:
    """What a collector that is down costs the calls, and the end of the process."""
    off = Job("collector", "unobserved")
    down = [Job("collector", name) for name in bookkeepers.DOWN]
    jobs = [off, *down] if US in only else []
    played = compare(jobs, base_url, rounds=plan.rounds, block_seconds=plan.block_seconds)

    def paid(job: Job) -> Spread | None:
        return played.within_rounds(lambda blocks: 1e3 * (_seconds_each(blocks[job]) - _seconds_each(blocks[off])))

    figures: dict[str, Spread | None] = {}
    rows = []
    for job in down:
        if (milliseconds := paid(job)) is not None:
            ends = books.ends(plan.size, bookkeepers.DOWN[job.contender])
            figures |= {f"{job} paid": milliseconds, f"{job} end": ends}
            rows.append((str(job), milliseconds.text(".3f"), ends.text(".2f")))
    head = ("a collector that is down", "ms a call", "s to the end of the process")
    return findings(head, rows, played.remarks, figures)


def kept(plan: Plan, only: Only, base_url: str) -> Findings:
    """The books themselves."""
    if US not in only:
        return findings(("books", "measured"), (), (), {})
    with TemporaryDirectory() as folder:
        return books.books(plan.size, Path(folder))


@dataclasses.dataclass(frozen=True)
class Framework:
    """Who is measured in one, and the workloads for one call, a stream of chunks, and many calls in flight."""

    name: str
    ours: str
    theirs: str
    one: str
    chunks: str
    many: str


LANGCHAIN = Framework("langchain", "ChatAistrale", "ChatOpenAI", "invoke", "chunks", "ainvoke")
LLAMAINDEX = Framework("llamaindex", "AistraleLLM", "OpenAI", "complete", "stream_complete", "acomplete")
LEAST = "bare"


def _beside(
    of: Framework, plan: Plan, base_url: str
) -> tuple[list[tuple[str, ...]], list[str], dict[str, Spread | None]]:
    """Our model beside another package's, the barest there can be, and bare httpx: rows, remarks and figures."""
    figures: dict[str, Spread | None] = {}
    rows: list[tuple[str, ...]] = []
    remarks: list[str] = []
    for workload, what in ((of.one, of.one), (of.chunks, "a stream of 100 chunks")):
        jobs = [Job(workload, name) for name in WORKLOADS[workload].openers]
        played = compare(jobs, base_url, rounds=plan.rounds, block_seconds=plan.block_seconds)
        remarks += played.remarks
        us, them, floor, httpx = (Job(workload, name) for name in (of.ours, of.theirs, LEAST, "httpx"))
        for job in played.jobs:
            ratio = _ratio(played.ratio(job, us, _seconds_each))
            rows.append((f"{what}, {job}", _milliseconds(played.spread(job, _seconds_each), ".3f"), "-", ratio))
        figures[f"{of.name} {workload}"] = played.ratio(them, us, _seconds_each)
        figures[f"{of.name} {workload} floor"] = played.ratio(us, floor, _seconds_each)
        if workload == of.one:
            figures[f"{of.name} over httpx"] = _more(played, us, httpx)
        figures[f"{of.name} {workload} over floor"] = _more(played, us, floor)

    us, them, floor = (Job(of.many, name, IN_FLIGHT[0]) for name in (of.ours, of.theirs, LEAST))

    def many(url: str, when: str) -> Comparison:
        played = compare([us, them, floor], url, rounds=plan.async_rounds, block_seconds=plan.async_block_seconds)
        remarks.extend(played.remarks)
        for job in played.jobs:
            cpu, rate = played.spread(job, _cpu_each), played.spread(job, _rate).text(",.0f")
            ratio = _ratio(played.ratio(us, job, _rate))
            rows.append((f"{of.many}, {job}, {when}", _milliseconds(cpu, ".3f"), rate, ratio))
        return played

    with upstream.running("--delay", str(ANSWER_SECONDS)) as slow_url:
        played = many(slow_url, f"{1e3 * ANSWER_SECONDS:.0f} ms each")
        figures[f"{of.name} {of.many}"] = played.ratio(us, them, _rate)
    figures[f"{of.name} {of.many} floor"] = many(base_url, "answered at once").ratio(floor, us, _rate)
    return rows, remarks, figures


def _more(played: Comparison, job: Job, reference: Job) -> Spread | None:
    """How many microseconds more a call takes."""
    return played.within_rounds(lambda blocks: 1e6 * (_seconds_each(blocks[job]) - _seconds_each(blocks[reference])))


def llamaindex(plan: Plan, only: Only, base_url: str) -> Findings:
    """Our LlamaIndex model beside that of OpenAI's integration."""
    if US not in only:
        return findings(("LlamaIndex", "measured"), (), (), {})
    rows, remarks, figures = _beside(LLAMAINDEX, plan, base_url)
    head = ("LlamaIndex", "ms a call (in flight: of CPU)", "calls/s", "x AistraleLLM's time")
    return findings(head, rows, remarks, figures)


def langchain(plan: Plan, only: Only, base_url: str) -> Findings:
    """Our chat model beside that of OpenAI's partner package, and what our tracer costs."""
    if US not in only:
        return findings(("LangChain", "measured"), (), (), {})
    rows, remarks, figures = _beside(LANGCHAIN, plan, base_url)
    plain, traced = (Job("tokens", name) for name in (LANGCHAIN.ours, "traced"))
    played = compare([plain, traced], base_url, rounds=plan.rounds, block_seconds=plan.block_seconds)
    remarks += played.remarks
    rows += [
        (f"astream of 100 chunks, {job}", _milliseconds(played.spread(job, _seconds_each), ".3f"), "-", "-")
        for job in played.jobs
    ]
    figures["langchain tracer"] = played.within_rounds(
        lambda blocks: 1e6 * (_seconds_each(blocks[traced]) - _seconds_each(blocks[plain])) / upstream.DELTAS
    )
    head = ("LangChain", "ms a call (in flight: of CPU)", "calls/s", "x ChatAistrale's time")
    return findings(head, rows, remarks, figures)


def script(plan: Plan, only: Only, base_url: str) -> Findings:
    """A script of one call."""
    if US not in only:
        return findings(("a script of one call", "ms"), (), (), {})
    with TemporaryDirectory() as folder:
        return books.script(plan.size, Path(folder))


SECTIONS = {
    "run": run,
    "stream": stream,
    "async": concurrency,
    "memory": memory,
    "import": imports,
    "telemetry": telemetry,
    "collector": collector,
    "langchain": langchain,
    "llamaindex": llamaindex,
    "script": script,
    "books": kept,
}


def _seconds_each(block: Block) -> float:
    return block.seconds / block.calls


def _cpu_each(block: Block) -> float:
    return block.cpu_seconds / block.calls


def _caller_each(block: Block) -> float:
    return block.caller_seconds / block.calls


def _rate(block: Block) -> float:
    return block.calls / block.seconds


def _milliseconds(seconds: Spread, number: str) -> str:
    return seconds.text(number, scale=1e3)


def _ratio(ratio: Spread | None) -> str:
    return ratio.text(".2f") if ratio else "-"
