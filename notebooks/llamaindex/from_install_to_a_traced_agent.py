# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From install to a traced agent
#
# Ten minutes with Aistrale in LlamaIndex: a first answer, questions to documents, a stream, a chat, an object of your
# own class, and an agent whose every step you can look up afterwards, with what it cost. All of it together costs less
# than a cent.

# %% [markdown]
# ## Install
#
# `aistrale[llamaindex]` brings the models, the embeddings and the tracer, and with them LlamaIndex's core.

# %% tags=["skip-execution"]
# %pip install --quiet "aistrale[llamaindex]"

# %% [markdown]
# ## A key
#
# This notebook asks OpenAI. With another provider's key you change the names of the two models below, to
# `google/gemini-3.5-flash` and `google/gemini-embedding-001` for example, and nothing else. A server of your own that
# speaks OpenAI's protocol does as well: `OPENAI_BASE_URL` says where it is.

# %%
import os
from getpass import getpass

if not os.environ.get("OPENAI_API_KEY"):
    os.environ["OPENAI_API_KEY"] = getpass("Your OpenAI key: ")

# %% [markdown]
# ## A first answer
#
# `AistraleLLM` is a LlamaIndex model: wherever LlamaIndex takes one, it can stand. Retries, timeouts and the books come
# with it.

# %%
from aistrale_llamaindex import AistraleLLM

llm = AistraleLLM(model="openai/gpt-5.4-mini")
answer = llm.complete("Say hello in Welsh.")

print(answer.text)
print(answer.additional_kwargs)

# %% [markdown]
# ## Questions to documents
#
# An index finds the documents that are near a question by their vectors, and the model answers from those.
# `AistraleEmbedding` makes the vectors. `TokenTextSplitter` cuts long documents into pieces; these are short.

# %%
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.node_parser import TokenTextSplitter

from aistrale_llamaindex import AistraleEmbedding

TERMS = [
    Document(text="Delivery takes three days and costs 5 euros. Above 50 euros it is free."),
    Document(text="Goods can be sent back within 30 days. A return costs 4 euros, and 2 euros for each kilogram."),
    Document(text="We repair what we sold for two years, free of charge. Batteries are not included."),
]

index = VectorStoreIndex.from_documents(
    TERMS,
    embed_model=AistraleEmbedding(model="openai/text-embedding-3-small"),
    transformations=[TokenTextSplitter(chunk_size=512)],
)
engine = index.as_query_engine(llm=llm, similarity_top_k=2)
found = engine.query("How long do I have to send something back?")

print(found)
for source in found.source_nodes:
    print("from:", source.text)

# %% [markdown]
# ## Streaming
#
# The same engine, word by word as the model writes.

# %%
streaming = index.as_query_engine(llm=llm, similarity_top_k=2, streaming=True)

for piece in streaming.query("Who pays when my lamp breaks after a year?").response_gen:
    print(piece, end="", flush=True)

# %% [markdown]
# ## A chat
#
# A chat engine remembers what was said, so that the second question can lean on the first.

# %%
from llama_index.core.chat_engine.types import ChatMode

chat = index.as_chat_engine(chat_mode=ChatMode.CONTEXT, llm=llm, similarity_top_k=2)

print(chat.chat("What does delivery cost?"))
print(chat.chat("Is that so for an order of 80 euros, too?"))
print(len(chat.chat_history), "messages")

# %% [markdown]
# ## An answer as an object
#
# A class says what you want to know, and the model fills it in.

# %%
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel, Field


class Complaint(BaseModel):
    """What a customer is unhappy with."""

    order: str = Field(description="The number of the order, such as A-17")
    problem: str
    days_late: int


letter = "My order A-17 should have been here on Monday. It is Thursday now, and the lamp is for a birthday!"
complaint = llm.structured_predict(Complaint, PromptTemplate("Summarize this letter: {letter}"), letter=letter)

print(repr(complaint))

# %% [markdown]
# ## A prompt that is stored
#
# Prompts can live in the store, each version for good. `save` writes a new version only if something changed.

# %%
from aistrale import prompts
from aistrale_llamaindex import prompt_from_store

stored = prompts.save("terms", "Our terms:\n{{context_str}}\nAnswer in one sentence: {{query_str}}")
brief = index.as_query_engine(llm=llm, similarity_top_k=2, text_qa_template=prompt_from_store("terms"))

print(brief.query("Are batteries repaired?"), f"({stored.name}, version {stored.version})")

# %% [markdown]
# ## An agent
#
# A tool is a function with types and a docstring, or a query engine. The agent calls the tools the model asks for, and
# the model again with what they gave, until it has its answer. From `instrument()` on, whatever LlamaIndex does is
# traced, and `session_id` is a name of your own to find it by.

# %%
from uuid import uuid4

from llama_index.core.agent.workflow import AgentOutput, FunctionAgent
from llama_index.core.tools import QueryEngineTool
from llama_index_instrumentation.dispatcher import instrument_tags

from aistrale_llamaindex import instrument

ORDERS = {"A-17": "on its way, arrives tomorrow", "A-18": "delivered on Monday"}


def order_status(number: str) -> str:
    """Where an order is."""
    return ORDERS.get(number, "there is no such order")


terms = QueryEngineTool.from_defaults(brief, name="terms", description="What our terms say: delivery, returns, repairs")
agent = FunctionAgent(
    name="mail-order",
    llm=llm,
    tools=[terms, order_status],
    system_prompt="You work for a mail-order shop. Answer in one sentence.",
)

instrument()
session = f"mail-order-{uuid4()}"
with instrument_tags({"session_id": session}):
    result: AgentOutput = await agent.run("Where is A-17, and what would sending back 2 kg of it cost?")

for call in result.tool_calls:
    print(f"{call.tool_name}({call.tool_kwargs})")
print(result)

# %% [markdown]
# ## Its trace
#
# Each step is a span in the books, by default an SQLite file in `~/.aistrale`. The spans of one run are one trace, a
# tree: the agent, below it its steps, and below those the calls to the model and to tools. The query engine is below
# the tool that asks it, with its retrieval and its own calls to models.

# %%
from aistrale import telemetry

(latest,) = telemetry.query(session=session, limit=1)

for root in telemetry.trace(latest.trace_id):
    for depth, span in root.walk():
        cost = "" if span.cost is None else f"  ${span.cost:f}"
        print(f"{'  ' * depth}{span.name}  {span.latency:.2f} s{cost}")

# %% [markdown]
# ## Its cost
#
# Only calls to models cost, so the cost of the agent is the sum of theirs. What came before it is in the books as well,
# without a session: every call is.

# %%
for total in telemetry.summary(by="model", session=session):
    print(f"This agent, {total.key}: {total.calls} calls, {total.usage.total_tokens} tokens, ${total.cost:f}")

for total in telemetry.summary(by="model", last="1h"):
    print(f"The last hour, {total.key}: {total.calls} calls, {total.usage.total_tokens} tokens, ${total.cost:f}")

# %% [markdown]
# ## From here
#
# * [The page on LlamaIndex](../../docs/llamaindex.md) has the rest of the models, the tracer and the prompts.
# * [Budgets](../../docs/books.md) refuse calls once a session, a user or a month has spent its share.
# * [Stored prompts](../../docs/prompts.md) have labels, such as `production`, that say which version is in use.
# * With `OTEL_EXPORTER_OTLP_ENDPOINT` set, the same spans go to your OpenTelemetry collector.
# * [The examples](../../examples/llamaindex/README.md) are short scripts to copy from.
