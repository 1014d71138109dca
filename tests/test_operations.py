"""Spans of agents and tools, and the calls to models below them."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot
from scripted import Provider, answer

import aistrale
from aistrale import telemetry


@pytest.fixture(autouse=True)
def _books(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AISTRALE_TELEMETRY", "store")


def told(trace_id: str) -> list[Any]:
    """A trace as depth, name, status and attributes of our own making."""
    return [
        (depth, span.name, span.kind, span.status, span.attributes)
        for root in telemetry.trace(trace_id)
        for depth, span in root.walk()
    ]


def test_the_span_of_an_agent_and_of_its_tool() -> None:
    """By the conventions' names, and nothing else."""
    with telemetry.agent("planner", description="Plans a day"):
        completion = aistrale.run("Plan my day", provider="echo")
        with telemetry.tool("calendar", call_id="call_1", description="Looks up a day"):
            pass

    assert completion.trace_id is not None
    agent, chat, tool = told(completion.trace_id)
    assert agent == snapshot(
        (
            0,
            "invoke_agent planner",
            "internal",
            "ok",
            {
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.agent.name": "planner",
                "aistrale.surface": "sdk",
                "gen_ai.agent.description": "Plans a day",
            },
        )
    )
    assert tool == snapshot(
        (
            1,
            "execute_tool calendar",
            "internal",
            "ok",
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "calendar",
                "gen_ai.tool.type": "function",
                "aistrale.surface": "sdk",
                "gen_ai.tool.call.id": "call_1",
                "gen_ai.tool.description": "Looks up a day",
            },
        )
    )
    assert chat[:4] == (1, "chat echo", "client", "ok")


@pytest.mark.parametrize("operation", [telemetry.agent, telemetry.tool], ids=["agent", "tool"])
def test_agents_and_tools_say_for_whom_they_work(operation: Callable[..., Any]) -> None:
    """In which session, for which user, under which tags: they are found by each."""
    with operation("planner", session="s1", user="ada", tags=["nightly", "eu"]):
        pass
    with operation("planner"):
        pass

    (span,) = telemetry.query(session="s1")
    assert (span.session_id, span.user_id, span.tags) == ("s1", "ada", ("nightly", "eu"))
    for wanted in ({"user": "ada"}, {"tag": "nightly"}, {"tag": "eu"}):
        assert telemetry.query(**wanted) == [span]
    assert len(telemetry.query()) == 2


def test_what_fails_in_a_tool_is_the_tools_error_and_the_agents() -> None:
    """The exception itself goes its way."""
    trace_ids = []

    def plan() -> None:
        with telemetry.agent("planner"):
            trace_ids.append(aistrale.run("x", provider="echo").trace_id)
            with telemetry.tool("calendar"):
                raise LookupError("no such day")

    with pytest.raises(LookupError):
        plan()
    rows = told(str(trace_ids[0]))
    assert [(name, status, attributes.get("error.type")) for _, name, _, status, attributes in rows] == [
        ("invoke_agent planner", "error", "LookupError"),
        ("chat echo", "ok", None),
        ("execute_tool calendar", "error", "LookupError"),
    ]


def test_an_agents_total_is_that_of_its_calls() -> None:
    """Neither tokens nor costs are counted twice, whatever lies around a call."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "cost": 0.25}
    client = Provider(answer("Hello", usage=usage), answer("Hello", usage=usage)).client()
    with telemetry.agent("outer"), telemetry.agent("inner"):
        client.run("Hello")
        client.run("Hello")

    (total,) = telemetry.summary(by="day")
    assert (total.calls, total.cost) == (2, Decimal("0.5"))


async def test_agents_at_work_at_the_same_time_keep_their_calls_apart() -> None:
    """Each task's calls lie below its own agent."""

    async def work(name: str) -> str:
        with telemetry.agent(name):
            await asyncio.sleep(0)
            return str((await aistrale.run_async(name, provider="echo")).trace_id)

    for name, trace_id in zip("ab", await asyncio.gather(work("a"), work("b")), strict=True):
        rows = await asyncio.to_thread(told, trace_id)
        assert [row[1] for row in rows] == [f"invoke_agent {name}", "chat echo"]


def test_with_telemetry_off_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The block runs all the same."""
    monkeypatch.setenv("AISTRALE_TELEMETRY", "off")
    monkeypatch.setenv("AISTRALE_HOME", str(tmp_path / "home"))
    with telemetry.agent("planner"), telemetry.tool("calendar"):
        aistrale.run("x", provider="echo")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "given",
    [{"tags": [1, "a"]}, {"tags": "abc"}, {"tags": [["x"]]}, {"user": 5}, {"session": ["a"]}, {"description": 3}],
    ids=str,
)
def test_what_an_operation_is_for_is_told_in_texts(given: dict[str, Any]) -> None:
    """As with calls: nothing else gets near the books."""
    for operation in (telemetry.agent, telemetry.tool):
        with pytest.raises(aistrale.InvalidRequestError), operation("planner", **given):
            pytest.fail("it was let in")
    assert telemetry.query() == []


async def test_the_calls_of_a_batch_lie_below_what_asked_for_them() -> None:
    """In threads as in an event loop."""
    with telemetry.agent("planner"):
        done = [*aistrale.run_batch(["a", "b"], provider="echo")]
        done += await aistrale.run_batch_async(["c", "d"], provider="echo")
    (trace,) = {result.trace_id for result in done if isinstance(result, aistrale.Completion)}
    assert trace is not None
    assert [(depth, name) for depth, name, *_ in told(trace)] == [(0, "invoke_agent planner"), *[(1, "chat echo")] * 4]
