"""The examples for LlamaIndex run as they stand: offline, each in a process of its own, with books of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from keeping import ON
from model_behaviour import behave
from upstream import Upstream

from aistrale import telemetry

FOLDER = Path(__file__).parents[1] / "examples" / "llamaindex"
SCRIPTS = sorted(script.stem for script in FOLDER.glob("*.py"))
HELLO = "Hello there, how can I help you today?\n"
CHANGING = re.compile(r"\d+\.\d\d(?= s)|(?<=\$)\d\.\d+|\d+(?= tokens)")
"""What no two runs, or no two years, print alike: times, prices and counts of tokens."""

EXPECTED = {
    "agent_with_tools": f"opening_hours({{'day': 'weekday'}}) = 9:00 to 20:00\n{HELLO}",
    "chat_engine": f"> What is there to eat?\n{HELLO}> Which of it can I have without milk?\n{HELLO}4 messages\n",
    "query_engine": f"{HELLO}from books.md\nfrom books.md\nfrom books.md\n",
    "structured_output": "text, 3 minutes\n  3 g text\n",
    "tracing": f"""\
{HELLO}invoke_workflow RetrieverQueryEngine: ... s
  retrieval SummaryIndexRetriever: ... s
  chain CompactAndRefine.synthesize: ... s
    chain DefaultRefineProgram: ... s
      chat gpt-5.4-mini: ... s
gpt-5.4-mini: 1 calls, ... tokens, $...
""",
}


@pytest.fixture(autouse=True)
def _kept(in_folder: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Books in the test's own folder, and what stands in for OpenAI."""
    upstream.default = behave
    own = {"AISTRALE_HOME": str(in_folder / "home"), "OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": upstream.url}
    for name, value in {**ON, **own}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("example", SCRIPTS)
def test_an_example_does_what_it_shows(example: str) -> None:
    """It prints what one would expect, and each of its calls is in the books, with its price."""
    command = [sys.executable, str(FOLDER / f"{example}.py")]  # LlamaIndex's own warnings are no errors here
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert CHANGING.sub("...", done.stdout) == EXPECTED[example]
    calls = [span for span in telemetry.query() if span.is_inference]
    assert calls
    assert all(span.cost for span in calls)
    assert {span.attributes["aistrale.surface"] for span in calls} == {"llamaindex"}


def test_the_folders_readme_names_every_example() -> None:
    """Once each, and none that is not there."""
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| \[(\w+)\.py\]\(\1\.py\)", readme, re.MULTILINE)) == SCRIPTS == sorted(EXPECTED)
