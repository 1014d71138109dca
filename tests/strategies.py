"""Values that hypothesis makes up: messages as OpenAI shapes them, with all that may come along."""

from typing import Any

from hypothesis import strategies as st

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
texts = st.text(max_size=8)
parts = st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url", "novelty"]), "text": texts})
more = st.dictionaries(st.sampled_from(["index", "extra_content", "x"]), json_values)


def calls_of(kind: str, argument: str) -> st.SearchStrategy[dict[str, Any]]:
    body = st.fixed_dictionaries({"name": texts, argument: texts})
    return st.builds(lambda id, body, more: {**more, "id": id, "type": kind, kind: body}, texts, body, more)


untyped_calls = calls_of("function", "arguments").map(lambda call: {k: v for k, v in call.items() if k != "type"})
calls = calls_of("function", "arguments") | calls_of("custom", "input") | untyped_calls
extras = st.fixed_dictionaries(
    {},
    optional={
        "audio": st.none() | st.fixed_dictionaries({"id": texts}),
        "function_call": st.none() | st.fixed_dictionaries({"name": texts, "arguments": texts}),
        "reasoning_content": st.none() | texts,
        "prefix": st.booleans(),
        "x": json_values,
    },
)
messages = st.builds(
    lambda role, known, extra: {**extra, "role": role, **known},
    st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"]),
    st.fixed_dictionaries(
        {},
        optional={
            "content": st.none() | texts | st.lists(parts, max_size=3),
            "name": st.none() | texts,
            "tool_calls": st.none() | st.lists(calls, min_size=1, max_size=3),
            "tool_call_id": st.none() | texts,
            "refusal": st.none() | texts,
        },
    ),
    extras,
)
