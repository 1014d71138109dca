"""A chat about documents, which remembers what was said."""

from llama_index.core import Document, SummaryIndex
from llama_index.core.chat_engine.types import ChatMode

from aistrale_llamaindex import AistraleLLM

MENU = [
    Document(text="Soup of the day: tomato, 4 euros."),
    Document(text="Apple cake with cream, 3 euros. Contains eggs and milk."),
]

chat = SummaryIndex.from_documents(MENU).as_chat_engine(chat_mode=ChatMode.CONTEXT, llm=AistraleLLM())
for question in ("What is there to eat?", "Which of it can I have without milk?"):
    print(">", question)
    for text in chat.stream_chat(question).response_gen:
        print(text, end="", flush=True)
    print()
print(len(chat.chat_history), "messages")
