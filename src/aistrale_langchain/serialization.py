"""Models as LangChain's `dumpd` and `load` know them.

`load` makes objects only of classes that langchain-core lists; its own partner packages are in that list, so ours are
added to it. What is loaded is still for the caller to allow (`allowed_objects="all"`, `valid_namespaces`).
"""

from __future__ import annotations

from langchain_core.load.load import ALL_SERIALIZABLE_MAPPINGS


def register(kind: type) -> None:
    """List a class, under the name that `dumpd` gives it."""
    name = (*kind.__module__.split("."), kind.__name__)
    ALL_SERIALIZABLE_MAPPINGS.setdefault(name, name)
