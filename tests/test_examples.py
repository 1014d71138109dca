"""The examples run as they stand: offline, each in a process of its own, with books of its own."""

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest
from keeping import ON
from model_behaviour import behave
from programs import run_program
from upstream import Upstream

from aistrale import prompts, telemetry

FOLDER = Path(__file__).parents[1] / "examples" / "langchain"
SCRIPTS = sorted(script.stem for script in FOLDER.glob("*.py"))

HELLO = "Hello there, how can I help you today?\n"
"""What the upstream says that behaves as a model does."""
CALL = (0, "chat gpt-5.4-mini")
"""A call that is part of nothing."""
CHANGING = re.compile(r"\d+\.\d\d(?= s)|(?<=\$)\d\.\d+|\d+(?= tokens)")
"""What no two runs, or no two years, print alike: times, prices and counts of tokens."""


@dataclass(frozen=True)
class Expected:
    """printed: with a model's answers. echoed: with no model but echo; None where that is not enough. spans: the
    oldest trace first, each span with how deep it lies in its trace."""

    printed: str
    echoed: str | None
    spans: list[tuple[int, str]]


EXPECTED = {
    "agent_with_tools": Expected(
        """\
        ================================ Human Message =================================

        Can I borrow Middlemarch on Saturday at noon?
        ================================== Ai Message ==================================
        Tool Calls:
          opening_hours (call_1)
         Call ID: call_1
          Args:
            day: weekday
        ================================= Tool Message =================================
        Name: opening_hours

        9:00 to 20:00
        ================================== Ai Message ==================================

        Hello there, how can I help you today?
        """,
        None,
        [CALL, CALL],
    ),
    "chain": Expected(
        HELLO * 3,
        """\
        A café that is known for its apple cake.
        A café that is known for its terrace.
        A café that is known for its old piano.
        """,
        [CALL] * 3,
    ),
    "stored_prompts": Expected(
        f"support, version 1\n{HELLO}",
        """\
        support, version 1
        Where is my parcel?
        """,
        [CALL],
    ),
    "streaming": Expected(
        f"{HELLO}(... tokens)\n{HELLO * 2}",
        """\
        Tell me in three sentences why the sky is blue.
        (... tokens)
        Tell me one fact about rain.
        Tell me one fact about snow.
        """,
        [CALL] * 3,
    ),
    "structured_output": Expected(
        """\
        text, 3 minutes
          3 g text
        """,
        None,
        [CALL],
    ),
    "tracing_a_graph": Expected(
        f"""\
{HELLO}
{HELLO}
invoke_workflow story: ... s
  chain write: ... s
    chat gpt-5.4-mini: ... s
  chain name: ... s
    chat gpt-5.4-mini: ... s
gpt-5.4-mini: 2 calls, ... tokens, $...
""",
        """\
        Give this story a title, and answer with that alone.

        Write a story of three sentences about a lighthouse.

        Write a story of three sentences about a lighthouse.

        invoke_workflow story: ... s
          chain write: ... s
            chat echo: ... s
          chain name: ... s
            chat echo: ... s
        echo: 2 calls, ... tokens, $0
        """,
        [
            (0, "invoke_workflow story"),
            (1, "chain write"),
            (2, "chat gpt-5.4-mini"),
            (1, "chain name"),
            (2, "chat gpt-5.4-mini"),
        ],
    ),
}


@pytest.fixture(autouse=True)
def _kept(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Books in the test's own folder, for the script and for the test that looks into them."""
    monkeypatch.setenv("AISTRALE_HOME", str(in_folder / "home"))
    for name, value in ON.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def model(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Upstream:
    """What stands in for OpenAI, as the environment says."""
    upstream.default = behave
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("OPENAI_BASE_URL", upstream.url)
    return upstream


def run(example: str) -> str:
    """What an example prints that ends well, with warnings as errors."""
    program = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
    done = run_program(program, cwd=Path.cwd(), arguments=(str(FOLDER / f"{example}.py"),))
    assert (done.returncode, done.stderr) == (0, "")
    return CHANGING.sub("...", done.stdout)


def test_each_example_is_expected_to_do_something() -> None:
    """A new one needs an entry above, and one that is gone needs none."""
    assert sorted(EXPECTED) == SCRIPTS


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("example", EXPECTED)
def test_an_example_does_what_it_shows(example: str) -> None:
    """It prints what one would expect, and each of its calls is in the books, with its price."""
    expected = EXPECTED[example]
    assert run(example) == dedent(expected.printed)
    spans = telemetry.query()
    traces = dict.fromkeys(span.trace_id for span in reversed(spans))
    trees = [entry for trace in traces for root in telemetry.trace(trace) for entry in root.walk()]
    assert [(depth, span.name) for depth, span in trees] == expected.spans
    assert all(span.cost for span in spans if span.is_inference)


@pytest.mark.parametrize("example", [name for name, expected in EXPECTED.items() if expected.echoed])
def test_an_example_runs_without_a_key(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And without any network, if echo is to answer."""
    monkeypatch.setenv("AISTRALE_MODEL", "echo/echo")
    assert run(example) == dedent(EXPECTED[example].echoed or "")


def test_a_stored_prompt_that_did_not_change_has_no_second_version(model: Upstream) -> None:
    """However often the example runs."""
    assert run("stored_prompts") == run("stored_prompts")
    assert [(prompt.version, prompt.labels) for prompt in prompts.history("support")] == [(1, ("production",))]
    assert [message["role"] for message in model.requests[-1].body["messages"]] == ["system", "user"]


def test_the_folders_readme_names_every_example() -> None:
    """Once each, and none that is not there."""
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| \[(\w+)\.py\]\(\1\.py\)", readme, re.MULTILINE)) == SCRIPTS
    assert all((FOLDER / link).exists() for link in re.findall(r"\]\(([^)]+)\)", readme))
