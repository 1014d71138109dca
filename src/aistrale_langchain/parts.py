"""Content blocks of LangChain's, of any version, and of providers' own, as the contract's parts."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Iterable, Mapping
from typing import Any

from langchain_core.messages import BaseMessage

from aistrale.exceptions import InvalidRequestError
from aistrale.models import JSON
from aistrale.providers.history import strict_json

_MARKS = ("cache_control", "citations", "context", "title")
"""What Anthropic is told about a part, beside the part."""

_USUAL = {"image": "image/jpeg", "video": "video/mp4", "audio": "audio/wav", "file": "application/pdf"}
_AUDIO = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav", "audio/x-wav": "wav"}

_NOT_CONTENT = frozenset(
    (
        *("reasoning", "thinking", "redacted_thinking"),
        *("tool_use", "input_json_delta", "function_call", "tool_call", "tool_call_chunk", "invalid_tool_call"),
        *("server_tool_call", "server_tool_call_chunk", "server_tool_result"),
    )
)
"""Blocks that are told elsewhere in a message, or that no provider takes back as LangChain has them."""


def content_of(message: BaseMessage) -> str | list[JSON]:
    """A message's content: a text, or parts."""
    if isinstance(message.content, str):
        return message.content
    return [part for part in parts_of(message.content) if part.get("type") not in _NOT_CONTENT] or ""


def parts_of(blocks: Iterable[str | Mapping[str, Any]]) -> list[JSON]:
    """Standard blocks in OpenAI's shape, with what they say to Anthropic; parts of a provider's own stay as they are.

    Raises InvalidRequestError for a block without content.
    """
    return [{"type": "text", "text": block} if isinstance(block, str) else _part_of(block) for block in blocks]


def _part_of(block: Mapping[str, Any]) -> JSON:
    kind = block.get("type")
    if kind == "non_standard":
        return _value_of(block)
    if kind == "text":
        return {"type": "text", "text": block.get("text"), **_marks(_told(block), ("cache_control", "citations"))}
    if kind == "text-plain":
        return _document(_told(block))
    if kind in _USUAL and not any(isinstance(block.get(key), Mapping) for key in ("source", "file")):
        return _medium(kind, _told(block))
    return _own(block)


def _value_of(block: Mapping[str, Any]) -> JSON:
    """What a non-standard block holds; a part without a type, which Google's have, is of the type of its field."""
    value = _mapping(block.get("value"))
    if not value:
        raise InvalidRequestError("A non-standard block needs a 'value': the part as its provider has it")
    return {"type": next(iter(value)), **value}


def _own(block: Mapping[str, Any]) -> JSON:
    """A provider's own part, without what streaming left in it."""
    own = {key: value for key, value in block.items() if key not in ("index", "partial_json")}
    if text := block.get("partial_json"):
        own["input"] = strict_json(text, block.get("input"))
    return own


def _told(block: Mapping[str, Any]) -> JSON:
    """All that is said of a block: LangChain 1 has in `extras` what it has no field for, earlier ones in `metadata`."""
    extras = _mapping(block.get("extras"))
    return {**_mapping(extras.get("metadata")), **_mapping(block.get("metadata")), **extras, **block}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _marks(told: JSON, keys: Iterable[str] = _MARKS) -> JSON:
    return {key: told[key] for key in keys if told.get(key) is not None}


def _document(told: JSON) -> JSON:
    """A plain text as Anthropic has documents, which other providers are given as text."""
    text = told.get("text")
    if text is None and (data := told.get("base64")):
        try:
            text = base64.b64decode(data).decode("utf-8", "replace")
        except ValueError as error:
            raise InvalidRequestError("The 'base64' of a text-plain block is no base64") from error
    if text is None:
        return _medium("file", {"mime_type": "text/plain", **told})
    named = {"title": told["filename"]} if told.get("filename") else {}
    source = {"type": "text", "media_type": "text/plain", "data": text}
    return {"type": "document", "source": source, **named, **_marks(told)}


def _medium(kind: str, told: JSON) -> JSON:
    """An image, a sound, a video or a file, with its type where its data does not say it."""
    data, url = told.get("base64") or told.get("data"), told.get("url")
    identifier = told.get("file_id") or (told.get("id") if told.get("source_type") == "id" else None)
    if not (data or url or identifier):
        raise InvalidRequestError(f"A block of type {kind!r} needs one of 'base64', 'url' and 'file_id'")
    mime = told.get("mime_type") or mimetypes.guess_type(str(url or "").split("?")[0])[0] or _USUAL[kind]
    address = f"data:{mime};base64,{data}" if data else url
    marks = {**_marks(told), **({} if data else {"mime_type": mime})}
    if kind == "audio" and data:
        sound = {"data": data, "format": _AUDIO.get(mime, mime.split("/")[-1])}
        return {"type": "input_audio", "input_audio": sound, **marks}
    if kind in ("image", "video") and address:
        detail = {"detail": told["detail"]} if told.get("detail") else {}
        return {"type": f"{kind}_url", f"{kind}_url": {"url": address, **detail}, **marks}
    if identifier:
        return {"type": "file", "file": {"file_id": identifier}, **marks}
    name = told.get("filename") or told.get("name") or told.get("title")
    return {"type": "file", "file": {**({"filename": name} if name else {}), "file_data": address}, **marks}
