"""Our models in what people build with LangChain: agents, graphs, and the chains of old."""

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core._api import suppress_langchain_deprecation_warning
from langchain_core.prompts import PromptTemplate
from langchain_core.tools import tool
from model_behaviour import behave
from pydantic import BaseModel
from upstream import Upstream

from aistrale_langchain import AistraleLLM, ChatAistrale


class Report(BaseModel):
    """What there is to say of a city's weather."""

    city: str
    celsius: int


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}"


def model(upstream: Upstream) -> ChatAistrale:
    upstream.default = behave
    return ChatAistrale(model="gpt-test", provider="openai", api_key="sk", base_url=upstream.url, max_retries=0)


def test_an_agent_calls_its_tools(upstream: Upstream) -> None:
    """And answers once it has their results."""
    agent = create_agent(model(upstream), [weather])
    said = agent.invoke({"messages": [("user", "How is the weather?")]})["messages"]
    assert [message.type for message in said] == ["human", "ai", "tool", "ai"]
    assert said[2].content == "Sunny in text"
    assert said[3].text == "Hello there, how can I help you today?"


@pytest.mark.parametrize("strategy", [ProviderStrategy, ToolStrategy])
def test_an_agent_answers_in_a_shape(upstream: Upstream, strategy: Any) -> None:
    """By the provider's structured output, or by a tool."""
    agent = create_agent(model(upstream), [], response_format=strategy(Report))
    answer = agent.invoke({"messages": [("user", "How is the weather?")]})["structured_response"]
    assert answer == Report(city="text", celsius=3)


def test_a_chain_of_old(upstream: Upstream) -> None:
    """The classic LLMChain, with both kinds of model."""
    from langchain_classic.chains import LLMChain

    prompt = PromptTemplate.from_template("Say {word}")
    options: dict[str, Any] = {"model": "gpt-test", "provider": "openai", "api_key": "sk", "base_url": upstream.url}
    with suppress_langchain_deprecation_warning():
        for llm in (AistraleLLM(**options), ChatAistrale(**options)):
            assert LLMChain(llm=llm, prompt=prompt).run("cheese") == "Say cheese"
