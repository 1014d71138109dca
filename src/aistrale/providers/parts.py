"""Reading OpenAI-shaped content parts, for protocols that shape images, audio and files otherwise.

Source: https://platform.openai.com/docs/api-reference/chat/create, `messages[].content`.
"""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass, replace
from typing import Any

from aistrale.exceptions import InvalidRequestError
from aistrale.models import JSON


@dataclass(frozen=True, slots=True)
class Media:
    """An image, a sound or a file: base64 `data` with its type, an address, or an id at the provider."""

    kind: str
    mime_type: str
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    name: str | None = None


_URL_PARTS = {"image_url": "image/jpeg", "video_url": "video/mp4", "document_url": "application/pdf"}
_AUDIO_TYPES = {"mp3": "audio/mpeg", "wav": "audio/wav"}


def media_of(part: JSON) -> Media | None:
    """The medium a content part holds; None if it is no medium. Raises InvalidRequestError if it is malformed.

    `mime_type` beside a part's address or id is its type, which is guessed otherwise.
    """
    medium = _media_of(part)
    if medium is not None and medium.data is None and part.get("mime_type"):
        return replace(medium, mime_type=part["mime_type"])
    return medium


def neutral_parts(part: JSON) -> list[JSON]:
    """A part of Anthropic's own shape as OpenAI-shaped ones: documents that are texts as texts. Others stay.

    Of what its server's tools did nothing is left, since the text says what came of it.
    Source: https://docs.anthropic.com/en/api/messages, `messages[].content`.
    """
    kind, source = part["type"], part.get("source")
    if kind.endswith(("_tool_use", "_tool_result")):
        return []
    if kind not in ("image", "document") or not isinstance(source, dict):
        return [part]
    marks = {"cache_control": part["cache_control"]} if "cache_control" in part else {}
    match source:
        case {"type": "text", "data": str(text)} | {"type": "content", "content": str(text)}:
            return [{"type": "text", "text": text, **marks}]
        case {"type": "content", "content": list(inner)} if all(map(_is_part, inner)):
            return [neutral for entry in inner for neutral in neutral_parts(entry)]
        case {"type": "file", "file_id": identifier}:
            mime = "image/jpeg" if kind == "image" else "application/pdf"
            return [{"type": "file", "file": {"file_id": identifier}, "mime_type": mime, **marks}]
        case {"type": "base64", "media_type": mime, "data": data}:
            address = f"data:{mime};base64,{data}"
        case {"type": "url", "url": str(address)}:
            pass
        case _:
            return [part]
    if kind == "image":
        return [{"type": "image_url", "image_url": {"url": address}, **marks}]
    named = {"filename": part["title"]} if part.get("title") else {}
    return [{"type": "file", "file": {**named, "file_data": address}, **marks}]


def _is_part(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("type"), str)


def _media_of(part: JSON) -> Media | None:
    kind = part["type"]
    try:
        if kind in _URL_PARTS:
            value = part[kind]
            return _from_url(
                kind.removesuffix("_url"), value if isinstance(value, str) else value["url"], _URL_PARTS[kind]
            )
        if kind == "input_audio":
            audio = part["input_audio"]
            form = audio["format"]
            return Media("audio", _AUDIO_TYPES.get(form, f"audio/{form}"), data=audio["data"])
        if kind == "file":
            return _from_file(part["file"])
    except (KeyError, TypeError, AttributeError):
        raise InvalidRequestError(f"The content part of type {kind!r} is not shaped as OpenAI defines it") from None
    return None


def _from_url(kind: str, url: str, default_type: str) -> Media:
    if url.startswith("data:"):
        head, _, data = url[5:].partition(",")
        if not head.endswith(";base64") or not data:
            raise InvalidRequestError("A data URL must read data:<type>;base64,<data>")
        return Media(kind, head.removesuffix(";base64").split(";")[0] or default_type, data=data)
    guessed = mimetypes.guess_type(url.split("?")[0])[0]
    return Media(kind, guessed or default_type, url=url)


def _from_file(file: dict[str, Any]) -> Media:
    name = file.get("filename")
    if file.get("file_id") is not None:
        return Media("file", _type_of(name), file_id=file["file_id"], name=name)
    data = file["file_data"]
    if data.startswith(("data:", "http://", "https://")):
        medium = _from_url("file", data, _type_of(name))
        return Media("file", medium.mime_type, data=medium.data, url=medium.url, name=name)
    return Media("file", _type_of(name), data=data, name=name)


def _type_of(name: str | None) -> str:
    return (mimetypes.guess_type(name)[0] if name else None) or "application/pdf"
