"""What docs/cli.md shows of the help is what the commands say."""

import re
import shlex
from pathlib import Path

import pytest
from programs import run_module

PAGE = (Path(__file__).parents[1] / "docs" / "cli.md").read_text(encoding="utf-8")
SHOWN: dict[str, str] = dict(
    re.findall(r"^```\n\$ aistrale ([^\n]*--help)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
)


@pytest.mark.parametrize("command", ["run --help", "telemetry view --help", "telemetry trace --help"])
def test_the_page_shows_the_help_as_it_is(tmp_path: Path, command: str) -> None:
    """To the letter, on 80 columns."""
    done = run_module("aistrale_cli", *shlex.split(command), cwd=tmp_path, env={"COLUMNS": "80"})
    assert (done.returncode, done.stdout, done.stderr) == (0, SHOWN[command], "")


def test_every_command_on_the_page_is_looked_at() -> None:
    assert [*SHOWN] == ["run --help", "telemetry view --help", "telemetry trace --help"]
