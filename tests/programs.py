"""Python programs in a process of their own, for what only a fresh interpreter can show."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from tempfile import TemporaryFile


def run_program(
    code: str,
    *,
    cwd: Path,
    env: dict[str, str] | None = None,
    arguments: tuple[str, ...] = (),
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run `code` with warnings as errors, for so many seconds at most."""
    return _run(["-W", "error", "-c", textwrap.dedent(code), *arguments], cwd, env, timeout)


def run_module(
    name: str, *arguments: str, cwd: Path, env: dict[str, str] | None = None, piped: bytes | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m name arguments`, with something piped in if it is given."""
    return _run(["-m", name, *arguments], cwd, env, piped=piped)


def printed(code: str, *, cwd: Path, env: dict[str, str] | None = None) -> str:
    """What a program prints that ends well."""
    done = run_program(code, cwd=cwd, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _run(
    command: list[str], cwd: Path, env: dict[str, str] | None, timeout: float = 60, piped: bytes | None = None
) -> subprocess.CompletedProcess[str]:
    with TemporaryFile() as file:
        file.write(piped or b"")
        file.seek(0)
        return subprocess.run(
            [sys.executable, *command],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL if piped is None else file,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
