"""`aistrale run`: what is asked, and how the answer is printed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from programs import run_module, run_program
from upstream import Upstream, stream

ECHO = ("--provider", "echo")
ASKED = ("--model", "gpt-4o", "-q")


def run(folder: Path, *arguments: str, piped: bytes | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return run_module("aistrale_cli", "run", *arguments, cwd=folder, env=env, piped=piped)


def of(upstream: Upstream) -> dict[str, str]:
    """The environment in which OpenAI is a test's own upstream."""
    return {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-test", "AISTRALE_MAX_RETRIES": "0"}


# What is asked


@pytest.mark.parametrize(
    ("argument", "piped", "wanted"),
    [
        (["Hello"], None, "Hello"),
        ([], b"Hello\n", "Hello"),
        (["Explain this"], b"x = 1\n", "x = 1\n\nExplain this"),
        ([], "Köln\r\n😀\r\n".encode(), "Köln\r\n😀"),
        (["Hello"], b"", "Hello"),
    ],
)
def test_what_is_asked_is_piped_in_an_argument_or_both(
    tmp_path: Path, upstream: Upstream, argument: list[str], piped: bytes | None, wanted: str
) -> None:
    """What is piped in comes first: the question stands below what it is about."""
    upstream.will(stream("Hi"))
    done = run(tmp_path, *argument, *ASKED, piped=piped, **of(upstream))
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hi\n", "")
    assert upstream.requests[0].body["messages"] == [{"role": "user", "content": wanted}]


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    """A real one, of a command that takes its time."""
    process = subprocess.Popen(
        [sys.executable, "-m", "aistrale_cli", "run", *ECHO, "-q"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert process.stdin is not None
    process.stdin.write(b"first ")
    process.stdin.flush()
    answer, _ = process.communicate(b"last\n", timeout=30)
    assert answer == b"first last\n"


def test_options_are_sent_as_the_json_they_are(tmp_path: Path, upstream: Upstream) -> None:
    """What is no JSON is a text; names may be written with dashes."""
    upstream.will(stream("Hi"))
    given = ("-o", "temperature=0.2", "--option", "max-tokens=5", "-o", "user=ada", "-o", 'stop=["a", "b"]')
    assert run(tmp_path, "Hello", *ASKED, *given, "-s", "Be brief.", **of(upstream)).returncode == 0
    sent = upstream.requests[0].body
    assert (sent["temperature"], sent["user"], sent["stop"]) == (0.2, "ada", ["a", "b"])
    assert 5 in (sent.get("max_tokens"), sent.get("max_completion_tokens"))
    assert [message["content"] for message in sent["messages"]] == ["Be brief.", "Hello"]


def test_a_stored_prompt_is_asked_with_its_variables(tmp_path: Path) -> None:
    """What is asked besides is its `input`."""
    home = {"AISTRALE_HOME": str(tmp_path / "home")}
    program = """
        import aistrale
        aistrale.prompts.create("reply", "Dear {{name}}, {{input}}")
    """
    assert run_program(program, cwd=tmp_path, env=home).returncode == 0
    done = run(tmp_path, "-p", "reply", "-v", "name=Ada", *ECHO, "-q", piped=b"see you.\n", **home)
    assert (done.returncode, done.stdout) == (0, "Dear Ada, see you.\n")
    done = run(tmp_path, "-p", "reply", *ECHO, piped=b"see you.\n", **home)
    assert done.returncode == 2
    assert "name" in done.stderr


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "bio": {"type": "string", "description": "one sentence: no more"},
    },
    "required": ["name", "age", "bio"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "given",
    [
        json.dumps(SCHEMA),
        "shape.json",
        "name, age int, bio: one sentence: no more",
        "name\nage int\nbio str: one sentence: no more",
    ],
    ids=["JSON", "a file", "in short", "in lines"],
)
def test_the_shape_of_an_answer_is_a_schema_however_it_is_written(
    tmp_path: Path, upstream: Upstream, given: str
) -> None:
    """The answer is parsed by it."""
    (tmp_path / "shape.json").write_text(json.dumps(SCHEMA))
    person = {"name": "Ada", "age": 36, "bio": "She wrote programs."}
    upstream.will(stream(json.dumps(person)))
    done = run(tmp_path, "A person", *ASKED, "--schema", given, "--output", "json", **of(upstream))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parsed"] == person
    assert upstream.requests[0].body["response_format"]["json_schema"]["schema"] == SCHEMA


# How the answer is printed


def test_an_answer_as_json_is_one_object(tmp_path: Path, upstream: Upstream) -> None:
    """Pure JSON on stdout, with what the call took; the last line is on stderr as ever."""
    upstream.will(stream("Hel", "lo"))
    done = run(tmp_path, "Greet me", "--model", "gpt-4o", "--output", "json", **of(upstream))
    told = json.loads(done.stdout)
    assert re.fullmatch("[0-9a-f]{32}", told.pop("trace_id"))
    assert told.pop("latency") > 0
    assert told == {
        "text": "Hello",
        "tool_calls": [],
        "finish_reason": "stop",
        "provider": "openai",
        "model": "gpt-test",
        "input_tokens": 3,
        "output_tokens": 2,
        "cost": "0.0000275",
    }
    assert done.stderr.startswith("openai/gpt-test · 3 + 2 tokens · ")


def test_an_answer_as_a_table_is_a_row_for_each_thing(tmp_path: Path) -> None:
    done = run(tmp_path, "Hello", *ECHO, "--output", "table", "-q")
    rows = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    assert rows["text"].strip() == "Hello"
    assert rows["tokens"].strip() == "1 + 1"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("Here:\n```python\nprint(1)\n```\nand\n```\nno\n```\n", "print(1)\n"),
        ("~~~\n```\n~~~", "```\n"),
        ("````md\n```\ninner\n```\n````", "```\ninner\n```\n"),
        ("1. First\n   ```sh\n   ls\n   ```\n", "   ls\n"),
    ],
)
def test_the_first_code_block_alone(tmp_path: Path, answer: str, code: str) -> None:
    """Without its fence, so that it can be written into a file."""
    done = run(tmp_path, *ECHO, "-x", "-q", piped=answer.encode())
    assert (done.returncode, done.stdout, done.stderr) == (0, code, "")


def test_an_answer_without_a_code_block_is_not_lost(tmp_path: Path) -> None:
    """It is no code, so it is not on stdout."""
    done = run(tmp_path, "No code here", *ECHO, "--extract")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "No code here\naistrale: The answer has no code block; without -x all of it is printed\n"


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "piped", "word"),
    [
        (("Hello", "-o", "temprature=1"), None, "did you mean 'temperature'?"),
        (("Hello", "-o", "temperature"), None, "name=value"),
        (("Hello", "-o", "temperature=warm"), None, "temperature must be a number"),
        (("Hello", "-o", "api_key=sk-secret"), None, "A key is not for the command line"),
        (("Hello", "-v", "a=b"), None, "Variables are a stored prompt's"),
        (("-p", "reply", "-s", "Be brief."), None, "leave out -s, or -p"),
        (("Hello", "--schema", "age number"), None, "'age number' is no name and type"),
        (("Hello", "--schema", "none.json"), None, "none.json cannot be read"),
        (("Hello", "--schema", "{"), None, "The schema is no JSON"),
        ((), b"\xff", "no UTF-8"),
        ((), None, "The prompt is empty"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, arguments: tuple[str, ...], piped: bytes | None, word: str
) -> None:
    """That says what to do, and shows no key."""
    done = run(tmp_path, *arguments, *ECHO, piped=piped)
    assert (done.returncode, done.stdout) == (2, "")
    assert word in done.stderr
    assert done.stderr.count("\n") == 1
    assert "sk-secret" not in done.stderr


def test_an_error_is_json_where_that_is_the_output(tmp_path: Path) -> None:
    """With the answer, if there is one that does not fit."""
    done = run(tmp_path, "Hello", *ECHO, "--schema", "name", "--output", "json")
    assert (done.returncode, done.stdout) == (1, "")
    error = json.loads(done.stderr)["error"]
    assert (error["type"], error["exit_code"], error["text"]) == ("OutputError", 1, "Hello")
