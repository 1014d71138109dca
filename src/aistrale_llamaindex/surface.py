"""How calls and steps say that they came by LlamaIndex."""

SURFACE = "llamaindex"
