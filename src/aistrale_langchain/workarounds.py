"""What langchain-core gets wrong in its callbacks, and what keeps our users from noticing.

Source: langchain issue 39633.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from langchain_core.callbacks import (
    AsyncCallbackHandler,
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    BaseCallbackHandler,
)
from langchain_core.callbacks.manager import ahandle_event

_FORGETFUL = AsyncCallbackManager.on_llm_start.__code__


class InlineHandler(BaseCallbackHandler):
    """A handler that is told in the caller's own thread and order, and for whom no other is forgotten.

    LangChain tells none but inline handlers of the start of a text model in async code, once there is one of those. One
    that says no while LangChain asks for that is none of those; it is told inline all the same, by who asks again then.
    """

    @property
    def run_inline(self) -> bool:  # type: ignore[override]
        frame = sys._getframe(1)
        asking = frame.f_back if frame.f_code.co_name == "<listcomp>" else frame  # of its own before Python 3.12
        return asking is None or asking.f_code is not _FORGETFUL


class _Listener(AsyncCallbackHandler):
    """Hears of a text model's start, or does not."""

    def __init__(self, *, inline: bool) -> None:
        self.run_inline = inline
        self.heard = False

    async def on_llm_start(self, serialized: Any, prompts: list[str], **run: Any) -> None:
        self.heard = True


_is_missed: bool | None = None


async def _misses_starts() -> bool:
    """Whether this release tells none but inline handlers of the start of a text model, once there is one of those."""
    global _is_missed
    if _is_missed is None:
        other = _Listener(inline=False)
        await AsyncCallbackManager([_Listener(inline=True), other]).on_llm_start({}, [""], run_id=uuid4())
        _is_missed = not other.heard
    return _is_missed


async def tell_of_start(
    run: AsyncCallbackManagerForLLMRun, prompt: str, serialized: Mapping[str, Any], **about: Any
) -> None:
    """Tell the handlers of a text model's run that LangChain has forgotten of its start.

    Without it their later events come from nowhere, and `astream_events`, which lives by such a handler, says nothing.
    about: what else LangChain tells of the run: its name, the model's parameters, ...
    """
    forgotten = [handler for handler in run.handlers if not handler.run_inline]
    inline = [handler for handler in run.handlers if handler.run_inline and not isinstance(handler, InlineHandler)]
    if not forgotten or not inline or not await _misses_starts():
        return
    await ahandle_event(
        forgotten,
        "on_llm_start",
        "ignore_llm",
        serialized,
        [prompt],
        run_id=run.run_id,
        parent_run_id=run.parent_run_id,
        tags=run.tags,
        metadata=run.metadata,
        **about,
    )
