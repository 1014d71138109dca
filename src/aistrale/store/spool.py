"""Spans on their way to a database: files that wait until somebody has it open.

Opening a database takes longer than many a script lives, and a database may be away for a while. So
spans are put into a file at little cost, and whoever next writes to or reads from the database takes
them in. A file appears whole or not at all, and taking it in twice adds nothing.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from aistrale.logs import warn_once_a_minute
from aistrale.spans import Span, from_json, to_json
from aistrale.store.location import make_private

LIMIT = 256 * 1024 * 1024
"""Bytes that may wait; beyond that, `put` refuses."""

_BATCH = 2000
_ABANDONED_SECONDS = 3600.0

logger = logging.getLogger("aistrale")


class Spool:
    """A folder of files with spans in them, one line of JSON a span."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, spans: Iterable[Span]) -> None:
        """Keep spans. Raises OSError if there is no room or no right to."""
        make_private(self.folder)
        if sum(entry.st_size for path, entry in self._entries() if path.suffix == ".jsonl") > LIMIT:
            raise OSError(f"more than {LIMIT >> 20} MiB of spans wait in {self.folder}")
        self._write(spans, ".jsonl")

    def set_aside(self, span: Span, why: Exception) -> None:
        """Keep a span that cannot be taken in, as `.unreadable`, for its owner to look at. Raises OSError."""
        make_private(self.folder)
        path = self._write([span], ".unreadable")
        warn_once_a_minute(str(self.folder), "a span cannot be written (%s): it is kept in %s", why, path)

    def _write(self, spans: Iterable[Span], suffix: str) -> Path:
        # Sorts by time; no other process has the same number at the same moment.
        path = self.folder / f"{time.time_ns():020d}-{os.getpid()}{suffix}"
        draft = path.with_suffix(".part")
        try:
            with open(draft, "x", encoding="ascii", opener=_private) as file:
                file.writelines(f"{to_json(span)}\n" for span in spans)
            draft.rename(path)
        except BaseException:
            with suppress(OSError):
                draft.unlink()
            raise
        return path

    def purge(self, before: int) -> None:
        """Forget what was set aside before then, in nanoseconds since 1970."""
        for path, entry in self._entries():
            if path.suffix == ".unreadable" and entry.st_mtime_ns < before:
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    warn_once_a_minute(str(path), "%s is old and cannot be removed: %s", path, error.strerror)

    def drain(self, take_in: Callable[[Sequence[Span]], object]) -> int:
        """Hand all that waits to `take_in`, the oldest first, and forget it once that returns; the result is how many.

        A file that makes no sense is set aside, as `.unreadable`, and logged; one that may not be read is passed over.
        """
        waiting: list[Span] = []
        read: list[Path] = []
        number = 0
        for path in [*self._files(), None]:
            if path is not None and (spans := self._read(path)) is not None:
                waiting += spans
                read.append(path)
            if waiting and (path is None or len(waiting) >= _BATCH):
                take_in(waiting)
                number += len(waiting)
                waiting = []
            if not waiting:
                for done in read:
                    done.unlink(missing_ok=True)
                read = []
        return number

    @property
    def has_files(self) -> bool:
        """Whether spans wait in it."""
        return any(path.suffix == ".jsonl" for path, _ in self._entries())

    def _files(self) -> list[Path]:
        """The files that are whole, the oldest first. Drafts nobody writes any more are removed."""
        found = []
        for path, entry in self._entries():
            if path.suffix == ".jsonl":
                found.append(path)
            elif path.suffix == ".part" and time.time() - entry.st_mtime > _ABANDONED_SECONDS:
                with suppress(OSError):
                    path.unlink()  # its writer was killed
        return sorted(found)

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        """The files that are there. A folder that cannot be read has none."""
        try:
            entries = list(os.scandir(self.folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            warn_once_a_minute(str(self.folder), "spans in %s cannot be read: %s", self.folder, error.strerror)
            return
        for entry in entries:
            with suppress(OSError):  # another process has taken it in, or it is nothing of ours
                if entry.is_file():
                    yield Path(entry.path), entry.stat()

    def _read(self, path: Path) -> list[Span] | None:
        """What is in a file; None if it has to stay as it is."""
        try:
            lines = path.read_text(encoding="ascii").splitlines()
            return [from_json(line) for line in lines]
        except FileNotFoundError:
            return []
        except OSError as error:
            said = "spans in %s cannot be read: %s. Look whose file it is"
            warn_once_a_minute(str(self.folder), said, path, error.strerror)
            return None
        except (ValueError, RecursionError) as error:
            aside = path.with_suffix(".unreadable")
            with suppress(FileNotFoundError):  # another process has done so
                path.rename(aside)
            logger.warning("spans in %s cannot be read (%s): the file is kept", aside, type(error).__name__)
            return []


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
