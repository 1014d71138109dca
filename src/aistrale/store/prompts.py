"""Prompts and their versions. A version never changes once written; labels move from one to another."""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, select

from aistrale.exceptions import StoreError
from aistrale.models import Prompt
from aistrale.records import moment
from aistrale.store.database import Database
from aistrale.store.events import EventLog, Transaction
from aistrale.store.schema import prompt_labels, prompts
from aistrale.templates import (
    LATEST,
    PRODUCTION,
    StoredPrompt,
    StoredPrompts,
    as_note,
    as_options,
    as_template,
    check_label,
    check_labels,
    check_name,
    check_version,
    reference,
)

_LAST = "@last"
"""Where the number of a prompt's last version is kept among its labels, so that none is given twice, even if deleted.

No label may be called that.
"""


class PromptStore:
    """The prompts in one database.

    Every method raises InvalidRequestError for arguments no prompt can have, before the database is asked, and
    StoreError for what is not there or the database cannot do. Every change writes the event `prompt.updated`
    in its own transaction, with the prompt's name, version and what was done, never its text.
    """

    def __init__(self, events: EventLog, database: Database) -> None:
        self._events = events
        self._database = database

    def create(
        self,
        name: str,
        template: Prompt,
        *,
        options: Mapping[str, Any] | None = None,
        labels: Sequence[str] = (),
        note: str | None = None,
    ) -> StoredPrompt:
        """Write the first version of a prompt: 1, unless there was one of that name before, whose numbers go on.

        Raises StoreError if there is one of that name.
        """
        changes, labels = _changes(template, options, note), check_labels(labels)
        blank = _blank(name)
        with self._events.transaction() as transaction:
            newest = _newest(transaction.connection, name)
            if newest is not None:
                raise StoreError(
                    f"There is a prompt {name!r} already, at version {newest.version}: update writes its next version"
                )
            return _write(transaction, blank, changes, labels, "created")

    def update(
        self,
        name: str,
        template: Prompt | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        labels: Sequence[str] = (),
        note: str | None = None,
        expected_version: int | None = None,
    ) -> StoredPrompt:
        """Write the next version, and move `labels` to it; what is None is as in the newest version.

        If nothing differs from the newest version, that one is returned, with the labels. `options={}` and
        `note=""` empty them. Raises StoreError if `expected_version` is given and is not the newest one.
        """
        changes, labels = _changes(template, options, note), check_labels(labels)
        check_name(name)
        expected = None if expected_version is None else check_version(expected_version)
        with self._events.transaction() as transaction:
            newest = _existing(transaction.connection, name)
            if expected not in (None, newest.version):
                raise StoreError(
                    f"Prompt {name!r} is at version {newest.version}, not at {expected} as expected: "
                    "somebody wrote in between. Look at it, then update again"
                )
            return _write(transaction, newest, changes, labels, "updated")

    def save(
        self,
        name: str,
        template: Prompt,
        *,
        options: Mapping[str, Any] | None = None,
        labels: Sequence[str] = (),
        note: str | None = None,
    ) -> StoredPrompt:
        """`update` if there is such a prompt, else `create`."""
        changes, labels = _changes(template, options, note), check_labels(labels)
        blank = _blank(name)
        with self._events.transaction() as transaction:
            newest = _newest(transaction.connection, name)
            return _write(transaction, newest or blank, changes, labels, "updated" if newest else "created")

    def get(self, name: str, version: int | None = None, label: str | None = None) -> StoredPrompt:
        """One version: by number, by label, or as "name@3" or "name@label".

        Where none is named: the one labelled "production", or the newest if none is. "latest" is the newest.
        """
        name, version, label = reference(name, version, label)
        newest, labelled = _newest_version(name), _labelled_version(name, label or PRODUCTION)
        by_label = {None: func.coalesce(labelled, newest), LATEST: newest}.get(label, labelled)
        wanted = by_label if version is None else version
        with self._database.read() as connection:
            found = _found(connection, and_(prompts.c.name == name, prompts.c.version == wanted))
            if not found:
                raise _missing(connection, name, version, label)
        return found[0]

    def history(self, name: str) -> StoredPrompts:
        """All versions of a prompt, newest first."""
        check_name(name)
        with self._database.read() as connection:
            found = _found(connection, prompts.c.name == name)
            if not found:
                raise _missing(connection, name)
        return found

    def rollback(self, name: str, version: int) -> StoredPrompt:
        """Write the content of an old version as the next one; the label "production" follows if there is one.

        If the newest version has that content already, it is returned, with the label.
        """
        check_name(name)
        check_version(version)
        with self._events.transaction() as transaction:
            newest = _existing(transaction.connection, name)
            old = _existing(transaction.connection, name, version)
            changes = {"template": old.template, "options": old.options, "note": old.note}
            live = (PRODUCTION,) if PRODUCTION in _labels(transaction.connection, name) else ()
            return _write(transaction, newest, changes, live, "rolled_back")

    def label(self, name: str, label: str, version: int) -> StoredPrompt:
        """Put a label on a version, and take it off the one that had it."""
        check_name(name)
        check_label(label)
        check_version(version)
        with self._events.transaction() as transaction:
            _existing(transaction.connection, name, version)
            _move(transaction, name, label, version)
            return _existing(transaction.connection, name, version)

    def unlabel(self, name: str, label: str) -> None:
        """Take a label away."""
        check_name(name)
        check_label(label)
        with self._events.transaction() as transaction:
            version = _labels(transaction.connection, name).get(label)
            if version is None:
                raise _missing(transaction.connection, name, label=label)
            transaction.connection.execute(delete(prompt_labels).where(_is_label(name, label)))
            _tell(transaction, name, version, "unlabelled", label)

    def delete(self, name: str, version: int | None = None) -> None:
        """Delete a prompt with all its versions and labels; or one version, if it has no label and is not the only one.

        The number of a deleted version is not given again, even to another prompt of that name: spans name it.
        """
        check_name(name)
        version = None if version is None else check_version(version)
        with self._events.transaction() as transaction:
            gone = _existing(transaction.connection, name, version)
            if version is None:
                labels = and_(prompt_labels.c.name == name, prompt_labels.c.label != _LAST)
                transaction.connection.execute(delete(prompt_labels).where(labels))
                transaction.connection.execute(delete(prompts).where(prompts.c.name == name))
            else:
                _check_deletable(transaction.connection, gone)
                transaction.connection.execute(
                    delete(prompts).where(prompts.c.name == name, prompts.c.version == version)
                )
            _tell(transaction, name, version, "deleted")

    def list(self, label: str | None = None) -> StoredPrompts:
        """The newest version of each prompt, by name; with `label`, the versions that carry it."""
        wanted = _newest_version(prompts.c.name)
        if label not in (None, LATEST):
            wanted = _labelled_version(prompts.c.name, check_label(label))
        with self._database.read() as connection:
            return sorted(_found(connection, prompts.c.version == wanted), key=lambda prompt: prompt.name)


def _changes(template: Any, options: Any, note: Any) -> dict[str, Any]:
    """Those fields of a prompt that were given, as they are kept."""
    given = (("template", template, as_template), ("options", options, as_options), ("note", note, as_note))
    return {field: keep(value) for field, value, keep in given if value is not None}


def _blank(name: str) -> StoredPrompt:
    """What a first version is an update of."""
    return StoredPrompt(check_name(name), 0, "", {}, None, (), moment(0))


def _write(
    transaction: Transaction, newest: StoredPrompt, changes: Mapping[str, Any], labels: Iterable[str], action: str
) -> StoredPrompt:
    """Write `newest` with `changes` as the next version, unless nothing changes, and move the labels there."""
    connection, name, version = transaction.connection, newest.name, newest.version
    wanted = replace(newest, **changes)
    if not version or _content(wanted) != _content(newest):
        version = max(version, _last_version(connection, name)) + 1
        _insert(connection, replace(wanted, version=version))
        _put(connection, name, _LAST, version)
        _tell(transaction, name, version, action)
    for label in labels:
        _move(transaction, name, label, version)
    return _existing(connection, name, version)


def _content(prompt: StoredPrompt) -> str:
    """What makes a version: as text, since 1 == 1.0 == True."""
    return json.dumps([prompt.template, prompt.options, prompt.note], sort_keys=True)


def _insert(connection: Connection, prompt: StoredPrompt) -> None:
    connection.execute(
        insert(prompts).values(
            name=prompt.name,
            version=prompt.version,
            template=json.dumps(prompt.template, ensure_ascii=False),
            options=json.dumps(prompt.options, ensure_ascii=False),
            note=prompt.note,
            created=time.time_ns(),
        )
    )


def _move(transaction: Transaction, name: str, label: str, version: int) -> None:
    if _labels(transaction.connection, name).get(label) != version:
        _put(transaction.connection, name, label, version)
        _tell(transaction, name, version, "labelled", label)


def _put(connection: Connection, name: str, label: str, version: int) -> None:
    connection.execute(delete(prompt_labels).where(_is_label(name, label)))
    connection.execute(insert(prompt_labels).values(name=name, label=label, version=version))


def _tell(transaction: Transaction, name: str, version: int | None, action: str, label: str | None = None) -> None:
    data = {"name": name, "version": version, "action": action}
    transaction.emit("prompt.updated", data if label is None else {**data, "label": label})


def _check_deletable(connection: Connection, prompt: StoredPrompt) -> None:
    which = f"Version {prompt.version} of prompt {prompt.name!r}"
    if prompt.labels:
        raise StoreError(f"{which} is labelled {', '.join(prompt.labels)}: move that to another version first")
    versions = connection.execute(select(func.count()).where(prompts.c.name == prompt.name)).scalar()
    if versions == 1:
        raise StoreError(f"{which} is the only one: delete the prompt itself")


def _is_label(name: str, label: str) -> ColumnElement[bool]:
    return and_(prompt_labels.c.name == name, prompt_labels.c.label == label)


def _labelled_version(name: Any, label: str) -> Any:
    held = prompt_labels.alias()
    return select(held.c.version).where(held.c.name == name, held.c.label == label).scalar_subquery()


def _newest_version(name: Any) -> Any:
    other = prompts.alias()
    return select(func.max(other.c.version)).where(other.c.name == name).scalar_subquery()


def _last_version(connection: Connection, name: str) -> int:
    return connection.execute(select(_labelled_version(name, _LAST))).scalar() or 0


def _labels(connection: Connection, name: str) -> dict[str, int]:
    """Which version each label of a prompt is on."""
    found = select(prompt_labels.c.label, prompt_labels.c.version).where(prompt_labels.c.name == name)
    return {row.label: row.version for row in connection.execute(found) if row.label != _LAST}


def _found(connection: Connection, condition: ColumnElement[bool]) -> StoredPrompts:
    """Versions with their labels, in one statement and so of one moment; the newest of a prompt first."""
    on = and_(
        prompt_labels.c.name == prompts.c.name,
        prompt_labels.c.version == prompts.c.version,
        prompt_labels.c.label != _LAST,
    )
    query = select(prompts, prompt_labels.c.label).join(prompt_labels, on, isouter=True).where(condition)
    found: dict[tuple[str, int], StoredPrompt] = {}
    for row in connection.execute(query.order_by(prompts.c.version.desc())):
        prompt = found.get((row.name, row.version)) or _prompt(row)
        labels = prompt.labels if row.label is None else tuple(sorted((*prompt.labels, row.label)))
        found[row.name, row.version] = replace(prompt, labels=labels)
    return [*found.values()]


def _prompt(row: Row[Any]) -> StoredPrompt:
    template, options = json.loads(row.template), json.loads(row.options)
    return StoredPrompt(row.name, row.version, template, options, row.note, (), moment(row.created))


def _newest(connection: Connection, name: str) -> StoredPrompt | None:
    found = _found(connection, and_(prompts.c.name == name, prompts.c.version == _newest_version(name)))
    return found[0] if found else None


def _existing(connection: Connection, name: str, version: int | None = None) -> StoredPrompt:
    """A version, by default the newest. Raises StoreError."""
    wanted = _newest_version(name) if version is None else version
    found = _found(connection, and_(prompts.c.name == name, prompts.c.version == wanted))
    if not found:
        raise _missing(connection, name, version)
    return found[0]


def _missing(connection: Connection, name: str, version: int | None = None, label: str | None = None) -> StoreError:
    """The error that says what there is instead."""
    newest = connection.execute(select(_newest_version(name))).scalar()
    if newest is None:
        names = connection.execute(select(prompts.c.name).distinct()).scalars()
        return StoreError(f"There is no prompt {name!r}{_close(name, names)}")
    if label is None:
        return StoreError(f"Prompt {name!r} has no version {version}: its newest is {newest}")
    labels = sorted(_labels(connection, name))
    carried = f"its labels are {', '.join(labels)}" if labels else "it has none"
    return StoreError(f"Prompt {name!r} has no label {label!r}{_close(label, labels) or f': {carried}'}")


def _close(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, [*known], 3)
    return f". Did you mean {' or '.join(map(repr, close))}?" if close else ""
