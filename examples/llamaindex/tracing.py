"""A query, and what the books tell of it afterwards: its trace, its tokens, its cost."""

from uuid import uuid4

from llama_index.core import Document, SummaryIndex
from llama_index_instrumentation.dispatcher import instrument_tags

from aistrale import telemetry
from aistrale_llamaindex import AistraleLLM, instrument

instrument()  # from here on, whatever LlamaIndex does in this process is traced
index = SummaryIndex.from_documents([Document(text="The lighthouse was built in 1871.")])

session = f"lighthouse-{uuid4()}"  # a name of your own for what belongs together
with instrument_tags({"session_id": session}):
    print(index.as_query_engine(llm=AistraleLLM()).query("How old is the lighthouse?"))

(latest,) = telemetry.query(session=session, limit=1)
for root in telemetry.trace(latest.trace_id):
    for depth, span in root.walk():
        print(f"{'  ' * depth}{span.name}: {span.latency:.2f} s")

for total in telemetry.summary(by="model", session=session):
    print(f"{total.key}: {total.calls} calls, {total.usage.total_tokens} tokens, ${total.cost}")
