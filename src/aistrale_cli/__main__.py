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
        from aistrale_cli.app import app
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        sys.exit('The command line needs its extra: pip install "aistrale[cli]"')
    app(prog_name="aistrale")


if __name__ == "__main__":
    main()
