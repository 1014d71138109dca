"""An answer word by word, as it is written; then two at the same time, in async code."""

import asyncio

from langchain_core.messages import AIMessageChunk

from aistrale_langchain import ChatAistrale

model = ChatAistrale()

answer = AIMessageChunk(content="")
for chunk in model.stream("Tell me in three sentences why the sky is blue."):
    print(chunk.text, end="", flush=True)
    answer += chunk  # chunks add up to the whole message, with the tokens it used
if answer.usage_metadata:
    print(f"\n({answer.usage_metadata['output_tokens']} tokens)")


async def tell(topic: str) -> str:
    text = ""
    async for chunk in model.astream(f"Tell me one fact about {topic}."):
        text += chunk.text
    return text


async def main() -> None:
    for fact in await asyncio.gather(tell("rain"), tell("snow")):
        print(fact)


asyncio.run(main())
