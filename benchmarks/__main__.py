"""Measure Aistrale beside its peers against one loopback upstream, and print its bars.

The exit status is 0 whatever the figures are: a benchmark is no test.
"""

import argparse
import importlib.metadata
import os
import platform
import tempfile
from collections.abc import MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import report, upstream
from benchmarks.contenders import NAMES
from benchmarks.report import Spread
from benchmarks.sections import QUICK, SECTIONS, Plan

CONFIGURING = ("AISTRALE_", "LANGCHAIN_", "LANGSMITH_", "LITELLM_", "OPENAI_", "OTEL_")
PEERS_SET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
"""Without this, importing LiteLLM fetches its price list."""
PROXIES = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def make_default(environment: MutableMapping[str, str], scratch: Path) -> None:
    """Take out what moves a contender from its defaults, and let processes write only to `scratch`.

    Bytecode goes there only where the environment forbids to write it beside its source.
    """
    for name in list(environment):
        if name.startswith(CONFIGURING) or name.upper() in PROXIES:
            del environment[name]
    environment.update(PEERS_SET)
    environment["AISTRALE_HOME"] = str(scratch / "home")
    if environment.pop("PYTHONDONTWRITEBYTECODE", ""):
        environment["PYTHONPYCACHEPREFIX"] = str(scratch / "bytecode")


def contender_names(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list."""
    names = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in names if name not in NAMES]:
        raise argparse.ArgumentTypeError(f"no contender {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return names


def number_of_rounds(text: str) -> int:
    rounds = int(text)
    if rounds < 1:
        raise argparse.ArgumentTypeError("at least one round")
    return rounds


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--only", type=contender_names, default=NAMES, metavar="NAMES", help=f"of {','.join(NAMES)}")
    parser.add_argument("--rounds", type=number_of_rounds, help="rounds of run, stream and async")
    parser.add_argument("--quick", action="store_true", help="few and short rounds: to see that all is well")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.sections if name not in SECTIONS]:
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    return options


def plan_of(options: argparse.Namespace) -> Plan:
    plan = QUICK if options.quick else Plan()
    return replace(plan, rounds=options.rounds, async_rounds=options.rounds) if options.rounds else plan


def surroundings() -> str:
    """The interpreter, the cores and the versions measured: figures mean little without them."""
    versions = (f"{name} {version}" for name in NAMES if (version := _version(name)))
    return f"Python {platform.python_version()}, {os.cpu_count()} cores\n{', '.join(versions)}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    plan = plan_of(options)
    figures: dict[str, Spread] = {}
    print(surroundings(), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        make_default(os.environ, Path(scratch))
        with upstream.running() as base_url:
            for name in options.sections or SECTIONS:
                found = SECTIONS[name](plan, options.only, base_url)
                figures.update(found.figures)
                print(f"\n{found.text}", flush=True)
    print(f"\n{report.bars(figures)}")


if __name__ == "__main__":
    main()
