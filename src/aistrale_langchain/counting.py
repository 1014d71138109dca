"""How many tokens a text or messages may have, for what trims and sums up: an estimate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import BaseMessage
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.utils.function_calling import convert_to_openai_tool


class Counting(BaseLanguageModel[Any]):
    """Counts tokens as LangChain estimates them, four characters each, where `custom_get_token_ids` does not say.

    LangChain itself counts by GPT-2's tokenizer, which is another package, and another model's.
    """

    def get_num_tokens(self, text: str) -> int:
        """About how many tokens a text has."""
        if self.custom_get_token_ids is not None:
            return super().get_num_tokens(text)
        return math.ceil(len(text) / 4)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """About how many tokens messages have, and the tools that are sent with them."""
        if self.custom_get_token_ids is not None:
            return super().get_num_tokens_from_messages(messages, tools)
        return count_tokens_approximately(messages, tools=[*map(convert_to_openai_tool, tools or ())] or None)
