"""`AistraleLLM` by the path that LlamaIndex's integrations have."""

from aistrale_llamaindex.llm import AistraleLLM

__all__ = ["AistraleLLM"]
