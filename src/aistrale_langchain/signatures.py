"""The signatures of methods, found once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def with_known_signature(method: F) -> F:
    """A method that langchain-core looks at each time it calls it, to see whether it takes a `run_manager`.

    `inspect.signature` takes what is on the method already, in a third of the time that it looks for it.
    """
    method.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return method
