"""An agent that looks things up with tools before it answers."""

from typing import Literal

from langchain.agents import create_agent
from langchain_core.tools import tool

from aistrale_langchain import ChatAistrale

HOURS = {"weekday": "9:00 to 20:00", "saturday": "10:00 to 16:00", "sunday": "closed"}
SHELVES = {"Middlemarch": 2, "Dracula": 0}


@tool
def opening_hours(day: Literal["weekday", "saturday", "sunday"]) -> str:
    """When the library is open."""
    return HOURS[day]


@tool
def copies_on_the_shelf(title: str) -> int:
    """How many copies of a book can be borrowed today."""
    return SHELVES.get(title, 0)


agent = create_agent(
    ChatAistrale(),
    tools=[opening_hours, copies_on_the_shelf],
    system_prompt="You are the librarian. Use your tools, and answer in one sentence.",
)
answer = agent.invoke({"messages": [{"role": "user", "content": "Can I borrow Middlemarch on Saturday at noon?"}]})

for message in answer["messages"]:
    message.pretty_print()
