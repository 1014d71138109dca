# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From install to a traced agent
#
# Ten minutes with Aistrale in LangChain: a first answer, a chain, a stream, tools, and an agent whose every step you
# can look up afterwards, with what it cost. All of it together costs less than a cent.

# %% [markdown]
# ## Install
#
# `aistrale[langchain]` brings the models and the tracer. `langchain` itself is for the agent; chains do without it.

# %% tags=["skip-execution"]
# %pip install --quiet "aistrale[langchain]" langchain

# %% [markdown]
# ## A key
#
# This notebook asks OpenAI. With another provider's key you change the name of the model below, to
# `anthropic/claude-sonnet-5-5` for example, and nothing else. A server of your own that speaks OpenAI's protocol does
# as well: `OPENAI_BASE_URL` says where it is.

# %%
import os
from getpass import getpass

if not os.environ.get("OPENAI_API_KEY"):
    os.environ["OPENAI_API_KEY"] = getpass("Your OpenAI key: ")

# %% [markdown]
# ## A first answer
#
# `ChatAistrale` is a LangChain chat model: wherever LangChain takes one, it can stand. Retries, timeouts and the books
# come with it.

# %%
from aistrale_langchain import ChatAistrale

model = ChatAistrale(model="openai/gpt-5.4-mini")
answer = model.invoke("Say hello in Welsh.")

print(answer.text)
print(answer.usage_metadata)

# %% [markdown]
# ## A chain
#
# A prompt, a model and a parser, joined by pipes.

# %%
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

prompt = ChatPromptTemplate([("system", "You translate into {language}."), ("user", "{text}")])
chain = prompt | model | StrOutputParser()

print(chain.invoke({"language": "Welsh", "text": "Where is the station?"}))

# %% [markdown]
# ## Streaming
#
# The same chain, word by word as the model writes.

# %%
for piece in chain.stream({"language": "Italian", "text": "The train leaves at nine from platform two."}):
    print(piece, end="", flush=True)

# %% [markdown]
# ## Tools
#
# A tool is a function with types and a docstring: that is what the model gets to know of it. The model does not run it.
# It says which one it wants to have called, and with what.

# %%
from langchain_core.tools import tool

ORDERS = {"A-17": "on its way, arrives tomorrow", "A-18": "delivered on Monday"}


@tool
def order_status(number: str) -> str:
    """Where an order is."""
    return ORDERS.get(number, "there is no such order")


@tool
def delivery_fee(kilograms: int) -> str:
    """What sending a parcel costs."""
    return f"{4 + 2 * kilograms} euros"


print(model.bind_tools([order_status, delivery_fee]).invoke("Where is my order A-17?").tool_calls)

# %% [markdown]
# ## An agent
#
# An agent calls the tools the model asks for, and the model again with what they gave, until it has its answer. The
# callback handler makes a trace of all of it, and `session_id` is a name of your own to find it by.

# %%
from uuid import uuid4

from langchain.agents import create_agent

from aistrale_langchain import AistraleCallbackHandler

agent = create_agent(
    model,
    tools=[order_status, delivery_fee],
    system_prompt="You work for a mail-order shop. Answer in one sentence.",
    name="mail-order",
)

session = f"mail-order-{uuid4()}"
result = agent.invoke(
    {"messages": [{"role": "user", "content": "Where is A-17, and what would sending back 2 kg of it cost?"}]},
    {"callbacks": [AistraleCallbackHandler()], "metadata": {"session_id": session}},
)

for message in result["messages"]:
    message.pretty_print()

# %% [markdown]
# ## Its trace
#
# Each step is a span in the books, by default an SQLite file in `~/.aistrale`. The spans of one run are one trace, a
# tree: the agent, below it its turns, and below those the calls to the model and to tools.

# %%
from aistrale import telemetry

(latest,) = telemetry.query(session=session, limit=1)

for root in telemetry.trace(latest.trace_id):
    for depth, span in root.walk():
        cost = "" if span.cost is None else f"  ${span.cost}"
        print(f"{'  ' * depth}{span.name}  {span.latency:.2f} s{cost}")

# %% [markdown]
# ## Its cost
#
# Only calls to models cost, so the cost of the agent is the sum of theirs. The first answer, the chain and the stream
# are in the books as well, without a session: every call is.

# %%
for total in telemetry.summary(by="model", session=session):
    print(f"This agent, {total.key}: {total.calls} calls, {total.usage.total_tokens} tokens, ${total.cost}")

for total in telemetry.summary(by="model", last="1h"):
    print(f"The last hour, {total.key}: {total.calls} calls, {total.usage.total_tokens} tokens, ${total.cost}")

# %% [markdown]
# ## From here
#
# * [`instrument()`](../../docs/langchain.md) traces everything LangChain runs in a process, without `callbacks`.
# * [Budgets](../../docs/books.md) refuse calls once a session, a user or a month has spent its share.
# * [Stored prompts](../../docs/prompts.md) live apart from the code, in versions, and are LangChain's templates.
# * With `OTEL_EXPORTER_OTLP_ENDPOINT` set, the same spans go to your OpenTelemetry collector.
# * [The examples](../../examples/langchain/README.md) are short scripts to copy from.
