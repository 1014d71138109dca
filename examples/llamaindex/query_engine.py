"""Questions to real documents: the pages of this repository, found by their vectors."""

from pathlib import Path

from llama_index.core import SimpleDirectoryReader, VectorStoreIndex
from llama_index.core.base.response.schema import StreamingResponse
from llama_index.core.node_parser import TokenTextSplitter

from aistrale_llamaindex import AistraleEmbedding, AistraleLLM

PAGES = Path(__file__).parents[2] / "docs"

documents = SimpleDirectoryReader(PAGES, required_exts=[".md"]).load_data()
index = VectorStoreIndex.from_documents(
    documents, embed_model=AistraleEmbedding(), transformations=[TokenTextSplitter(chunk_size=512)]
)
engine = index.as_query_engine(llm=AistraleLLM(), similarity_top_k=3, streaming=True)

answer = engine.query("How do I see what my calls cost?")
assert isinstance(answer, StreamingResponse)
answer.print_response_stream()
print()
for node in answer.source_nodes:
    print("from", node.metadata["file_name"])
