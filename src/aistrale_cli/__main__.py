"""The `aistrale` command, also as `python -m aistrale_cli`."""

from __future__ import annotations

import gc
import sys

from aistrale.version import __version__


def main() -> None:
    """Run the command line. What needs no parser is answered before one is loaded."""
    if sys.argv[1:] == ["--version"]:
        print(f"aistrale {__version__}")  # noqa: T201 - this is the answer
        return
    gc.set_threshold(100_000)  # commands are short: looking for garbage would be a third of what a large trace takes
    try:
        from aistrale_cli.app import main as run

        status = run(sys.argv[1:])
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        status = 1
        print('The command line needs its extra: pip install "aistrale[cli]"', file=sys.stderr)  # noqa: T201
    except KeyboardInterrupt:  # before there is a command to interrupt
        status = 130
    sys.exit(status)


if __name__ == "__main__":
    main()
