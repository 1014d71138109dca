"""What a fork would tear apart: it waits until that is over.

A child has only the thread that forked. A module that another thread was importing stays half imported in it, and
locked; a database connection that another thread was using is neither the child's to use nor to close.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakSet

WAIT_SECONDS = 5.0
"""How long a fork waits at most."""


class Closable(Protocol):
    """Something with connections."""

    def close(self) -> None:
        """Close them; the next use opens others."""

    def after_fork(self) -> None:
        """In the child: forget locks that a thread of the parent may hold."""


class Gate:
    """Forks and undivided work take turns; any number of threads work at once."""

    def __init__(self) -> None:
        self._closables: WeakSet[Closable] = WeakSet()
        self._reset()

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._inside: Counter[int] = Counter()

    @contextmanager
    def undivided(self) -> Iterator[None]:
        """No fork while the block runs."""
        me = threading.get_ident()
        with self._changed:
            self._inside[me] += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside[me] -= 1
                self._changed.notify_all()

    def close_before_forks(self, closable: Closable) -> None:
        """Have connections closed before each fork."""
        self._closables.add(closable)

    def before(self) -> None:
        me = threading.get_ident()
        self._changed.acquire()
        self._changed.wait_for(lambda: all(not n for thread, n in self._inside.items() if thread != me), WAIT_SECONDS)
        if not self._inside[me]:
            for closable in list(self._closables):
                closable.close()

    def after_in_parent(self) -> None:
        self._changed.release()

    def after_in_child(self) -> None:
        self._reset()
        for closable in list(self._closables):
            closable.after_fork()


gate = Gate()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=gate.before, after_in_parent=gate.after_in_parent, after_in_child=gate.after_in_child)
