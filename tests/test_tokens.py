"""Providers' keys in the books: encrypted there, masked everywhere, and plain for who asks for one."""

import asyncio
import copy
import json
import logging
import pickle
import re
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from programs import printed
from sqlalchemy import select, text, update

import aistrale
from aistrale import tokens
from aistrale.keys import Secret, Token
from aistrale.records import Event
from aistrale.store.schema import metadata, secret_salts
from aistrale.store.schema import tokens as table
from aistrale.store.store import Store

KEY = "sk-proj-Xq2nC7tYh0aPz3LrW4x9"
OTHER = "sk-proj-Bm8eKd5fJu1sVg6oQ2y7"
DOCS = Path(__file__).parents[1] / "docs" / "tokens.md"


@pytest.fixture(autouse=True)
def _master_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's, so that no keyring is asked."""
    monkeypatch.setenv("AISTRALE_SECRET_KEY", "correct horse battery staple")


def labels() -> list[tuple[str, str, bool]]:
    return [(token.provider, token.label, token.is_default) for token in tokens.list()]


def everything_in(store: Store, folder: Path) -> bytes:
    """All rows of the database; on SQLite also its files, with what was deleted from them."""
    with store.database.read() as connection:
        rows = [repr(tuple(row)) for known in metadata.sorted_tables for row in connection.execute(select(known))]
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return "\n".join(rows).encode() + b"".join(files)


def told(error: BaseException) -> str:
    """All that a report of this error may show: its traceback with the variables of each frame, its fields."""
    shown = ""
    for cause in chain(error):
        shown += "".join(traceback.TracebackException.from_exception(cause, capture_locals=True).format())
        shown += repr(cause) + repr(vars(cause))
    return shown


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came of, also what a printed traceback leaves out."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


# --- what is kept


@pytest.mark.usefixtures("store")
def test_a_key_is_given_back_as_it_was_added() -> None:
    """To who asks for it by name."""
    before = datetime.now(UTC)
    added = tokens.add("openai", f"  {KEY}\n")

    assert added == tokens.list()[0]
    assert (added.provider, added.label, added.masked, added.is_default) == ("openai", "default", "sk-…W4x9", True)
    assert before - timedelta(seconds=1) < added.created < datetime.now(UTC) + timedelta(seconds=1)
    assert (added.rotated, added.last_used, added.secret) == (None, None, None)
    assert tokens.get("openai").reveal() == KEY
    assert tokens.get("openai", "default").secret == Secret(KEY)


@pytest.mark.usefixtures("store")
def test_the_first_is_the_default_until_another_is_made_it() -> None:
    """By `default=True` or by `set_default`; each provider has its own."""
    tokens.add("openai", KEY, "home", default=False)
    tokens.add("openai", OTHER, "work")
    tokens.add("google", KEY)
    assert labels() == [("google", "default", True), ("openai", "home", True), ("openai", "work", False)]

    tokens.set_default("openai", "work")
    assert labels() == [("google", "default", True), ("openai", "home", False), ("openai", "work", True)]
    assert tokens.get("openai").reveal() == OTHER

    tokens.add("openai", KEY, "third", default=True)
    assert [label for provider, label, is_default in labels() if is_default] == ["default", "third"]
    assert [token.label for token in tokens.list("openai")] == ["home", "work", "third"]


@pytest.mark.usefixtures("store")
def test_removing_the_default_promotes_the_oldest_other() -> None:
    """A provider with a token always has a default."""
    for label in ("b", "a", "c"):
        tokens.add("openai", KEY, label)
    tokens.set_default("openai", "c")

    tokens.remove("openai", "c")
    assert labels() == [("openai", "b", True), ("openai", "a", False)]
    tokens.remove("openai", "a")
    assert labels() == [("openai", "b", True)]
    tokens.remove("openai", "b")
    assert tokens.list() == []


@pytest.mark.usefixtures("store")
def test_rotating_replaces_the_key_alone() -> None:
    """Label, default and age stay; when it happened is kept."""
    tokens.add("openai", KEY)
    tokens.add("openai", KEY, "work")

    rotated = tokens.rotate("openai", OTHER, "work")

    assert (rotated.masked, rotated.is_default) == ("sk-…Q2y7", False)
    assert rotated.rotated is not None
    assert rotated.rotated >= rotated.created
    assert [tokens.get("openai", label).reveal() for label in ("default", "work")] == [KEY, OTHER]
    assert tokens.rotate("openai", OTHER).is_default


def test_the_gateway_gets_the_defaults(store: Store) -> None:
    """One for each provider, unseen until it is used."""
    tokens.add("openai", KEY)
    tokens.add("openai", OTHER, "work")
    tokens.add("google", OTHER)

    kept = store.tokens.keys()
    assert {name: (token.label, token.reveal()) for name, token in kept.items()} == {
        "google": ("default", OTHER),
        "openai": ("default", KEY),
    }
    assert KEY not in repr(kept)


def test_adding_one_is_an_event_of_the_same_transaction(store: Store) -> None:
    """With nothing of the key; what is refused is none."""
    heard: list[Event] = []
    store.events.subscribe(heard.append)
    tokens.add("openai", KEY, "work")
    with pytest.raises(aistrale.StoreError):
        tokens.add("openai", KEY, "work")

    (event,) = store.events.list()
    assert (event.type, event.data) == ("token.added", {"provider": "openai", "label": "work"})
    assert heard == [event]


@pytest.mark.usefixtures("store")
def test_many_threads_make_one_default() -> None:
    """Whichever is first."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: tokens.add("openai", KEY, f"n{number}"), range(16)))
    assert [is_default for _, _, is_default in labels()].count(True) == 1
    assert len(labels()) == 16


@pytest.mark.usefixtures("store")
async def test_async_code_has_the_same() -> None:
    """Each function's twin, run in a thread."""
    await tokens.add_async("openai", KEY)
    await tokens.add_async("openai", KEY, "work", default=True)
    await tokens.rotate_async("openai", OTHER, "work")
    assert (await tokens.get_async("openai")).reveal() == OTHER
    await tokens.set_default_async("openai", "default")
    await tokens.remove_async("openai", "work")
    assert [token.label for token in await tokens.list_async("openai")] == ["default"]
    assert await tokens.master_key_source_async() == "environment AISTRALE_SECRET_KEY"
    assert "none can be read before" in await tokens.rotate_master_key_async("another")


# --- what is refused


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("unfit", "why"),
    [
        ("", "it is empty"),
        (" \n", "it is empty"),
        (f"{KEY} {OTHER}", "it has blanks or line breaks inside"),
        (f"{KEY}\n{OTHER}", "it has blanks or line breaks inside"),
        (f"{KEY}ü", "it has characters that are no printable ASCII; copy it anew from its provider's page"),
        (f"{KEY}\x00", "it has characters that are no printable ASCII; copy it anew from its provider's page"),
        (f"{KEY}\udcff", "it has characters that are no printable ASCII; copy it anew from its provider's page"),
        (KEY.encode(), "it must be a text, not bytes"),
        (None, "it must be a text, not NoneType"),
    ],
)
def test_what_is_no_token_is_refused_without_repeating_it(unfit: Any, why: str) -> None:
    """Neither in the message nor in what a traceback shows."""
    for change in (tokens.add, tokens.rotate):
        with pytest.raises(aistrale.InvalidRequestError) as caught:
            change("openai", unfit)
        assert caught.value.message == f"This is no token: {why}"
        inner = caught.value.__traceback__.tb_next  # the first frame is this test's own
        assert KEY not in told(caught.value.with_traceback(inner))
    assert tokens.list() == []


@pytest.mark.usefixtures("store")
def test_a_second_of_the_same_label_is_refused() -> None:
    """Replacing one is another word."""
    tokens.add("openai", KEY, "work")
    with pytest.raises(aistrale.StoreError) as caught:
        tokens.add("openai", OTHER, "work")
    assert caught.value.message == (
        "openai has a token 'work' already: replace its key with aistrale.tokens.rotate, "
        "or add this one under another label"
    )
    assert tokens.get("openai").reveal() == KEY


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("label", ["", "my key", KEY + OTHER, "é", "a/b"])
def test_a_label_is_a_short_word(label: str) -> None:
    """A key given in its place, by mistake, is neither kept nor repeated."""
    with pytest.raises(aistrale.InvalidRequestError) as caught:
        tokens.add("openai", KEY, label)
    assert caught.value.message == "A token's label is 1 to 32 letters, digits, dots, hyphens and underscores"
    assert tokens.list() == []


@pytest.mark.usefixtures("store")
def test_a_provider_must_be_known() -> None:
    """What was given is not repeated: it may be the key."""
    with pytest.raises(aistrale.ConfigurationError) as caught:
        tokens.add("opnai", KEY)
    assert caught.value.message.startswith("There is no such provider. Did you mean 'openai'? Known are: anthropic, ")
    with pytest.raises(aistrale.ConfigurationError, match=r"^There is no such provider\. Known are: ") as caught:
        tokens.add(KEY, "openai")
    assert KEY not in caught.value.message


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    "ask",
    [
        lambda provider, label: tokens.get(provider, label),
        lambda provider, label: tokens.remove(provider, label),
        lambda provider, label: tokens.set_default(provider, label),
        lambda provider, label: tokens.rotate(provider, OTHER, label),
    ],
)
def test_one_that_is_not_there_is_an_error_that_says_what_is(ask: Callable[[str, str], object]) -> None:
    """Without repeating what was asked for."""
    none_yet = "There is no token of this provider. Add one with aistrale.tokens.add(provider, token)"
    with pytest.raises(aistrale.StoreError, match=f"^{re.escape(none_yet)}$"):
        ask("openai", "work")

    tokens.add("openai", KEY)
    tokens.add("openai", KEY, "home")
    elsewhere = (
        "There is no token of this provider; there are tokens of: openai. "
        "Add one with aistrale.tokens.add(provider, token)"
    )
    with pytest.raises(aistrale.StoreError, match=f"^{re.escape(elsewhere)}$"):
        ask("google", "default")
    with pytest.raises(aistrale.StoreError, match=r"^openai has no token of this label; there are: 'default', 'home'$"):
        ask("openai", "work")


# --- what must not be seen


def test_the_database_holds_no_plain_key(store: Store, tmp_path: Path) -> None:
    """Nor do its files, after keys were added, replaced and removed."""
    tokens.add("openai", KEY)
    tokens.add("openai", OTHER, "work")
    tokens.rotate("openai", OTHER)
    tokens.rotate("openai", KEY)
    tokens.remove("openai", "work")
    tokens.rotate_master_key("another")

    found = everything_in(store, tmp_path)
    assert b"sk-\xe2\x80\xa6W4x9" in found
    for key in (KEY, OTHER):
        for spelled in (key, key[4:-4], json.dumps(key), key.encode().hex()):
            assert spelled.encode() not in found


@pytest.mark.usefixtures("store")
def test_no_log_tells_it(caplog: pytest.LogCaptureFixture) -> None:
    """Not even SQLAlchemy's, at its most talkative."""
    caplog.set_level(logging.DEBUG)
    for name in ("sqlalchemy.engine", "sqlalchemy.pool", "aistrale"):
        caplog.set_level(logging.DEBUG, name)
    tokens.add("openai", KEY)
    tokens.rotate("openai", OTHER)
    tokens.get("openai").reveal()

    assert "INSERT INTO tokens" in caplog.text
    assert KEY not in caplog.text
    assert OTHER not in caplog.text


@pytest.mark.usefixtures("store")
def test_a_token_shows_itself_masked() -> None:
    """Printed, formatted, logged, as a dict, in a list."""
    tokens.add("openai", KEY)
    token = tokens.get("openai")
    shown = [repr(token), str(token), f"{token} {token.secret}", repr([token]), str(asdict(token)), str(vars_of(token))]

    assert all(KEY not in text for text in shown)
    assert "masked='sk-…W4x9'" in repr(token)
    assert "secret" not in repr(token)


def vars_of(token: Token) -> dict[str, Any]:
    return {name: getattr(token, name) for name in token.__slots__}


def failures(store: Store) -> Iterator[tuple[str, Callable[[], object]]]:
    """Ways to fail with a key in hand, each with how the error begins."""
    yield "openai has a token", lambda: tokens.add("openai", KEY)
    yield "openai has a token", lambda: asyncio.run(tokens.add_async("openai", KEY))
    yield "This is no token", lambda: tokens.add("openai", KEY + " x")
    yield "This is no token", lambda: asyncio.run(tokens.rotate_async("openai", KEY + " x"))
    yield "There is no such provider", lambda: tokens.add("nobody", KEY)
    yield "A token's label", lambda: tokens.add("openai", KEY, "a b")
    yield "openai has no token", lambda: tokens.rotate("openai", KEY, "work")
    with store.database.write() as connection:
        connection.execute(text("ALTER TABLE events RENAME TO gone"))
    yield store.database.name, lambda: tokens.add("openai", KEY, "work")
    yield store.database.name, lambda: asyncio.run(tokens.add_async("openai", KEY, "work"))
    with store.database.write() as connection:
        connection.execute(update(table).values(secret="damaged"))
    yield "The token 'default' of openai is damaged", lambda: tokens.get("openai")
    yield "The token 'default' of openai is damaged", lambda: tokens.rotate_master_key(KEY)
    with store.database.write() as connection:
        connection.execute(update(secret_salts).values(verifier="damaged"))
    yield "The tokens in", lambda: tokens.rotate("openai", KEY)


def test_no_traceback_tells_it(store: Store) -> None:
    """Not even one with the variables of each frame: wherever it fails, the key is wrapped already."""
    tokens.add("openai", KEY)
    for begins, fail in failures(store):
        with pytest.raises(aistrale.AistraleError) as caught:
            fail()
        assert caught.value.message.startswith(begins)
        assert KEY not in told(caught.value)


def test_what_failed_has_left_nothing(store: Store) -> None:
    """A token whose event cannot be written is not added."""
    with store.database.write() as connection:
        connection.execute(text("ALTER TABLE events RENAME TO gone"))
    with pytest.raises(aistrale.StoreError):
        tokens.add("openai", KEY)
    with store.database.write() as connection:
        connection.execute(text("ALTER TABLE gone RENAME TO events"))
    assert tokens.list() == []
    assert store.events.list() == []


# --- the values


@pytest.mark.parametrize(
    ("plain", "masked"),
    [(KEY, "sk-…W4x9"), ("x" * 12 + "12345678", "xxx…5678"), ("x" * 19, "…"), ("", "…")],
)
def test_a_secret_shows_its_ends_if_it_is_long(plain: str, masked: str) -> None:
    """Of a short one they would tell too much."""
    secret = Secret(plain)
    assert {repr(secret), str(secret), f"{secret}", "%s" % secret, f"{secret!r}"} == {masked}  # noqa: UP031
    assert f"{secret:>10}" == masked.rjust(10)
    assert secret.reveal() == plain
    assert not hasattr(secret, "__dict__")


def test_secrets_compare_by_their_text() -> None:
    """With one another only."""
    assert Secret(KEY) == Secret(Secret(KEY))
    assert Secret(KEY) != Secret(OTHER)
    assert Secret(KEY) != KEY
    assert len({Secret(KEY), Secret(KEY), Secret(OTHER)}) == 2


def test_a_secret_is_copied_but_not_pickled() -> None:
    """A pickle is a file or a message that shows it to whoever comes by."""
    secret = Secret(KEY)
    assert copy.copy(secret) == copy.deepcopy(secret) == secret
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match=r"^a Secret is not pickled: pass where it can be found, or reveal"):
            pickle.dumps(secret, protocol)
    with pytest.raises(TypeError, match="Secret is not JSON serializable"):
        json.dumps(secret)


@pytest.mark.usefixtures("store")
def test_a_listed_token_holds_no_key() -> None:
    """And says where it is; it may be pickled."""
    tokens.add("openai", KEY, "work")
    (token,) = tokens.list()
    assert pickle.loads(pickle.dumps(token)) == token
    with pytest.raises(aistrale.ConfigurationError) as caught:
        token.reveal()
    assert caught.value.message == (
        "This token was listed without its key: aistrale.tokens.get('openai', 'work').reveal() gives it"
    )


# --- the module


def test_importing_it_loads_neither_database_nor_cryptography(tmp_path: Path) -> None:
    """They come with the first use."""
    program = """
        import sys
        from aistrale import tokens

        print([name for name in ("sqlalchemy", "cryptography", "keyring", "asyncpg") if name in sys.modules])
    """
    assert printed(program, cwd=tmp_path) == "[]\n"


@pytest.mark.usefixtures("in_folder", "store")
def test_the_snippets_of_its_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    """One after the other, and print what the page says they do."""
    namespace: dict[str, Any] = {"__name__": "page"}
    for snippet in re.findall(r"^```python\n(.*?)^```$", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        exec(compile(snippet, DOCS.name, "exec"), namespace)
        said = [line.removeprefix("# ") for line in snippet.splitlines() if line.startswith("# ")]
        assert capsys.readouterr().out.splitlines() == said
