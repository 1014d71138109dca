"""Books that cannot be used, asked by somebody: every function says so, and what to do, and changes nothing."""

import asyncio
import os
import re
from collections.abc import Iterator
from inspect import isfunction, ismodule
from pathlib import Path
from typing import Any

import pytest
from programs import printed

import aistrale
from aistrale import StoreCache, StoreError, budgets, events, prompts, telemetry, tokens

ASKING: dict[Any, dict[str, dict[str, Any]]] = {
    telemetry: {
        "query": {},
        "summary": {},
        "trace": {"trace_id": "0" * 32},
        "export": {"path": "spans.jsonl"},
        "purge": {"older_than": "0s"},
        "set_price": {"model": "ours", "input": 1},
        "remove_price": {"model": "ours"},
        "prices": {},
        "reprice": {},
    },
    events: {"list": {}},
    budgets: {"set": {"name": "b", "limit": 1}, "list": {}, "spent": {"name": "b"}, "remove": {"name": "b"}},
    prompts: {
        "create": {"name": "greet", "template": "Hello"},
        "update": {"name": "greet", "template": "Hello"},
        "save": {"name": "greet", "template": "Hello"},
        "get": {"name": "greet"},
        "render": {"name": "greet"},
        "history": {"name": "greet"},
        "rollback": {"name": "greet", "version": 1},
        "label": {"name": "greet", "label": "x", "version": 1},
        "unlabel": {"name": "greet", "label": "x"},
        "delete": {"name": "greet"},
        "list": {},
        "export": {"folder": "written"},
        "load": {"folder": "given"},
    },
    tokens: {
        "add": {"provider": "openai", "token": "sk-aaaaaaaaaaaa"},
        "list": {},
        "get": {"provider": "openai"},
        "remove": {"provider": "openai"},
        "rotate": {"provider": "openai", "token": "sk-bbbbbbbbbbbb"},
        "set_default": {"provider": "openai", "label": "default"},
        "rotate_master_key": {"new": "correct horse"},
    },
    StoreCache: {"clear": {}},
}
"""What asks the books, with arguments that nothing is wrong with."""

OTHERS: dict[Any, set[str]] = {
    telemetry: {"agent", "tool", "status", "flush"},
    events: {"subscribe"},
    tokens: {"master_key_source"},
    StoreCache: {"get", "set"},
}
"""What asks nothing of them, or on behalf of calls, which go on without."""

SAID = {
    "a folder": ": it is a folder, not a database file. Name a file in AISTRALE_DATABASE_URL, or move the folder away.",
    "no database": ": file is not a database. The file is no SQLite database: move it away, or set AISTRALE_HOME or "
    "AISTRALE_DATABASE_URL.",
    "refused": "Connection refused. Look whether the database server is up and AISTRALE_DATABASE_URL names it rightly.",
}
unusable = pytest.mark.parametrize("unreadable", SAID, indirect=True)


def named(owner: Any) -> str:
    return str(owner.__name__.removeprefix("aistrale."))


def functions(owner: Any) -> set[str]:
    """The public ones that are its own."""
    home = owner.__name__ if ismodule(owner) else owner.__module__
    own = {name for name, each in vars(owner).items() if isfunction(each) and each.__module__ == home}
    return {name for name in own if not name.startswith("_")}


def every_question() -> Iterator[Any]:
    for owner, questions in ASKING.items():
        for name, arguments in questions.items():
            for asked in (name, f"{name}_async")[: 1 + ismodule(owner)]:
                yield pytest.param(owner, asked, arguments, id=f"{named(owner)}.{asked}")


def files_below(*folders: Path) -> dict[Path, bytes | None]:
    """All there is, with what is in it."""
    paths = [path for folder in folders for path in folder.rglob("*")]
    return {path: path.read_bytes() if path.is_file() else None for path in paths}


@unusable
@pytest.mark.parametrize(("owner", "name", "arguments"), list(every_question()))
def test_what_the_books_cannot_do_is_told(
    unreadable: str, in_folder: Path, owner: Any, name: str, arguments: dict[str, Any]
) -> None:
    """With what to do; no file is written, no folder and no master key made, and what is there stays as it was."""
    (in_folder / "given").mkdir()
    (in_folder / "given" / "greet.prompt.md").write_text("---\n---\nHello\n")
    home = Path(os.environ["AISTRALE_HOME"])
    before = files_below(in_folder, home)
    function = getattr(owner if ismodule(owner) else owner(), name)
    with pytest.raises(StoreError, match=f"{re.escape(SAID[unreadable])}$") as caught:
        asyncio.run(function(**arguments)) if name.endswith("_async") else function(**arguments)
    assert caught.value.unavailable
    assert files_below(in_folder, home) == before


def test_no_function_is_left_out() -> None:
    """Each that there is either asks the books or does not; each that asks has a twin for async code."""
    modules = {each for each in (getattr(aistrale, name) for name in aistrale.__all__) if ismodule(each)}
    assert modules == {owner for owner in ASKING if ismodule(owner)}
    for owner, questions in ASKING.items():
        known = {*questions, *OTHERS.get(owner, ())}
        twins = {f"{name}_async" for name in known} & functions(owner)
        assert functions(owner) == known | twins, named(owner)
        assert not ismodule(owner) or twins >= {f"{name}_async" for name in questions}, named(owner)


@unusable
@pytest.mark.usefixtures("unreadable")
def test_what_asks_nothing_of_the_books_works_without(in_folder: Path) -> None:
    """How spans get there, what they are of, who hears of events, and where the master key is."""
    program = """
        from aistrale import events, telemetry, tokens
        with telemetry.agent("planner"), telemetry.tool("calendar"):
            pass
        events.subscribe(print)()
        print(telemetry.flush(0), telemetry.status(), tokens.master_key_source().split()[0])
    """
    assert printed(program, cwd=in_folder) == "True [] file\n"
