"""The notebooks run from their first cell to their last, and each is what its source says."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jupytext  # type: ignore[import-untyped]
import pytest
from keeping import ON
from model_behaviour import behave
from upstream import Upstream

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*/*.ipynb"))
NBMAKE = (sys.executable, "-W", "error", "-m", "pytest", "-p", "nbmake.pytest_plugin", "--nbmake", "--overwrite")

ENDS = {
    "langchain": """\
invoke_agent mail-order  ... s
  chain model  ... s
    chat gpt-5.4-mini  ... s  $...
  chain tools  ... s
    execute_tool order_status  ... s
  chain model  ... s
    chat gpt-5.4-mini  ... s  $...
This agent, gpt-5.4-mini: 2 calls, ... tokens, $...
The last hour, gpt-5.4-mini: 6 calls, ... tokens, $...
""",
    "llamaindex": """\
invoke_agent mail-order  ... s
  chain BaseWorkflowAgent.run_agent_step  ... s
    chat gpt-5.4-mini  ... s  $...
  chain BaseWorkflowAgent.call_tool  ... s
    execute_tool terms  ... s
      chain RetrieverQueryEngine.aquery  ... s
        retrieval VectorIndexRetriever  ... s
          embeddings text-embedding-3-small  ... s  $...
        chain CompactAndRefine.asynthesize  ... s
          chat gpt-5.4-mini  ... s  $...
  chain BaseWorkflowAgent.run_agent_step  ... s
    chat gpt-5.4-mini  ... s  $...
This agent, gpt-5.4-mini: 3 calls, ... tokens, $...
This agent, text-embedding-3-small: 1 calls, ... tokens, $...
The last hour, gpt-5.4-mini: 10 calls, ... tokens, $...
The last hour, text-embedding-3-small: 7 calls, ... tokens, $...
""",
}
"""What the last cells of each notebook print."""
CHANGING = re.compile(r"\d+\.\d\d(?= s)|(?<=\$)\d\.\d+|\d+(?= tokens)")
"""What no two runs, or no two years, print alike: times, prices and counts of tokens."""

WARNINGS = "error,ignore::DeprecationWarning:inspect"
"""Each is an error but for those of looking at an object's members: LlamaIndex's agents do so to find their steps."""

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.parent.name)


def cells(notebook: Any) -> list[tuple[str, str, list[str]]]:
    """What a notebook's cells are: their kind, text and tags."""
    return [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]


def test_there_is_a_source_for_each_notebook() -> None:
    """And a notebook for each source."""
    assert NOTEBOOKS
    assert [notebook.with_suffix(".py") for notebook in NOTEBOOKS] == sorted(FOLDER.glob("*/*.py"))


@each_notebook
def test_a_notebook_is_made_from_its_source(notebook: Path) -> None:
    """Cell by cell; after a change to either, `jupytext --sync` brings both together."""
    assert cells(jupytext.read(notebook)) == cells(jupytext.read(notebook.with_suffix(".py"), fmt="py:percent"))


@each_notebook
def test_a_notebook_is_kept_without_outputs(notebook: Path) -> None:
    """They would be those of one machine on one day, and change with every run."""
    code = [cell for cell in jupytext.read(notebook).cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in code] == [([], None)] * len(code)


@each_notebook
def test_a_notebook_points_to_files_that_exist(notebook: Path) -> None:
    """Every link that is none to the web."""
    links = re.findall(r"\]\(([^)#]+)\)", notebook.with_suffix(".py").read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (notebook.parent / link).exists()] == []


@each_notebook
def test_a_notebook_runs_from_end_to_end(notebook: Path, upstream: Upstream, tmp_path: Path) -> None:
    """As it would for a reader with a key: it warns of nothing, and ends with what it is there to show."""
    upstream.default = behave
    shown = executed(notebook, tmp_path, {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": upstream.url})
    assert CHANGING.sub("...", shown).endswith(ENDS[notebook.parent.name])


def executed(notebook: Path, folder: Path, env: dict[str, str]) -> str:
    """What the cells of a notebook print, executed by nbmake in a folder that is its home, with warnings as errors."""
    copy = folder / notebook.name
    copy.write_bytes(notebook.read_bytes())
    own = {"HOME": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONWARNINGS": WARNINGS}
    done = subprocess.run(
        [*NBMAKE, "--config-file", os.devnull, "--rootdir", str(folder), str(copy)],
        cwd=folder,
        env={**os.environ, **ON, **own, **env},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    outputs = [output for cell in jupytext.read(copy).cells for output in cell.get("outputs", ())]
    assert {output.get("name") for output in outputs} == {"stdout"}
    return "".join(output.text for output in outputs)
