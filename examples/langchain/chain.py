"""A chain: a prompt, a model and a parser, joined by pipes."""

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from aistrale_langchain import ChatAistrale

prompt = ChatPromptTemplate(
    [
        ("system", "You name cafés. Answer with one name and nothing else."),
        ("user", "A café that is known for its {speciality}."),
    ]
)
model = ChatAistrale()  # or model="openai/gpt-5.4-mini", model="anthropic/claude-sonnet-5-5", ...
chain = prompt | model | StrOutputParser()

print(chain.invoke({"speciality": "apple cake"}))

for name in chain.batch([{"speciality": "terrace"}, {"speciality": "old piano"}]):  # both at once, answers in order
    print(name)
