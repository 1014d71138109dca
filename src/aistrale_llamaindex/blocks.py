"""Content blocks of LlamaIndex's as the contract's parts, and parts of answers as blocks."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter

from llama_index.core.base.llms.types import (
    AudioBlock,
    BaseContentBlock,
    CachePoint,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    VideoBlock,
)

from aistrale.exceptions import InvalidRequestError
from aistrale.models import JSON
from aistrale.providers.parts import Media, media_of


def content_of(blocks: Iterable[BaseContentBlock]) -> str | list[JSON]:
    """What blocks say: one text where they are no more than that, else parts.

    Raises InvalidRequestError for a block that cannot be read.
    """
    parts: list[JSON] = []
    for block in blocks:
        if isinstance(block, CachePoint):  # which ends with the part before it
            if parts:
                parts[-1]["cache_control"] = block.cache_control.model_dump(include={"type", "ttl"})
            continue
        parts += _parts_of(block)
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        return str(parts[0]["text"])
    return parts or ""


def _parts_of(block: BaseContentBlock) -> Iterator[JSON]:
    try:
        match block:
            case TextBlock():
                yield {"type": "text", "text": block.text}
            case ImageBlock():
                detail = {"detail": block.detail} if block.detail else {}
                url = str(block.url) if block.url else _inline(block, block.image_mimetype or "image/jpeg")
                yield {"type": "image_url", "image_url": {"url": url, **detail}}
            case VideoBlock():
                url = str(block.url) if block.url else _inline(block, block.video_mimetype or "video/mp4")
                yield {"type": "video_url", "video_url": {"url": url}}
            case AudioBlock():
                data = block.resolve_audio(as_base64=True).read().decode()
                yield {"type": "input_audio", "input_audio": {"data": data, "format": block.format or "wav"}}
            case DocumentBlock():
                url = block.url or _inline(block, block.document_mimetype or "application/pdf")
                yield {"type": "file", "file": {"filename": block.title, "file_data": url}}
            case CitableBlock():
                for inner in block.content:
                    yield from _parts_of(inner)
            case CitationBlock():  # a remark on a text, which stands beside it
                pass
            case _:
                raise InvalidRequestError(f"{type(block).__name__} is no content that a model is sent")
    except (ValueError, OSError) as error:
        if isinstance(error, InvalidRequestError):
            raise
        raise InvalidRequestError(f"A {type(block).__name__} cannot be read: {error}") from error


def is_elsewhere(block: BaseContentBlock) -> bool:
    """Whether reading a block may wait for a disk or a network."""
    if isinstance(block, CitableBlock):
        return any(map(is_elsewhere, block.content))
    is_fetched = isinstance(block, AudioBlock) and block.url is not None  # others go by their address
    return is_fetched or getattr(block, "path", None) is not None


def _inline(block: ImageBlock | VideoBlock | DocumentBlock, mime: str) -> str:
    match block:
        case ImageBlock():
            data = block.resolve_image()
        case VideoBlock():
            data = block.resolve_video()
        case DocumentBlock():
            data = block.resolve_document()
    return f"data:{mime};base64,{base64.b64encode(data.read()).decode()}"


def blocks_of(content: str | list[JSON] | None) -> Iterator[BaseContentBlock]:
    """An answer's content: texts, and the images that a model made.

    Texts that follow each other are one, for LlamaIndex puts a line's end between blocks.
    """
    if isinstance(content, str):
        yield TextBlock(text=content)
        return
    for kind, parts in groupby(content or (), key=itemgetter("type")):
        if kind == "text":
            yield TextBlock(text="".join(part["text"] for part in parts))
        else:
            for part in parts:
                if (medium := media_of(part)) is not None and medium.kind == "image":
                    yield _image(medium)


def _image(medium: Media) -> ImageBlock:
    if medium.data is None:
        return ImageBlock(url=medium.url, image_mimetype=medium.mime_type)
    return ImageBlock(image=base64.b64decode(medium.data), image_mimetype=medium.mime_type)
