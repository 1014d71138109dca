"""A prompt that lives in the store, in versions, apart from the chain that uses it."""

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from aistrale_langchain import ChatAistrale, prompt_from_store, prompt_to_store

# Who writes the prompt: what differs from the newest version becomes the next one, and the label moves to it.
template = ChatPromptTemplate(
    [
        ("system", "You answer the customers of {shop}, kindly and in one sentence."),
        ("user", "{question}"),
    ]
)
stored = prompt_to_store("support", template, labels=["production"])
print(f"{stored.name}, version {stored.version}")

# Who uses it, perhaps in another program: the version with the label "production", whichever that is by then.
chain = prompt_from_store("support") | ChatAistrale() | StrOutputParser()
print(chain.invoke({"shop": "a bookshop", "question": "Where is my parcel?"}))
