"""Importing is free: it loads next to nothing, and does nothing at all."""

import tomllib
from pathlib import Path

import pytest
from programs import printed

import aistrale

ROOT = Path(__file__).parents[1]
HEAVY = ("httpx", "pydantic", "opentelemetry", "sqlalchemy", "aiohttp", "tenacity", "tqdm", "typer", "certifi")


def packages() -> list[Path]:
    """The folders that the wheel ships."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [ROOT / name for name in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]


def test_importing_loads_no_dependency(tmp_path: Path) -> None:
    """None of them, whatever else is installed."""
    program = f"""
        import sys
        import aistrale

        print([name for name in {HEAVY!r} if name in sys.modules])
    """
    assert printed(program, cwd=tmp_path) == "[]\n"


@pytest.mark.parametrize(
    ("statement", "unneeded"),
    [
        ("aistrale.run('Hello', provider='echo')", ("httpx", "aiohttp", "pydantic", "tenacity")),
        ("aistrale.CallbackHandler", HEAVY),
        ("aistrale.Message('user', 'Hello')", HEAVY),
        ("aistrale.AistraleError", HEAVY),
    ],
)
def test_what_is_used_loads_what_it_needs(tmp_path: Path, statement: str, unneeded: tuple[str, ...]) -> None:
    """And no more than that."""
    program = f"""
        import sys
        import aistrale

        {statement}
        print([name for name in {unneeded!r} if name in sys.modules])
    """
    assert printed(program, cwd=tmp_path) == "[]\n"


def test_every_public_name_resolves_and_is_listed() -> None:
    """`dir(aistrale)` is what `from aistrale import *` gives, and each name is there."""
    assert dir(aistrale) == sorted(aistrale.__all__)
    assert all(getattr(aistrale, name) is not None for name in aistrale.__all__)
    assert not [name for name in aistrale.__all__ if name.startswith("_") and name != "__version__"]


def test_type_checkers_see_the_same_names() -> None:
    """What is looked up lazily is also imported where only type checkers look."""
    source = (ROOT / "src/aistrale/__init__.py").read_text()
    seen = {line.rsplit(" as ", 1)[1] for line in source.splitlines() if line.startswith("    from aistrale")}
    assert seen == set(aistrale.__all__) - {"__version__"}


def test_a_wrong_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="module 'aistrale' has no attribute 'rnu'"):
        _ = aistrale.rnu


def test_importing_every_module_does_nothing(tmp_path: Path) -> None:
    """No connection, no look at the environment, no thread, no file written: not even where all of it is imported."""
    program = """
        import importlib, os, pkgutil, sys, threading

        done = []

        def watch(event, arguments):
            if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen"):
                done.append(event)
            elif event == "open" and isinstance(arguments[0], str) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
                if ".pyc" not in arguments[0]:
                    done.append((event, arguments[0]))

        class Environment(type(os.environ)):
            def __getitem__(self, name):
                frame = sys._getframe(1)
                while frame.f_globals["__name__"] in ("os", "collections.abc", "_collections_abc"):
                    frame = frame.f_back
                if frame.f_globals["__name__"].startswith("aistrale"):
                    done.append(("environ", name, frame.f_globals["__name__"]))
                return super().__getitem__(name)

        os.environ.__class__ = Environment
        sys.addaudithook(watch)
        import aistrale

        names = ["aistrale", *(m.name for m in pkgutil.walk_packages(aistrale.__path__, "aistrale."))]
        for name in names:
            importlib.import_module(name)
        print(len(names) > 30, done, threading.active_count())
    """
    assert printed(program, cwd=tmp_path) == "True [] 1\n"
    assert list(tmp_path.iterdir()) == []


def test_every_package_is_typed() -> None:
    """Each ships a py.typed, without which type checkers pass over it (PEP 561)."""
    assert len(packages()) > 5
    roots: list[Path] = []
    for folder in packages():  # of a part of another's namespace, each package in it
        is_package = (folder / "__init__.py").is_file()
        roots += [folder] if is_package else [init.parent for init in folder.rglob("__init__.py")]
    assert [str(root) for root in roots if not (root / "py.typed").is_file()] == []
