"""What must hold over many calls. Run by `make soak`; the smaller ones of these run with every test run."""

import asyncio
import gc
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import run_program
from upstream import Upstream

import aistrale


def options(upstream: Upstream) -> dict[str, str]:
    return {"provider": "openai", "model": "gpt-test", "api_key": "sk-soak", "base_url": upstream.url}


def growth_over(calls: int, call: Callable[[], object], warm_up: int) -> int:
    """Blocks of memory that Python holds more after `calls` calls than after `warm_up` of them."""
    for _ in range(warm_up):
        call()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(calls - warm_up):
        call()
    gc.collect()
    return sys.getallocatedblocks() - before


def test_many_event_loops_leave_nothing_behind(upstream: Upstream) -> None:
    """A script that calls asyncio.run for each call keeps no loop, no pool and no connection."""
    client = aistrale.AsyncClient(**options(upstream))

    def call() -> None:
        asyncio.run(client.run("Hello"))
        upstream.requests.clear()

    assert growth_over(60, call, warm_up=10) < 1_000
    upstream.wait_until_open(0)


def test_many_calls_leave_nothing_behind(upstream: Upstream) -> None:
    """Neither plain calls nor streams nor failures grow anything."""
    client = aistrale.Client(**options(upstream))

    def call() -> None:
        client.run("Hello")
        client.stream("one two").until_done()
        with client.stream("one two three") as left:
            next(left)
        with pytest.raises(aistrale.InvalidRequestError):
            client.run("")
        upstream.requests.clear()

    assert growth_over(150, call, warm_up=30) < 1_000


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_calls_leave_nothing_behind(upstream: Upstream) -> None:
    """Memory is flat over 100,000 calls of one client."""
    client = aistrale.Client(**options(upstream))

    def call() -> None:
        client.run("Hello")
        upstream.requests.clear()

    assert growth_over(100_000, call, warm_up=2_000) < 2_000


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_thousand_event_loops_leave_nothing_behind(upstream: Upstream) -> None:
    """Each has its pool, and takes it along."""
    client = aistrale.AsyncClient(**options(upstream))

    def call() -> None:
        asyncio.run(client.run("Hello"))
        upstream.requests.clear()

    assert growth_over(1_000, call, warm_up=50) < 2_000
    upstream.wait_until_open(0)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_keeping_the_books_of_a_hundred_thousand_calls_takes_no_more_memory(upstream: Upstream, tmp_path: Path) -> None:
    """Resident memory, the database library's own included, after 20,000 calls and after 100,000."""
    program = f"""
        import re
        from pathlib import Path
        import aistrale
        client = aistrale.Client(**{options(upstream)})
        def resident_after(calls):
            for _ in range(calls):
                client.run("Hello")
            aistrale.telemetry.query(limit=1)
            return int(re.search(r"VmRSS:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
        before = resident_after(20_000)
        print(resident_after(80_000) - before, sum(group.calls for group in aistrale.telemetry.summary()))
    """
    done = run_program(program, cwd=tmp_path, env={"AISTRALE_TELEMETRY": "on"}, timeout=1700)
    grown, calls = map(int, done.stdout.split())
    assert calls == 100_000
    assert grown < 2048
