"""A graph of two steps, and what the books tell of it afterwards: its trace, its tokens, its cost."""

from typing import TypedDict
from uuid import uuid4

from langgraph.graph import START, StateGraph

from aistrale import telemetry
from aistrale_langchain import ChatAistrale, instrument

instrument()  # from here on, whatever LangChain and LangGraph run in this process is traced
model = ChatAistrale()


class Story(TypedDict, total=False):
    topic: str
    text: str
    title: str


def write(state: Story) -> Story:
    return {"text": model.invoke(f"Write a story of three sentences about {state['topic']}.").text}


def name(state: Story) -> Story:
    return {"title": model.invoke(f"Give this story a title, and answer with that alone.\n\n{state['text']}").text}


graph = StateGraph(Story).add_sequence([write, name]).add_edge(START, "write").compile(name="story")

session = f"story-{uuid4()}"  # a name of your own for what belongs together
story = graph.invoke({"topic": "a lighthouse"}, {"metadata": {"session_id": session}})
print(f"{story['title']}\n\n{story['text']}\n")

(latest,) = telemetry.query(session=session, limit=1)
for root in telemetry.trace(latest.trace_id):
    for depth, span in root.walk():
        print(f"{'  ' * depth}{span.name}: {span.latency:.2f} s")

for total in telemetry.summary(by="model", session=session):
    print(f"{total.key}: {total.calls} calls, {total.usage.total_tokens} tokens, ${total.cost}")
