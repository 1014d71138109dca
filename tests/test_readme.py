"""README's examples do what it says they do."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot
from programs import run_module

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
PAGES = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))
CONSOLES = re.findall(r"^```console\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)

TIME = re.compile(r"\d+\.\d\d s")
CHANGING = re.compile(r"(?<=^Completion\().*(?=\)$)|\b[0-9a-f]{32}\b|\b\d\.\d{6,}\b|(?<=Known are: ).*", re.MULTILINE)
"""What no two runs print alike (times and ids), and the list of providers."""


@pytest.mark.usefixtures("in_folder", "own_loop")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_snippets_of_a_page_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, in one namespace, with books of their own."""
    monkeypatch.setenv("AISTRALE_TELEMETRY", "on")
    namespace: dict[str, Any] = {"__name__": page.stem}
    for snippet in re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        exec(compile(snippet, page.name, "exec"), namespace)


@pytest.mark.usefixtures("in_folder")
def test_the_snippets_run_in_order_in_one_namespace(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, in an empty folder, as somebody would who pastes them one after the other."""
    monkeypatch.setenv("AISTRALE_TELEMETRY", "on")
    namespace: dict[str, Any] = {"__name__": "readme"}
    printed = []
    for snippet in SNIPPETS:
        exec(compile(snippet, "README.md", "exec"), namespace)
        printed.append(CHANGING.sub("...", capsys.readouterr().out))

    assert printed == snapshot(
        [
            "Hello, world!\n",
            "",
            "One two three",
            """\
One \n\
two \n\
three

Usage(input_tokens=3, output_tokens=3, cache_read_tokens=0, cache_write_tokens=0, reasoning_tokens=0)
""",
            """\
Hello
Hello \n\
again

""",
            """\
Completion(...)
Completion(...)
InvalidRequestError('The prompt is empty: pass a text or at least one message with content')
... Usage(input_tokens=20, output_tokens=8, cache_read_tokens=0, cache_write_tokens=0, reasoning_tokens=0) 0
""",
            "Ada ()\n",
            "Unknown provider 'opnai'. Did you mean 'openai'? Known are: ...\n",
            "False True\n",
            "echo 13 0 0 ...\n",
            "inference.completed\n",
            "Answer Ada kindly: Why?\n",
            "echo echo 0\n",
            "Hello, world!\n",
        ]
    )


def test_the_shells_example_prints_what_it_shows(tmp_path: Path) -> None:
    """But for the time, which is its own."""
    (example,) = (console for console in CONSOLES if console.startswith("$ aistrale "))
    command, *shown = example.splitlines()

    done = run_module("aistrale_cli", *shlex.split(command)[2:], cwd=tmp_path)

    assert TIME.sub("", done.stdout + done.stderr).splitlines() == [TIME.sub("", line) for line in shown]


def test_the_make_targets_it_names_are_there() -> None:
    """A first try must not end in "No rule to make target"."""
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"^\$ make (\w+)", README, re.MULTILINE)
    assert named
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)


def test_the_files_it_points_to_are_there() -> None:
    """Every link that is none to the web."""
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if "://" not in link and not (Path(__file__).parents[1] / link).exists()] == []


def test_it_names_errors_and_variables_that_exist() -> None:
    """Names in the text, not only in the examples."""
    import aistrale
    from aistrale.config import SETTINGS
    from aistrale.providers.profiles import PROFILES
    from aistrale.store.location import DATABASE_VARIABLE

    errors = set(re.findall(r"`(?:aistrale\.)?(\w+Error)`", README))
    assert errors
    assert errors <= set(aistrale.__all__)
    variables = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", README))
    known = {s.variable for s in SETTINGS.values()} | {name for p in PROFILES.values() for name in p.key_variables}
    known |= {DATABASE_VARIABLE, "OTEL_EXPORTER_OTLP_ENDPOINT"}
    assert variables
    assert variables <= known
