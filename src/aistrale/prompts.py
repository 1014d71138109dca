"""Prompts kept apart from the code that uses them, with versions, labels, and files that git can hold.

>>> from aistrale import prompts
>>> prompts.create("greet", "Say hello to {{name}}.", labels=["production"])
>>> prompts.render("greet", {"name": "Ada"})
'Say hello to Ada.'

They are kept where AISTRALE_DATABASE_URL says. Functions raise InvalidRequestError for arguments that no prompt can
have, and StoreError for what is not there or the database cannot do. Each has a twin for async code, `create_async`
and so on, which works in a thread. How a template is written: `aistrale.templates`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from aistrale.exceptions import InvalidRequestError
from aistrale.models import Prompt
from aistrale.templates import Rendered, StoredPrompt, StoredPrompts
from aistrale.threads import in_thread

if TYPE_CHECKING:
    from aistrale.store.prompts import PromptStore

Folder: TypeAlias = str | os.PathLike[str]
Paths: TypeAlias = list[Path]


def create(
    name: str,
    template: Prompt,
    *,
    options: Mapping[str, Any] | None = None,
    labels: Sequence[str] = (),
    note: str | None = None,
) -> StoredPrompt:
    """Write version 1 of a prompt: a text, or the messages of a chat. Raises StoreError if the name is taken.

    name: up to 200 letters, digits, '.', '_' and '-'. template: at most 1 MiB. options: what to pass to `run` with it.
    """
    return _store().create(name, template, options=options, labels=labels, note=note)


def update(
    name: str,
    template: Prompt | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    labels: Sequence[str] = (),
    note: str | None = None,
    expected_version: int | None = None,
) -> StoredPrompt:
    """Write the next version, and move `labels` to it; what is None is as in the newest version.

    If nothing differs, no version is written, and the newest returned. `expected_version` guards against
    overwriting what somebody else wrote: StoreError if it is not the newest.
    """
    return _store().update(name, template, options=options, labels=labels, note=note, expected_version=expected_version)


def save(
    name: str,
    template: Prompt,
    *,
    options: Mapping[str, Any] | None = None,
    labels: Sequence[str] = (),
    note: str | None = None,
) -> StoredPrompt:
    """`update` if there is such a prompt, else `create`."""
    return _store().save(name, template, options=options, labels=labels, note=note)


def get(name: str, version: int | None = None, label: str | None = None) -> StoredPrompt:
    """One version: by number, by label, or as "name@3" or "name@label".

    Where none is named: the one labelled "production", or the newest if none is. "latest" is the newest.
    """
    return _store().get(name, version, label)


def render(
    name: str, variables: Mapping[str, Any] | None = None, *, version: int | None = None, label: str | None = None
) -> Rendered:
    """`get` a prompt and fill in its variables: what `aistrale.run` takes. See StoredPrompt.render."""
    return get(name, version, label).render(variables)


def history(name: str) -> StoredPrompts:
    """All versions of a prompt, newest first."""
    return _store().history(name)


def rollback(name: str, version: int) -> StoredPrompt:
    """Write the content of an old version as the next one; the label "production" follows if there is one.

    If the newest version has that content already, it is returned, with the label.
    """
    return _store().rollback(name, version)


def label(name: str, label: str, version: int) -> StoredPrompt:
    """Put a label on a version, and take it off the one that had it."""
    return _store().label(name, label, version)


def unlabel(name: str, label: str) -> None:
    """Take a label away."""
    _store().unlabel(name, label)


def delete(name: str, version: int | None = None) -> None:
    """Delete a prompt with all its versions, or one version that has no label and is not the only one."""
    _store().delete(name, version)


def list(label: str | None = None) -> StoredPrompts:
    """The newest version of each prompt, by name; with `label`, the versions that carry it."""
    return _store().list(label)


def export(folder: Folder, *, label: str | None = None) -> Paths:
    """Write each prompt's newest version, or the one with `label`, to a file `<name>.prompt.md` in `folder`.

    Returns the files, by name. The folder is made if need be; other files in it are left alone. Raises OSError
    where the files cannot be written.
    """
    from aistrale.prompt_files import SUFFIX, encode_file

    found = list(label)
    Path(folder).mkdir(parents=True, exist_ok=True)
    return [_write(Path(folder) / f"{prompt.name}{SUFFIX}", encode_file(prompt)) for prompt in found]


def load(folder: Folder) -> StoredPrompts:
    """Create or update a prompt for each file `<name>.prompt.md` in `folder`; a file is loaded whole or not at all.

    Returns the prompts as they are now, by file name. A file whose content is that of the newest version writes no
    other; its labels move there all the same. Raises InvalidRequestError, naming file and line, before anything is
    loaded if one of the files cannot be read as a prompt.
    """
    from aistrale.prompt_files import SUFFIX, decode_file

    if not Path(folder).is_dir():
        raise InvalidRequestError(f"There is no folder {str(folder)!r} to load prompts from")
    files = sorted(Path(folder).glob(f"*{SUFFIX}"))
    prompts = [decode_file(file.read_bytes(), str(file)) for file in files]
    return [save(**prompt) for prompt in prompts]


def _write(file: Path, data: bytes) -> Path:
    if not file.is_file() or file.read_bytes() != data:
        draft = file.with_name(f".{file.name}.tmp")
        draft.write_bytes(data)
        draft.replace(file)  # so that there is never half a file to load
    return file


def _store() -> PromptStore:
    from aistrale.store.store import open_store

    return open_store().prompts


create_async = in_thread(create)
update_async = in_thread(update)
save_async = in_thread(save)
get_async = in_thread(get)
render_async = in_thread(render)
history_async = in_thread(history)
rollback_async = in_thread(rollback)
label_async = in_thread(label)
unlabel_async = in_thread(unlabel)
delete_async = in_thread(delete)
list_async = in_thread(list)
export_async = in_thread(export)
load_async = in_thread(load)
