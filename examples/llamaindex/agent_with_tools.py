"""An agent that looks things up with functions before it answers."""

import asyncio
from typing import Any, Literal

from llama_index.core.agent.workflow import FunctionAgent

from aistrale_llamaindex import AistraleLLM

HOURS = {"weekday": "9:00 to 20:00", "saturday": "10:00 to 16:00", "sunday": "closed"}
SHELVES = {"Middlemarch": 2, "Dracula": 0}


def opening_hours(day: Literal["weekday", "saturday", "sunday"]) -> str:
    """When the library is open."""
    return HOURS[day]


def copies_on_the_shelf(title: str) -> int:
    """How many copies of a book can be borrowed today."""
    return SHELVES.get(title, 0)


async def main() -> None:
    agent = FunctionAgent(
        llm=AistraleLLM(),
        tools=[opening_hours, copies_on_the_shelf],
        system_prompt="You are the librarian. Use your tools, and answer in one sentence.",
    )
    answer: Any = await agent.run("Can I borrow Middlemarch on Saturday at noon?")
    for call in answer.tool_calls:
        print(f"{call.tool_name}({call.tool_kwargs}) = {call.tool_output}")
    print(answer)


asyncio.run(main())
