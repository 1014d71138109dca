"""LangChain models, embeddings and callbacks over the Aistrale contract. In the making; nothing to import yet."""
