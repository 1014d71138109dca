"""`AistraleEmbedding` by the path that LlamaIndex's integrations have."""

from aistrale_llamaindex.embedding import AistraleEmbedding

__all__ = ["AistraleEmbedding"]
