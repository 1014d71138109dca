"""What calls cost: the provider's own word, else the user's price, else the table's, else nobody knows."""

import logging
import random
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import genai_prices
import pytest
from callers import SYNC, Calling, Way, our_ways
from calls import HOUR, MOMENT, add, call, kept
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st
from programs import run_program
from upstream import Upstream, completion, plain

import aistrale
from aistrale import telemetry
from aistrale.exceptions import InvalidRequestError
from aistrale.models import Usage
from aistrale.prices import Cost, Price, PriceBook
from aistrale.providers import telemetry_name
from aistrale.providers.profiles import PROFILES
from aistrale.records import to_nanoseconds
from aistrale.spans import Span
from aistrale.store.location import database_url
from aistrale.store.peek import watch
from aistrale.store.spans import REPRICED
from aistrale.store.store import Store

TOKENS: dict[str, Any] = {"input_tokens": 1_000_000, "output_tokens": 1_000_000}
"""Of each kind so many that prices for a million are what it costs."""


def recorded(store: Store, *spans: Span) -> list[Span]:
    """Spans as the books hold them, priced."""
    store.record(spans)
    return [found for span in spans for found in store.spans.trace(span.trace_id)]


def said(span: Span) -> tuple[Decimal | None, str | None]:
    return span.cost, span.cost_source


# The rule


def test_whoever_knows_best_is_believed(store: Store) -> None:
    """The provider, then the user, then the table; what none of them knows has no cost, which is not zero."""
    telemetry.set_price("gpt-4o", input=1, output=2)
    reported, own, table, unknown = recorded(
        store,
        call(cost="0.5", cost_source="provider", **TOKENS),
        call(**TOKENS),
        call(model="gpt-4o-mini", **TOKENS),
        call(model="our-own", **TOKENS),
    )
    assert said(reported) == (Decimal("0.5"), "provider")
    assert said(own) == (Decimal(3), "override")
    assert said(table) == (Decimal("0.75"), "table")
    assert said(unknown) == (None, None)
    versions = [span.price_version for span in (reported, own, table, unknown)]
    assert versions == [None, None, f"genai-prices {genai_prices.__version__}", None]


def test_the_unknown_is_counted_as_unpriced(store: Store) -> None:
    """And its cost is left out of the sum."""
    store.record([call(**TOKENS), call(model="our-own", **TOKENS), call(model="our-own")])
    told = {group.key: (group.calls, group.unpriced, group.cost) for group in telemetry.summary("model")}
    assert told == {"gpt-4o": (1, 0, Decimal("12.5")), "our-own": (2, 2, Decimal(0))}


def test_a_free_call_is_priced(store: Store) -> None:
    """A cost of nothing is known: the provider says so, the user does, or a cache answered."""
    telemetry.set_price("free", input=0)
    free = recorded(
        store,
        call(cost="0", cost_source="provider", **TOKENS),
        call(model="free", **TOKENS),
        call(cached=True, **TOKENS),
        call(cached=True),
    )
    assert [said(span) for span in free] == [(0, "provider"), (0, "override"), (0, "cache"), (0, "cache")]
    assert sum(group.unpriced for group in telemetry.summary()) == 0


@pytest.mark.parametrize("operation", ["invoke_agent", "execute_tool", None])
def test_what_asks_no_model_costs_nothing_itself(operation: str | None) -> None:
    """Its calls do."""
    assert PriceBook([Price("gpt-4o", Decimal(1), Decimal(1))]).cost(call(operation=operation, **TOKENS)) is None


def test_a_call_without_usage_has_no_cost() -> None:
    """Nobody can know it."""
    assert PriceBook([Price("gpt-4o", Decimal(1), Decimal(1))]).cost(call()) is None


# The user's prices


@given(
    usage=st.builds(Usage, *[st.integers(0, 10**9)] * 5),
    prices=st.lists(st.none() | st.decimals(0, 10**6, places=6), min_size=4, max_size=4),
)
def test_a_price_is_exact(usage: Usage, prices: list[Decimal | None]) -> None:
    """To the digit; cached tokens are among the input's, and cost what it does if nothing else is said."""
    given, answered, read, written = prices
    price = Price("m", given or Decimal(0), answered or Decimal(0), read, written)
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    expected = (
        max(0, usage.input_tokens - cached) * Fraction(price.input)
        + usage.cache_read_tokens * Fraction(price.input if read is None else read)
        + usage.cache_write_tokens * Fraction(price.input if written is None else written)
        + usage.output_tokens * Fraction(price.output)
    ) / 1_000_000
    assert Fraction(price.of(usage)) == expected


@pytest.mark.usefixtures("store")
def test_prices_are_kept_as_they_were_said() -> None:
    """A float as it reads, and what was not said is not zero."""
    first = telemetry.set_price("b", input=0.1, output="0.30", cache_read=0)
    second = telemetry.set_price("a", input=Decimal("1e-9"), cache_write=7, provider="acme")
    assert first == Price("b", Decimal("0.1"), Decimal("0.30"), cache_read=Decimal(0))
    assert second == Price("a", Decimal("1e-9"), Decimal(0), cache_write=Decimal(7), provider="acme")
    assert telemetry.prices() == [second, first]


@pytest.mark.usefixtures("store")
def test_a_price_takes_the_place_of_an_earlier_one() -> None:
    """Of the same model and provider; and is taken back once."""
    telemetry.set_price("m", input=1)
    telemetry.set_price("m", input=2, provider="acme")
    telemetry.set_price("m", input=3)
    assert [(price.provider, price.input) for price in telemetry.prices()] == [(None, 3), ("acme", 2)]
    assert [telemetry.remove_price("m"), telemetry.remove_price("m")] == [True, False]
    assert [price.provider for price in telemetry.prices()] == ["acme"]
    assert telemetry.remove_price("m", provider="acme")
    assert telemetry.prices() == []


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("name", "provider", "expected"),
    [
        ("openai/gpt-4o", None, ("openai", "gpt-4o")),
        ("google/gemini-2.5-pro", None, ("gcp.gemini", "gemini-2.5-pro")),
        ("gemini-2.5-pro", "google", ("gcp.gemini", "gemini-2.5-pro")),
        ("gemini-2.5-pro", "gcp.gemini", ("gcp.gemini", "gemini-2.5-pro")),
        ("meta-llama/Llama-3.3", None, (None, "meta-llama/Llama-3.3")),
        ("openai/gpt-4o", "openrouter", ("openrouter", "openai/gpt-4o")),
        ("openrouter/openai/gpt-4o", None, ("openrouter", "openai/gpt-4o")),
        ("gpt-4o", None, (None, "gpt-4o")),
    ],
)
def test_a_name_may_say_the_provider(name: str, provider: str | None, expected: tuple[str | None, str]) -> None:
    """As models are named in calls; it is kept as spans name it, and taken back by the same name."""
    price = telemetry.set_price(name, input=1, provider=provider)
    assert (price.provider, price.model) == expected
    assert telemetry.remove_price(name, provider=provider)


def test_a_providers_price_goes_before_anybodys(store: Store) -> None:
    """And neither is taken for another model."""
    telemetry.set_price("openai/m", input=1)
    telemetry.set_price("m", input=2)
    spans = recorded(store, *[call(provider=who, model="m", **TOKENS) for who in ("openai", "acme", None)])
    assert [span.cost for span in spans] == [1, 2, 2]


def test_the_name_that_was_asked_for_goes_before_the_one_that_answered(store: Store) -> None:
    """The user knows the first; either will do."""
    telemetry.set_price("fast", input=1)
    telemetry.set_price("fast-2026-01", input=2)
    spans = recorded(
        store,
        call(model="fast", response_model="fast-2026-01", **TOKENS),
        call(model="alias", response_model="fast-2026-01", **TOKENS),
    )
    assert [span.cost for span in spans] == [1, 2]


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("amount", [-1, "-0.01", "free", "", "nan", float("inf"), True, None, []])
@pytest.mark.parametrize("name", ["input", "output"])
def test_what_is_no_price_is_refused(amount: Any, name: str) -> None:
    """Nothing is kept of it."""
    with pytest.raises(InvalidRequestError) as caught:
        telemetry.set_price("m", **{"input": 1, name: amount})
    assert str(caught.value).startswith(f"{name} must be an amount of US dollars")
    assert str(caught.value).endswith(f"not {amount!r}")
    assert telemetry.prices() == []


# The table


USAGES = [
    Usage(1000, 500),
    Usage(130_213, 503, cache_read_tokens=128_955, cache_write_tokens=1_253),
    Usage(300_000, 70_000, cache_read_tokens=250_000),
    Usage(0, 0),
    Usage(10, 5, cache_read_tokens=20),
    Usage(10, 5, cache_write_tokens=20),
]
WHENS = [
    datetime(2025, 3, 1, 12, tzinfo=UTC),
    datetime(2026, 7, 1, 2, tzinfo=UTC),
    datetime(2027, 2, 1, 20, tzinfo=UTC),
]


def by_the_table(usage: Usage, model: str, provider: str, when: datetime) -> Decimal | None:
    """What genai-prices itself says."""
    taken = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens or None,
        cache_write_tokens=usage.cache_write_tokens or None,
    )
    try:
        return genai_prices.calc_price(taken, model, provider_id=provider, genai_request_timestamp=when).total_price
    except (LookupError, ValueError):
        return None


def table_models() -> Iterator[tuple[str, str]]:
    for provider in get_snapshot().providers:
        for model in provider.models:
            yield provider.id, model.id


def test_every_model_of_the_table_costs_what_the_table_says() -> None:
    """With cached tokens, over tiers, at any time; and where counts contradict each other, nothing."""
    rng, book, different = random.Random(1), PriceBook(), []
    for provider, model in table_models():
        usage, when = rng.choice(USAGES), rng.choice(WHENS)
        cost = book.price(provider, [model], usage, None, to_nanoseconds(when))
        expected = by_the_table(usage, model, provider, when)
        if (None if cost is None else cost.amount) != expected:
            different.append((provider, model, usage, when, cost, expected))
    assert different == []


@pytest.mark.parametrize(("provider", "usage"), [(p, u) for p in ("openai", "anthropic") for u in USAGES], ids=str)
def test_well_known_models_cost_what_the_table_says(provider: str, usage: Usage) -> None:
    """Whatever was used."""
    model = {"openai": "gpt-4o", "anthropic": "claude-sonnet-4-5"}[provider]
    cost = PriceBook().price(provider, [model], usage, None, to_nanoseconds(WHENS[1]))
    assert (cost and cost.amount) == by_the_table(usage, model, provider, WHENS[1])


@given(st.builds(Usage, *[st.integers(-5, 10**12)] * 5))
def test_no_usage_is_too_odd_for_the_table(usage: Usage) -> None:
    """It has a cost or none."""
    for provider, model in (("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-5"), ("openai", "nonsense")):
        cost = PriceBook().price(provider, [model], usage, None, MOMENT)
        assert cost is None or (isinstance(cost, Cost) and cost.amount.is_finite())


def test_a_price_is_that_of_its_time() -> None:
    """OpenAI's o3 became cheaper in June 2025; a call of May still costs what it did."""
    usage = Usage(1_000_000, 0)
    months = [to_nanoseconds(datetime(2025, month, 1, tzinfo=UTC)) for month in (5, 7)]
    costs = [PriceBook().price("openai", ["o3"], usage, None, month) for month in months]
    assert [cost and cost.amount for cost in costs] == [10, 2]


@pytest.mark.parametrize("provider", ["google", "azure", "mistral", "xai", "openai", "anthropic", "groq", "deepseek"])
def test_providers_of_ours_are_in_the_table(provider: str) -> None:
    """By the names that spans give them."""
    models = [model for owner, model in table_models() if owner in (provider, {"xai": "x-ai"}.get(provider))]
    named = [PriceBook().price(telemetry_name(provider), [model], Usage(100, 100), None, MOMENT) for model in models]
    assert any(named)
    assert provider in PROFILES


def test_the_address_tells_whose_an_unnamed_providers_model_is() -> None:
    """A compatible endpoint may be anybody's; one the table does not know is nobody's."""
    usage = Usage(1_000_000, 0)

    def cost(address: str | None) -> Cost | None:
        return PriceBook().price("compatible", ["gpt-4o"], usage, address, MOMENT)

    known = cost("api.openai.com")
    assert known is not None
    assert known.amount == Decimal("2.5")
    assert cost("127.0.0.1") is cost(None) is None


# Repricing


def test_history_is_priced_anew(store: Store) -> None:
    """After a price was set or taken back; what the provider said itself stays, and so do cached answers."""
    store.record(
        [
            call(MOMENT, model="our-own", **TOKENS),
            call(MOMENT + 1, model="our-own", cost="0.5", cost_source="provider", **TOKENS),
            call(MOMENT + 2, model="our-own", cached=True, **TOKENS),
            call(MOMENT + 3, **TOKENS),
            call(MOMENT + 4, operation="invoke_agent", model="our-own", **TOKENS),
        ]
    )

    def costs() -> list[tuple[Decimal | None, str | None]]:
        return [said(span) for span in reversed(kept(store))]

    others = [(Decimal("0.5"), "provider"), (Decimal(0), "cache"), (Decimal("12.5"), "table"), (None, None)]
    assert costs() == [(None, None), *others]

    telemetry.set_price("our-own", input="0.25")
    assert telemetry.reprice() == 1
    assert costs() == [(Decimal("0.25"), "override"), *others]
    assert telemetry.reprice() == 0

    telemetry.remove_price("our-own")
    telemetry.set_price("gpt-4o", input=1, output=1)
    assert telemetry.reprice() == 2
    assert costs() == [(None, None), *others[:2], (Decimal(2), "override"), (None, None)]
    assert {group.key: (group.cost, group.unpriced) for group in telemetry.summary()} == {
        "gpt-4o": (Decimal(2), 0),
        "our-own": (Decimal("0.5"), 1),
    }


def test_some_of_history_is_priced_anew(store: Store) -> None:
    """Filters say which."""
    add(store, [call(MOMENT + n * HOUR, model=model, **TOKENS) for n in range(3) for model in ("a", "b")])
    for model in ("a", "b"):
        telemetry.set_price(model, input=1)
    since = datetime.fromtimestamp(MOMENT / 1e9 + 3600, UTC)
    assert telemetry.reprice(model="a", since=since) == 2
    assert [span.model for span in kept(store) if span.cost == 1] == ["a", "a"]


def test_a_long_history_is_priced_anew(store: Store) -> None:
    """In as many steps as it takes, many calls of one moment among them."""
    add(store, [call(MOMENT + n // 100, model="our-own", **TOKENS) for n in range(2 * REPRICED + 50)])
    telemetry.set_price("our-own", input=1)
    assert telemetry.reprice() == 2 * REPRICED + 50
    (told,) = telemetry.summary()
    assert (told.calls, told.unpriced, told.cost) == (2 * REPRICED + 50, 0, 2 * REPRICED + 50)
    assert telemetry.reprice() == 0


def test_repricing_by_the_same_prices_changes_nothing(store: Store) -> None:
    """However fine they are: less than a picodollar is not kept."""
    telemetry.set_price("our-own", input="0.1234567", output="0.00000001")
    (span,) = recorded(store, call(model="our-own", input_tokens=3, output_tokens=7))
    assert span.cost == Decimal("0.000000370370")
    assert telemetry.reprice() == 0


# What an answer says it cost


@our_ways
def test_an_answer_costs_what_its_span_does(
    store: Store, monkeypatch: pytest.MonkeyPatch, upstream: Upstream, calling: Calling, way: Way
) -> None:
    """By the same rule: reported, own price, table, unknown."""
    monkeypatch.setenv("AISTRALE_TELEMETRY", "store")
    telemetry.set_price("gpt-4o", input=1_000_000, output=0)
    caller = calling(way)
    models = ("gpt-4o", "gpt-4o-mini", "our-own")
    costs = [caller.ask(model=model).cost for model in models]
    assert costs == [3, Decimal("0.00000165"), None]  # three tokens asked, two answered
    assert [span.cost for span in reversed(telemetry.query())] == costs


def test_a_reported_cost_is_taken_as_it_stands(
    store: Store, monkeypatch: pytest.MonkeyPatch, upstream: Upstream, calling: Calling
) -> None:
    """Over a price of the user's own, and to the digit."""
    monkeypatch.setenv("AISTRALE_TELEMETRY", "store")
    telemetry.set_price("openai/gpt-4o", input=1, output=1, provider="openrouter")
    body = completion()
    upstream.will(plain({**body, "usage": {**body["usage"], "cost": 0.000123456}}))
    answer = calling(SYNC, provider="openrouter", model="openai/gpt-4o").ask()
    assert answer.cost == Decimal("0.000123456")
    assert [said(span) for span in telemetry.query()] == [(Decimal("0.000123456"), "provider")]


def test_an_answer_of_anthropic_counts_its_cached_tokens_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, upstream: Upstream, calling: Calling
) -> None:
    """130,213 tokens of input, not 260,421; in dollars for a million 3, read 0.30, written 3.75, answered 15."""
    monkeypatch.setenv("AISTRALE_TELEMETRY", "store")
    usage = {"input_tokens": 5, "cache_read_input_tokens": 128_955, "cache_creation_input_tokens": 1_253}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-20250929"}
    content = [{"type": "text", "text": "Hello"}]
    body = {**message, "content": content, "stop_reason": "end_turn", "usage": {**usage, "output_tokens": 503}}
    upstream.will(plain(body))
    answer = calling(SYNC, provider="anthropic", model="claude-sonnet-4-5", base_url=f"http://{upstream.host}").ask()

    expected = (5 * 3 + 128_955 * Decimal("0.3") + 1_253 * Decimal("3.75") + 503 * 15) / 1_000_000
    assert answer.usage == Usage(130_213, 503, 128_955, 1_253)
    (span,) = telemetry.query()
    assert (span.usage, span.cost, answer.cost) == (answer.usage, expected, expected)
    (told,) = telemetry.summary()
    assert (told.usage.input_tokens, told.cost) == (130_213, expected)


def test_a_price_for_a_provider_is_that_of_its_answers(
    store: Store, monkeypatch: pytest.MonkeyPatch, upstream: Upstream, calling: Calling
) -> None:
    """Also where spans name it otherwise than calls do, as the conventions have it."""
    monkeypatch.setenv("AISTRALE_TELEMETRY", "store")
    telemetry.set_price("mistral/mistral-small-latest", input=1_000_000)
    answer = calling(SYNC, provider="mistral", model="mistral-small-latest").ask()
    (span,) = telemetry.query()
    assert (span.provider, said(span)) == ("mistral_ai", (Decimal(3), "override"))
    assert answer.cost == 3


def test_a_price_set_after_an_answer_is_the_answers_too(store: Store, upstream: Upstream, calling: Calling) -> None:
    """A cost is looked up when it is asked for."""
    answer = calling(SYNC).ask(model="our-own")
    assert answer.cost is None
    telemetry.set_price("our-own", input=1_000_000)
    assert answer.cost == 3
    telemetry.remove_price("our-own")
    assert answer.cost is None


def test_where_own_prices_cannot_be_read_the_tables_are_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, calling: Calling, upstream: Upstream
) -> None:
    """And it is told: an answer is not withheld for want of a database."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    answer = calling(SYNC).ask(model="gpt-4o-mini")
    monkeypatch.setenv("AISTRALE_DATABASE_URL", f"postgresql://app@127.0.0.1:{port}/books")
    with caplog.at_level(logging.WARNING, "aistrale"):
        assert answer.cost == Decimal("0.00000165")
    (told,) = caplog.messages
    assert told.startswith("your own prices cannot be read, the table's are taken: postgresql://app@127.0.0.1")
    assert watch(database_url()).away


def test_a_sessions_cost_adds_up(store: Store, upstream: Upstream) -> None:
    """Over what is known of its answers; the rest is counted."""
    telemetry.set_price("m", input=1_000_000, output=500_000)
    body = completion()
    reported = plain({**body, "usage": {**body["usage"], "cost": 0.25}})
    with aistrale.Client(provider="openai", model="m", api_key="sk-test", base_url=upstream.url) as client:
        session = client.session()
        session.run("Hello")
        session.run("Hello", model="our-own")
        upstream.will(reported)
        session.run("Hello")
        assert (session.cost, session.unpriced) == (Decimal("4.25"), 1)
        session.run("Hello")
        assert (session.cost, session.unpriced) == (Decimal("8.25"), 1)


def test_money_is_exact_whatever_the_callers_decimal_context(store: Store) -> None:
    """Who looks into the books writes what waits, in a thread of their own."""
    with localcontext(Context(prec=3, traps=[Inexact])):
        add(store, [call(cost="0.000012345679")])
        (found,) = telemetry.query()
        assert str(found.cost) == "0.000012345679"
        telemetry.set_price("gpt-test", input="1.23456789", output="2.3456789")
        telemetry.summary()


@pytest.mark.parametrize("price", ["1e10", "1e999999"])
def test_a_price_that_cannot_be_meant_is_refused(store: Store, price: str) -> None:
    """More than a dollar a token."""
    with pytest.raises(InvalidRequestError, match="for a million tokens"):
        telemetry.set_price("gpt-test", input=price, output=1)


def test_a_cost_that_cannot_be_meant_is_none_after_repricing_as_well(store: Store) -> None:
    """And every sum says so."""
    add(store, [call(model="mine", input_tokens=10**9)])
    telemetry.set_price("mine", input=1_000_000, output=1)
    telemetry.reprice()
    for by in ("user", "model"):
        (total,) = telemetry.summary(by=by)  # type: ignore[arg-type]
        assert (total.cost, total.unpriced) == (0, 1)


def test_a_broken_price_table_leaves_calls_unpriced(database_url: str, tmp_path: Path) -> None:
    """They are in the books all the same, one warning says why, and they are priced anew once it is mended."""
    (tmp_path / "genai_prices").mkdir()
    (tmp_path / "genai_prices" / "__init__.py").write_text("raise ImportError('it was half installed')")
    program = """
        import logging
        logging.basicConfig()
        from calls import call
        from aistrale import telemetry
        from aistrale.store.location import database_url
        from aistrale.tracing.books import books_recorder

        recorder = books_recorder(database_url())
        for _ in range(3):
            recorder.record(call(input_tokens=1, output_tokens=1))
        print([(each.calls, each.unpriced) for each in telemetry.summary()], telemetry.status()[0].set_aside)
    """
    done = run_program(program, cwd=tmp_path, env={"PYTHONPATH": str(Path(__file__).parent)})
    assert done.stdout == "[(3, 3)] 0\n"
    assert done.stderr.count("the price table cannot be loaded: it was half installed") == 1
    assert telemetry.reprice() == 3
