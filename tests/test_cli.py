"""The `aistrale` command, run as people run it."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from programs import run_module, run_program
from upstream import CLOSE, Gate, Upstream, events, failure, plain, stream

import aistrale

ECHO = ("--provider", "echo")
TIME = re.compile(r"\d+\.\d\d s\n$")


def cli(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return run_module("aistrale_cli", *arguments, cwd=folder, env=env)


def of(upstream: Upstream) -> dict[str, str]:
    """The environment in which OpenAI is a test's own upstream."""
    return {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-test", "AISTRALE_MAX_RETRIES": "0"}


def test_version_says_the_version(tmp_path: Path) -> None:
    """The same as the package's."""
    done = cli(tmp_path, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"aistrale {aistrale.__version__}\n", "")


def test_run_prints_the_answer_and_what_it_took(tmp_path: Path) -> None:
    """The answer alone on stdout, so that it can be piped; tokens, cost and time on stderr's last line."""
    done = cli(tmp_path, "run", "Hello, world!", *ECHO)

    assert (done.returncode, done.stdout) == (0, "Hello, world!\n")
    assert TIME.sub("", done.stderr) == "echo/echo · 2 + 2 tokens · $0.00 · "


@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet_prints_the_answer_alone(tmp_path: Path, flag: str) -> None:
    """Nothing on stderr."""
    done = cli(tmp_path, "run", "Hello, world!", *ECHO, flag)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello, world!\n", "")


def test_no_stream_prints_the_same(tmp_path: Path) -> None:
    """In one piece."""
    done = cli(tmp_path, "run", "Hello, world!", *ECHO, "--no-stream")

    assert (done.returncode, done.stdout) == (0, "Hello, world!\n")
    assert TIME.sub("", done.stderr) == "echo/echo · 2 + 2 tokens · $0.00 · "


def test_no_stream_prints_nothing_of_an_answer_that_breaks_off(tmp_path: Path, upstream: Upstream) -> None:
    """All or nothing."""
    upstream.will([*events("One "), CLOSE])

    done = cli(tmp_path, "run", "Count.", "--model", "gpt-4o", "--no-stream", **of(upstream))

    assert (done.returncode, done.stdout) == (1, "")


class Terminal:
    """A program whose stdout is a pseudo-terminal."""

    def __init__(self, folder: Path, *arguments: str, **env: str) -> None:
        self._mine, its = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "aistrale_cli", *arguments],
            stdin=its,
            stdout=its,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={**os.environ, **env},
        )
        os.close(its)
        self.shown = ""

    def read_until(self, text: str) -> None:
        """Read until the terminal shows `text`; an assertion if the program ends first."""
        while text not in self.shown:
            piece = self._read()
            assert piece, f"the program ended, and showed {self.shown!r}"
            self.shown += piece

    def read_to_end(self) -> str:
        """All that is shown until the program ends."""
        while piece := self._read():
            self.shown += piece
        return self.shown.replace("\r\n", "\n")

    def _read(self) -> str:
        try:
            return os.read(self._mine, 4096).decode()
        except OSError:  # what Linux says of a terminal whose other end is closed
            return ""

    def close(self) -> str:
        """Wait for the program; what it wrote to stderr."""
        _, errors = self.process.communicate(timeout=10)
        os.close(self._mine)
        return errors.decode()


@pytest.fixture
def in_terminal(tmp_path: Path) -> Iterator[Any]:
    started: list[Terminal] = []

    def start(*arguments: str, **env: str) -> Terminal:
        started.append(Terminal(tmp_path, *arguments, **env))
        return started[-1]

    yield start
    for terminal in started:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.process.wait()


def test_a_terminal_shows_the_first_word_before_there_is_a_second(in_terminal: Any, upstream: Upstream) -> None:
    """The provider holds the second back until the first was read."""
    gate = Gate()
    upstream.will(stream("Hello, ", gate, "world!"))
    terminal = in_terminal("run", "Greet me.", "--model", "gpt-4o", **of(upstream))

    terminal.read_until("Hello, ")
    assert "world" not in terminal.shown
    assert terminal.process.poll() is None
    gate.open()

    assert terminal.read_to_end() == "Hello, world!\n"
    assert TIME.sub("", terminal.close()) == "openai/gpt-test · 3 + 2 tokens · $0.000028 · "


def test_a_terminal_shows_an_offline_answer_word_by_word(in_terminal: Any) -> None:
    """`echo` streams as a model does: the first of many words is read long before the last is written."""
    words = " ".join(f"word{number}" for number in range(40))
    terminal = in_terminal("run", words, *ECHO)

    terminal.read_until("word0 ")
    assert "word39" not in terminal.shown
    assert terminal.process.poll() is None

    assert terminal.read_to_end() == words + "\n"
    assert TIME.sub("", terminal.close()) == "echo/echo · 40 + 40 tokens · $0.00 · "


# Failures


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (failure(401, "bad key"), 4),
        (failure(403, "not yours"), 4),
        (failure(429, "slow down"), 5),
        (failure(400, "bad request"), 2),
        (failure(500, "oops"), 1),
        (plain("<html></html>"), 1),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(tmp_path: Path, upstream: Upstream, answer: Any, code: int) -> None:
    """2 is usage, 4 the key, 5 a limit, and 1 all else."""
    upstream.will(answer)

    done = cli(tmp_path, "run", "Hello", "--model", "gpt-4o", **of(upstream))

    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("aistrale: openai")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "env", "word"),
    [
        (("run", "Hello", "--provider", "opnai"), {}, "Did you mean 'openai'?"),
        (("run", "Hello"), {}, "No model is named"),
        (("run", "", *ECHO), {}, "The prompt is empty"),
        (("run", "Hello", *ECHO), {"AISTRALE_TIMEOUT": "soon"}, "AISTRALE_TIMEOUT must be a positive number"),
    ],
)
def test_a_mistake_of_the_callers_is_exit_code_2(
    tmp_path: Path, arguments: tuple[str, ...], env: dict[str, str], word: str
) -> None:
    """In one line that says what to do."""
    done = cli(tmp_path, *arguments, **env)

    assert (done.returncode, done.stdout) == (2, "")
    assert word in done.stderr
    assert done.stderr.startswith("aistrale: ")
    assert done.stderr.count("\n") == 1


def test_a_wrong_argument_is_exit_code_2(tmp_path: Path) -> None:
    """As everywhere in a shell."""
    done = cli(tmp_path, "run", "Hello", "--povider", "echo")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--povider" in done.stderr


def test_a_pipe_that_closes_is_no_traceback(tmp_path: Path) -> None:
    """`aistrale run ... | head -1` ends quietly."""
    words = " ".join(f"word{number}" for number in range(40))
    process = subprocess.Popen(
        [sys.executable, "-m", "aistrale_cli", "run", words, *ECHO],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    process.stdout.read(1)
    process.stdout.close()
    _, errors = process.communicate(timeout=10)

    assert b"Traceback" not in errors
    assert process.returncode != 0


def test_without_its_extra_the_command_says_how_to_install_it(tmp_path: Path) -> None:
    """In one line, and `--version` works all the same."""
    program = """
        import runpy, sys

        sys.modules["typer"] = None
        sys.argv = ["aistrale", *sys.argv[1:]]
        runpy.run_module("aistrale_cli", run_name="__main__")
    """
    done = run_program(program, cwd=tmp_path, arguments=("run", "Hello"))
    assert done.returncode == 1
    assert done.stderr == 'The command line needs its extra: pip install "aistrale[cli]"\n'

    done = run_program(program, cwd=tmp_path, arguments=("--version",))
    assert (done.returncode, done.stdout) == (0, f"aistrale {aistrale.__version__}\n")


def test_a_setting_of_the_shell_does_not_stand_in_the_way_of_an_argument(tmp_path: Path) -> None:
    """`--provider` is the stronger word."""
    done = cli(tmp_path, "run", "Hello", *ECHO, AISTRALE_MODEL="openai/gpt-4o")
    assert (done.returncode, done.stdout) == (0, "Hello\n")
    assert done.stderr.startswith("echo/echo ")
