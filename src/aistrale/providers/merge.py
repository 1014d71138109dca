"""Joining JSON values: a user's extra fields over ours, and the pieces of a stream."""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]

_LABELS = frozenset(("id", "type", "index", "format", "name", "role", "object", "model", "mime_type"))
"""Texts that name a thing: a later piece repeats or replaces them, where other texts add up."""


def deep_merge(base: JSON, over: JSON) -> JSON:
    """`base` with the entries of `over`, dicts joined key by key; neither is changed."""
    if not over:
        return base
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = deep_merge(below, value) if both and below is not None else value
    return merged


def merge_delta(before: Any, piece: Any, key: str = "") -> Any:
    """`before` and a further piece of it: texts and lists add up, dicts join, list entries join by `index`."""
    if before is None:
        return piece
    if piece is None:
        return before
    if isinstance(before, dict) and isinstance(piece, dict):
        joined = dict(before)
        for name, value in piece.items():
            joined[name] = merge_delta(joined.get(name), value, name)
        return joined
    if isinstance(before, list) and isinstance(piece, list):
        return _merge_lists(before, piece)
    if isinstance(before, str) and isinstance(piece, str) and key not in _LABELS:
        return before + piece
    return piece


def extend_lists(whole: JSON, piece: JSON) -> None:
    """Add a piece to what is our own: its lists go on, in the time their entries take, and all else is the last."""
    for name, value in piece.items():
        if isinstance(value, list) and isinstance(whole.get(name), list):
            whole[name] += value
        elif isinstance(value, list):
            whole[name] = list(value)
        elif value is not None or name not in whole:
            whole[name] = value


def _merge_lists(before: list[Any], pieces: list[Any]) -> list[Any]:
    joined = list(before)
    for piece in pieces:
        index = piece.get("index") if isinstance(piece, dict) else None
        same = next(
            (
                i
                for i, entry in enumerate(joined)
                if index is not None and isinstance(entry, dict) and _is_same(entry, piece)
            ),
            None,
        )
        if same is None:
            joined.append(piece)
        else:
            joined[same] = merge_delta(joined[same], piece)
    return joined


def _is_same(entry: JSON, piece: JSON) -> bool:
    """What shares an index but is of another kind is another thing: a summary and a ciphertext, say."""
    kinds = {kind for kind in (entry.get("type"), piece.get("type")) if kind is not None}
    return entry.get("index") == piece.get("index") and len(kinds) < 2
