"""Prompts and their versions, on both databases; and prompts as files."""

import inspect
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot
from programs import printed, run_program
from sqlalchemy import select
from strategies import messages

from aistrale import prompts
from aistrale.exceptions import InvalidRequestError, StoreError
from aistrale.models import Message
from aistrale.prompt_files import decode_file, encode_file
from aistrale.store import schema
from aistrale.store.store import Store, open_store
from aistrale.templates import LATEST, StoredPrompt, as_options, as_template

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
GUIDE = (Path(__file__).parents[1] / "docs" / "prompts.md").read_text(encoding="utf-8")


def refused(kind: type[Exception], call: Any, *arguments: Any, **keywords: Any) -> str:
    with pytest.raises(kind) as caught:
        call(*arguments, **keywords)
    return str(caught.value)


def changes(store: Store) -> list[tuple[Any, ...]]:
    """What the events tell."""
    told = [event.data for event in store.events.list(type="prompt.updated")]
    return [(data["action"], data["version"], *([data["label"]] if "label" in data else [])) for data in told]


# Versions


def test_a_new_prompt_is_version_1(store: Store) -> None:
    """With all that was said of it."""
    before = datetime.now(UTC)

    made = prompts.create("greet", "Hello {{name}}", options={"temperature": 0.5}, labels=["b", "a"], note="First")

    assert (made.name, made.version, made.template) == ("greet", 1, "Hello {{name}}")
    assert (made.options, made.note, made.labels) == ({"temperature": 0.5}, "First", ("a", "b"))
    assert before - timedelta(milliseconds=1) < made.created <= datetime.now(UTC)
    assert prompts.get("greet") == made


def test_what_is_not_said_is_empty(store: Store) -> None:
    """No options, no labels, no note."""
    made = prompts.create("greet", "Hello")
    assert (made.options, made.labels, made.note) == ({}, (), None)


@pytest.mark.parametrize("template", ["a\r\nb\n\n", " é😀\u2028\x01 {{x}} '\"\\ %s $1", "x" * 1024 * 1024])
def test_a_text_comes_back_byte_for_byte(store: Store, template: str) -> None:
    """From either database."""
    prompts.create("greet", template)
    assert prompts.get("greet").template == template


def test_a_chat_comes_back_as_messages(store: Store) -> None:
    """In OpenAI's shape, their keys in one order."""
    chat = [{"content": "Hello {{name}}", "role": "user"}, {"role": "assistant", "x": {"b": 1, "a": [None]}}]

    made = prompts.create("greet", chat)

    assert repr(made.template) == repr(
        [{"role": "user", "content": "Hello {{name}}"}, {"role": "assistant", "x": {"b": 1, "a": [None]}}]
    )
    assert made.render({"name": "Ada"}) == [Message("user", "Hello Ada"), Message.from_dict(chat[1])]


def test_a_name_is_created_once(store: Store) -> None:
    """The error says what to do."""
    prompts.create("greet", "Hello")
    prompts.update("greet", "Hi")
    assert refused(StoreError, prompts.create, "greet", "Hey") == (
        "There is a prompt 'greet' already, at version 2: update writes its next version"
    )
    assert prompts.get("greet").template == "Hi"


def test_an_update_is_the_next_version_and_leaves_the_others_as_they_are(store: Store) -> None:
    """What it leaves out is as before."""
    first = prompts.create("greet", "Hello", options={"seed": 1}, note="Warm")

    second = prompts.update("greet", "Hi")
    third = prompts.update("greet", options={"seed": 2})
    fourth = prompts.update("greet", options={}, note="")

    assert (second.version, second.template, second.options, second.note) == (2, "Hi", {"seed": 1}, "Warm")
    assert (third.version, third.template, third.options, third.note) == (3, "Hi", {"seed": 2}, "Warm")
    assert (fourth.version, fourth.template, fourth.options, fourth.note) == (4, "Hi", {}, None)
    assert prompts.history("greet") == [fourth, third, second, first]


def test_an_update_that_changes_nothing_writes_nothing(store: Store) -> None:
    """Whatever the order of the keys; but labels move."""
    chat = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    first = prompts.create("greet", chat, options={"a": 1, "b": {"c": 1, "d": 2}}, note="Warm")

    assert prompts.update("greet") == first
    assert prompts.update("greet", chat, options={"b": {"d": 2, "c": 1}, "a": 1}, note="Warm") == first
    assert prompts.update("greet", [Message.from_dict(chat[0])], labels=["live"]).labels == ("live",)
    assert [version.version for version in prompts.history("greet")] == [1]


def test_numbers_of_another_kind_are_a_change(store: Store) -> None:
    """1, 1.0 and True are equal in Python, and not in a request."""
    prompts.create("greet", "Hello", options={"x": 1})
    assert prompts.update("greet", options={"x": 1.0}).version == 2
    assert repr(prompts.update("greet", options={"x": True}).options) == "{'x': True}"


def test_an_older_version_is_not_the_newest(store: Store) -> None:
    """Going back by hand writes a version like any other."""
    prompts.create("greet", "Hello")
    prompts.update("greet", "Hi")
    assert prompts.update("greet", "Hello").version == 3


def test_what_a_caller_does_to_a_prompt_is_not_kept(store: Store) -> None:
    """Each reading is a copy."""
    made = prompts.create("greet", [{"role": "user", "content": "Hello"}], options={"a": [1]})
    made.options["a"].append(2)
    assert isinstance(made.template, list)
    made.template.clear()
    assert prompts.get("greet").options == {"a": [1]}
    assert prompts.get("greet").template == [{"role": "user", "content": "Hello"}]


# Which version


@pytest.fixture
def greet(store: Store) -> Store:
    """Three versions of one prompt, the second of them labelled twice."""
    for template in ("one", "two", "three"):
        store.prompts.save("greet", template)
    store.prompts.label("greet", "staging", 2)
    store.prompts.label("greet", "blue", 2)
    return store


@pytest.mark.usefixtures("greet")
def test_a_version_is_named_by_number_or_label() -> None:
    """Apart from the name or in it."""
    assert prompts.get("greet", 2) == prompts.get("greet", version=2) == prompts.get("greet@2")
    assert prompts.get("greet", label="staging") == prompts.get("greet@blue") == prompts.get("greet", 2)
    assert (prompts.get("greet@1").template, prompts.get("greet@1").labels) == ("one", ())
    assert prompts.get("greet@2").labels == ("blue", "staging")


@pytest.mark.usefixtures("greet")
def test_without_one_it_is_what_is_in_production_or_else_the_newest() -> None:
    """And "latest" is always the newest."""
    assert prompts.get("greet").version == 3
    prompts.label("greet", "production", 1)
    assert prompts.get("greet").version == prompts.get("greet@production").version == 1
    assert prompts.get("greet@latest").version == prompts.get("greet", label=LATEST).version == 3
    prompts.unlabel("greet", "production")
    assert prompts.get("greet").version == 3


@pytest.mark.usefixtures("greet")
def test_a_label_moves() -> None:
    """It is on one version at a time."""
    moved = prompts.label("greet", "staging", 3)
    assert moved.labels == ("staging",)
    assert [(version.version, version.labels) for version in prompts.history("greet")] == [
        (3, ("staging",)),
        (2, ("blue",)),
        (1, ()),
    ]


@pytest.mark.usefixtures("greet")
def test_labels_of_an_update_move_to_what_it_writes() -> None:
    """And only they."""
    assert prompts.update("greet", "four", labels=["staging"]).labels == ("staging",)
    assert prompts.get("greet@blue").version == 2


@pytest.mark.usefixtures("greet")
def test_another_prompts_labels_are_its_own() -> None:
    """Under the same name, too."""
    prompts.create("part", "Bye", labels=["staging"])
    assert prompts.get("greet@staging").version == 2
    assert prompts.get("part").labels == ("staging",)


@pytest.mark.usefixtures("greet")
def test_what_is_not_there_is_told_with_what_is() -> None:
    """A slip of the keyboard is seen at once."""
    prompts.create("review", "Look")
    no_greet = "There is no prompt 'great'. Did you mean 'greet'?"
    assert refused(StoreError, prompts.get, "great") == no_greet
    assert refused(StoreError, prompts.get, "great@3") == no_greet
    assert refused(StoreError, prompts.get, "great@latest") == no_greet
    assert refused(StoreError, prompts.update, "great", "x") == no_greet
    assert refused(StoreError, prompts.history, "great") == no_greet
    assert refused(StoreError, prompts.rollback, "great", 1) == no_greet
    assert refused(StoreError, prompts.label, "great", "x", 1) == no_greet
    assert refused(StoreError, prompts.unlabel, "great", "x") == no_greet
    assert refused(StoreError, prompts.delete, "great") == no_greet
    assert refused(StoreError, prompts.get, "x") == "There is no prompt 'x'"
    no_version = "Prompt 'greet' has no version 7: its newest is 3"
    assert refused(StoreError, prompts.get, "greet@7") == no_version
    assert refused(StoreError, prompts.rollback, "greet", 7) == no_version
    assert refused(StoreError, prompts.label, "greet", "x", 7) == no_version
    assert refused(StoreError, prompts.delete, "greet", 7) == no_version
    no_label = "Prompt 'greet' has no label 'stagin'. Did you mean 'staging'?"
    assert refused(StoreError, prompts.get, "greet@stagin") == no_label
    assert refused(StoreError, prompts.unlabel, "greet", "stagin") == no_label
    assert refused(StoreError, prompts.get, "greet@x") == (
        "Prompt 'greet' has no label 'x': its labels are blue, staging"
    )
    assert refused(StoreError, prompts.get, "review@x") == "Prompt 'review' has no label 'x': it has none"


def test_an_empty_database_has_no_prompts(store: Store) -> None:
    """And says so."""
    assert prompts.list() == []
    assert refused(StoreError, prompts.get, "greet") == "There is no prompt 'greet'"


@pytest.mark.usefixtures("greet")
def test_the_list_has_the_newest_of_each_or_what_carries_a_label() -> None:
    """By name, as Python sorts."""
    prompts.create("b", "B", labels=["staging"])
    prompts.create("_a", "A")
    prompts.create("C", "C")
    assert [(prompt.name, prompt.version) for prompt in prompts.list()] == [("C", 1), ("_a", 1), ("b", 1), ("greet", 3)]
    assert [(prompt.name, prompt.version) for prompt in prompts.list("staging")] == [("b", 1), ("greet", 2)]
    assert prompts.list("latest") == prompts.list()
    assert prompts.list("x") == []


# Going back, and deleting


@pytest.mark.usefixtures("greet")
def test_a_rollback_is_a_new_version_with_old_content() -> None:
    """History stays, and production follows only if there was one."""
    prompts.update("greet", "four", options={"seed": 4}, note="Fourth")

    back = prompts.rollback("greet", 2)

    assert (back.version, back.template, back.options, back.note, back.labels) == (5, "two", {}, None, ())
    assert [version.version for version in prompts.history("greet")] == [5, 4, 3, 2, 1]
    prompts.label("greet", "production", 3)
    assert prompts.rollback("greet", 1).labels == ("production",)
    assert prompts.get("greet").version == 6


@pytest.mark.usefixtures("greet")
def test_a_rollback_to_what_is_newest_writes_nothing() -> None:
    """As any change that is none."""
    prompts.label("greet", "production", 1)
    assert prompts.rollback("greet", 3).labels == ("production",)
    assert prompts.rollback("greet", 3).version == 3


def test_deleting_a_prompt_leaves_nothing(store: Store, greet: Store) -> None:
    """But its numbers: another of its name goes on after the last one."""
    prompts.create("greets", "Other", labels=["staging"])

    prompts.delete("greet")

    assert [prompt.name for prompt in prompts.list()] == ["greets"]
    again = prompts.create("greet", "new")
    assert (again.version, again.labels, prompts.history("greet")) == (4, (), [again])
    assert prompts.get("greets@staging").version == 1
    prompts.delete("greet")
    prompts.delete("greets")
    with store.database.read() as connection:
        assert connection.execute(select(schema.prompts)).all() == []
        assert sorted(connection.execute(select(schema.prompt_labels))) == [
            ("greet", "@last", 4),
            ("greets", "@last", 1),
        ]
    assert prompts.create("greet", "newer").version == 5
    assert prompts.list("production") == []


def test_a_prompt_that_was_deleted_is_not_there(store: Store, greet: Store) -> None:
    """Under no name it had, though its numbers are remembered."""
    prompts.delete("greet")
    for reference in ("greet", "greet@3", "greet@staging"):
        assert refused(StoreError, prompts.get, reference).startswith("There is no prompt 'greet'")
    assert refused(StoreError, prompts.update, "greet", "x").startswith("There is no prompt 'greet'")


@pytest.mark.usefixtures("greet")
def test_a_version_is_deleted_if_nothing_hangs_on_it() -> None:
    """Neither a label nor the prompt."""
    assert refused(StoreError, prompts.delete, "greet", 2) == (
        "Version 2 of prompt 'greet' is labelled blue, staging: move that to another version first"
    )
    prompts.delete("greet", 1)
    prompts.delete("greet", version=3)
    assert [version.version for version in prompts.history("greet")] == [2]
    prompts.unlabel("greet", "blue")
    prompts.unlabel("greet", "staging")
    assert refused(StoreError, prompts.delete, "greet", 2) == (
        "Version 2 of prompt 'greet' is the only one: delete the prompt itself"
    )


@pytest.mark.usefixtures("greet")
def test_the_number_of_a_deleted_version_is_not_given_again() -> None:
    """What was said of version 3 is never read as of another."""
    prompts.delete("greet", 3)
    assert prompts.get("greet").version == 2
    assert prompts.update("greet", "other").version == 4
    assert refused(StoreError, prompts.get, "greet@3") == "Prompt 'greet' has no version 3: its newest is 4"


# What cannot be


def test_bad_arguments_are_refused_before_the_database_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it could not answer: its place is a folder."""
    monkeypatch.setenv("AISTRALE_DATABASE_URL", f"sqlite:///{tmp_path}")
    for call, arguments in (
        (prompts.create, ("a/b", "Hello")),
        (prompts.create, ("a", "")),
        (prompts.create, ("a", "x" * 5_000_000)),
        (prompts.create, ("a", "\0")),
        (prompts.update, ("a@1", "Hello")),
        (prompts.update, ("a", [])),
        (prompts.get, ("",)),
        (prompts.get, ("a", "1")),
        (prompts.render, ("a@b@c", {})),
        (prompts.history, ("a@1",)),
        (prompts.rollback, ("a", 0)),
        (prompts.rollback, ("/", 1)),
        (prompts.label, ("/", "x", 1)),
        (prompts.label, ("a", "latest", 1)),
        (prompts.label, ("a", "x", True)),
        (prompts.unlabel, ("/", "x")),
        (prompts.unlabel, ("a", "latest")),
        (prompts.delete, ("a@1",)),
        (prompts.delete, ("a", -1)),
        (prompts.list, ("3",)),
    ):
        refused(InvalidRequestError, call, *arguments)
    for keywords in ({"options": [1]}, {"labels": "x"}, {"labels": ["latest"]}, {"note": 3}):
        refused(InvalidRequestError, prompts.create, "a", "Hello", **keywords)
        refused(InvalidRequestError, prompts.update, "a", **keywords)
    refused(InvalidRequestError, prompts.update, "a", expected_version=0)
    assert "it is a folder, not a database file" in refused(StoreError, prompts.get, "a")


# Events


def test_every_change_is_an_event_in_its_own_transaction(store: Store) -> None:
    """Named, numbered, and without a word of the prompt."""
    heard: list[Any] = []
    store.events.subscribe(heard.append)
    prompts.create("greet", "SECRET one", labels=["production", "blue"], note="SECRET", options={"x": "SECRET"})
    prompts.update("greet", "SECRET two")
    prompts.update("greet", "SECRET two", labels=["blue"])
    prompts.update("greet", "SECRET two", labels=["blue"])
    prompts.label("greet", "blue", 1)
    prompts.label("greet", "blue", 1)
    prompts.unlabel("greet", "blue")
    prompts.rollback("greet", 1)
    prompts.delete("greet", 2)
    prompts.delete("greet")
    refused(StoreError, prompts.update, "greet", "x")

    assert changes(store) == [
        ("created", 1),
        ("labelled", 1, "production"),
        ("labelled", 1, "blue"),
        ("updated", 2),
        ("labelled", 2, "blue"),
        ("labelled", 1, "blue"),
        ("unlabelled", 1, "blue"),
        ("rolled_back", 3),
        ("labelled", 3, "production"),
        ("deleted", 2),
        ("deleted", None),
    ]
    assert [event.id for event in heard] == [event.id for event in store.events.list()]
    assert {event.data["name"] for event in heard} == {"greet"}
    assert "SECRET" not in repr(store.events.list())


def test_what_fails_changes_nothing(store: Store) -> None:
    """Half an update does not stay: here the label's row is refused after the version was written."""
    prompts.create("greet", "one")
    with store.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE prompt_labels RENAME TO gone")

    refused(StoreError, prompts.update, "greet", "two", labels=["x"])

    with store.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE gone RENAME TO prompt_labels")
    assert [version.version for version in prompts.history("greet")] == [1]
    assert changes(store) == [("created", 1)]


# Writers at once


def test_two_threads_that_write_version_3_write_3_and_4(store: Store) -> None:
    """Neither is lost, nor told of an error: both wait while a third writes."""
    prompts.create("greet", "one")
    prompts.update("greet", "two")
    with ThreadPoolExecutor(2) as pool:
        with store.database.write():
            writing = [pool.submit(prompts.update, "greet", text) for text in ("left", "right")]
        written = [future.result() for future in writing]

    assert sorted(version.version for version in written) == [3, 4]
    assert {version.template for version in prompts.history("greet")} == {"one", "two", "left", "right"}


def test_of_two_threads_that_expect_version_2_one_wins(store: Store) -> None:
    """The other is told which version it came too late for."""
    prompts.create("greet", "one")
    prompts.update("greet", "two")
    start, ended = threading.Barrier(2), []

    def write(text: str) -> None:
        start.wait()
        try:
            ended.append(str(prompts.update("greet", text, expected_version=2).version))
        except StoreError as error:
            ended.append(str(error))

    threads = [threading.Thread(target=write, args=(text,)) for text in ("left", "right")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(ended) == [
        "3",
        "Prompt 'greet' is at version 3, not at 2 as expected: "
        "somebody wrote in between. Look at it, then update again",
    ]


def in_processes(program: str, names: list[str], tmp_path: Path) -> list[str]:
    """What each of several processes prints that run `program` at once, and whose first argument is their name."""

    def run(name: str) -> str:
        done = run_program(program, cwd=tmp_path, arguments=(name,))
        assert done.returncode == 0, done.stderr
        return done.stdout

    with ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(run, names))


def test_processes_that_write_at_once_write_all_they_have(store: Store, tmp_path: Path) -> None:
    """Twenty versions from two processes: each number once, and none left out."""
    prompts.create("greet", "one")
    program = """
        import sys
        from aistrale import prompts

        print(*(prompts.update("greet", f"{sys.argv[1]} {n}").version for n in range(10)))
    """
    outputs = in_processes(program, ["left", "right"], tmp_path)

    assert sorted(int(number) for output in outputs for number in output.split()) == list(range(2, 22))
    assert [version.version for version in prompts.history("greet")] == list(range(21, 0, -1))
    assert len({version.template for version in prompts.history("greet")}) == 21


def test_two_processes_that_write_version_3_write_3_and_4(store: Store, tmp_path: Path) -> None:
    """Ten times, each starting at the same moment: both get a number of their own, and both texts are kept."""
    for name in (rounds := [f"round-{number}" for number in range(10)]):
        prompts.create(name, "one")
        prompts.update(name, "two")
    program = """
        import sys, time
        from pathlib import Path
        from aistrale import prompts

        me, deadline = sys.argv[1], time.monotonic() + 30
        prompts.list()  # the books are open
        for number in range(10):
            Path(f"{number}-{me}").touch()
            while len(list(Path.cwd().glob(f"{number}-*"))) < 2:
                assert time.monotonic() < deadline, "the other is gone"
                time.sleep(0.001)
            print(prompts.update(f"round-{number}", me).version)
    """
    left, right = (output.split() for output in in_processes(program, ["left", "right"], tmp_path))

    assert [sorted(pair) for pair in zip(left, right, strict=True)] == [["3", "4"]] * 10
    for name, left_version, right_version in zip(rounds, left, right, strict=True):
        kept = {str(version.version): version.template for version in prompts.history(name)}
        assert kept == {"1": "one", "2": "two", left_version: "left", right_version: "right"}


def test_of_processes_that_expect_the_same_version_one_wins(store: Store, tmp_path: Path) -> None:
    """Whoever it is."""
    prompts.create("greet", "one")
    prompts.update("greet", "two")
    program = """
        import sys
        from aistrale import StoreError, prompts

        try:
            print(prompts.update("greet", sys.argv[1], expected_version=2).version)
        except StoreError as error:
            print(str(error).partition(":")[0])
    """
    late = "Prompt 'greet' is at version 3, not at 2 as expected\n"
    assert sorted(in_processes(program, ["a", "b", "c"], tmp_path)) == ["3\n", late, late]


def test_of_processes_that_create_the_same_prompt_one_does(database_url: str, tmp_path: Path) -> None:
    """In a database that none of them has been at."""
    program = """
        import sys
        from aistrale import StoreError, prompts

        try:
            print(prompts.create("greet", sys.argv[1]).version)
        except StoreError as error:
            print(str(error).partition(":")[0])
    """
    exists = "There is a prompt 'greet' already, at version 1\n"
    assert sorted(in_processes(program, ["a", "b", "c"], tmp_path)) == ["1\n", exists, exists]


def test_readers_see_a_prompt_whole_while_others_write(store: Store) -> None:
    """Its labels are those of one moment: production is always somewhere."""
    prompts.create("greet", "0", labels=["production"])

    def write() -> None:
        for number in range(1, 21):
            prompts.update("greet", str(number), labels=["production"])

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not writing.done():
            assert "production" in prompts.get("greet").labels
            history = prompts.history("greet")
            assert [version.labels for version in history] == [("production",)] + [()] * (len(history) - 1)
        writing.result()


# The module


def test_rendering_gets_the_prompt_first(store: Store) -> None:
    """Any version of it."""
    prompts.create("greet", "Hello {{name}}", labels=["production"])
    prompts.update("greet", [{"role": "user", "content": "Hi {{name}}"}], labels=["blue"])
    assert prompts.render("greet", {"name": "Ada"}) == "Hello Ada"
    assert prompts.render("greet@2", {"name": "Ada"}) == [Message("user", "Hi Ada")]
    assert prompts.render("greet", {"name": "Ada"}, version=1) == "Hello Ada"
    assert prompts.render("greet", {"name": "Ada"}, label="blue") == [Message("user", "Hi Ada")]
    assert refused(InvalidRequestError, prompts.render, "greet") == (
        "The variables do not fit prompt 'greet', version 1: missing: name; it takes name"
    )


def test_saving_creates_or_updates(store: Store) -> None:
    """Whichever it is: who writes a prompt from elsewhere need not know whether it is there."""
    saved = [prompts.save("greet", text, labels=["a"]) for text in ("Hello", "Hello", "Hi")]
    assert [prompt.version for prompt in saved] == [1, 1, 2]
    assert prompts.get("greet@a") == saved[2]


async def test_async_code_has_the_same_functions(store: Store, tmp_path: Path) -> None:
    """They do their work in a thread."""
    first = await prompts.create_async("greet", "Hello {{name}}", labels=["a"])
    second = await prompts.update_async("greet", "Hi {{name}}")
    assert await prompts.save_async("greet", "Hi {{name}}") == await prompts.get_async("greet") == second
    assert await prompts.history_async("greet") == [second, first]
    assert await prompts.render_async("greet", {"name": "Ada"}, version=1) == "Hello Ada"
    assert (await prompts.label_async("greet", "b", 1)).labels == ("a", "b")
    await prompts.unlabel_async("greet", "b")
    assert (await prompts.rollback_async("greet", 1)).version == 3
    assert [prompt.version for prompt in await prompts.list_async()] == [3]
    assert await prompts.export_async(tmp_path) == [tmp_path / "greet.prompt.md"]
    assert [prompt.version for prompt in await prompts.load_async(tmp_path)] == [3]
    await prompts.delete_async("greet")
    with pytest.raises(StoreError, match="There is no prompt 'greet'"):
        await prompts.get_async("greet")


def test_every_function_has_a_twin_for_async_code() -> None:
    """With the same arguments."""
    ours = {n: f for n, f in vars(prompts).items() if inspect.isfunction(f) and f.__module__ == prompts.__name__}
    blocking = {name for name in ours if not name.startswith("_") and not name.endswith(("_async", "_file"))}
    assert {f"{name}_async" for name in blocking} == {name for name in ours if name.endswith("_async")}
    for name in blocking:
        twin = ours[f"{name}_async"]
        assert inspect.signature(twin) == inspect.signature(ours[name])
        assert (twin.__name__, twin.__doc__) == (f"{name}_async", f"`{name}` for async code.")


def test_importing_the_module_loads_no_database(tmp_path: Path) -> None:
    """Only using it does."""
    program = """
        import sys
        from aistrale import prompts

        print("sqlalchemy" in sys.modules)
    """
    assert printed(program, cwd=tmp_path) == "False\n"


# Files

whole = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
nasty = st.text(st.sampled_from(" \t\n\r\x85\u2028\ufeff\x07\x7f-:#{}[]'\"&*!|>%@`,?~.ab01é😀\U0010ffff"), max_size=40)
lines = st.lists(st.sampled_from(["---", "...", "- a", "a: b", "# a", " a", "a ", "\ta", "", "é"]), max_size=6)
texts = whole | nasty | lines.map("\n".join)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=5,
)
parts = st.fixed_dictionaries({"type": st.just("text"), "text": texts}, optional={"x": values})
chats = st.lists(
    st.fixed_dictionaries({"role": st.just("user"), "content": texts | st.lists(parts, max_size=2)})
    | messages.filter(lambda message: "\\x00" not in repr(message)),
    min_size=1,
    max_size=3,
)
names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,9}", fullmatch=True)
labels = names.filter(lambda label: label != "latest" and not label.isdecimal())
stored = st.builds(
    StoredPrompt,
    name=names,
    version=st.integers(1, 2**31 - 1),
    template=(texts.filter(bool) | chats).map(as_template),
    options=st.dictionaries(texts.filter(lambda name: name != "api_key"), values, max_size=3).map(as_options),
    note=st.none() | texts.filter(bool),
    labels=st.lists(labels, max_size=3, unique=True).map(tuple),
    created=st.just(NEW_YEAR),
)


def told(prompt: StoredPrompt) -> dict[str, Any]:
    """What a file tells of a prompt."""
    kept = {"name": prompt.name, "template": prompt.template, "options": prompt.options, "labels": prompt.labels}
    return {**kept, "note": prompt.note or ""}


@given(stored)
def test_a_file_holds_all_of_a_prompt(prompt: StoredPrompt) -> None:
    """Numbers and texts exactly; its lines may have ends as on Windows above the text, and a mark at the start."""
    data, text = encode_file(prompt), prompt.template if isinstance(prompt.template, str) else ""
    name = f"{prompt.name}.prompt.md"
    assert repr(sorted_deep(decode_file(data, name))) == repr(sorted_deep(told(prompt)))
    assert data.endswith(b"\n---\n" + text.encode())
    front = data[: len(data) - len(text.encode())]
    windows = b"\xef\xbb\xbf" + front.replace(b"\n", b"\r\n") + text.encode()
    assert repr(sorted_deep(decode_file(windows, name))) == repr(sorted_deep(told(prompt)))


def sorted_deep(value: Any) -> Any:
    """The same with dicts in one order, so that their repr tells 1 from 1.0."""
    if isinstance(value, dict):
        return {key: sorted_deep(value[key]) for key in sorted(value)}
    return [sorted_deep(entry) for entry in value] if isinstance(value, list) else value


FILE = """\
---
name: review
version: 2
labels:
- blue
- production
options:
  model: echo/echo
  stop:
  - "\\n"
  temperature: 0
note: |-
  Kinder.
  And shorter.
messages:
- role: system
  content: |
    You review {{language}}.

    # Rules\t
    - be kind
- role: user
  content:
  - type: text
    text: '{{code}}'
---
"""


def test_a_file_reads_well(store: Store, tmp_path: Path) -> None:
    """Each line of a text is a line of the file, and what is not set is not there."""
    prompts.create("review", "x")
    prompts.update(
        "review",
        [
            {"role": "system", "content": "You review {{language}}.\n\n# Rules\t\n- be kind\n"},
            {"role": "user", "content": [{"type": "text", "text": "{{code}}"}]},
        ],
        options={"temperature": 0, "model": "echo/echo", "stop": ["\n"]},
        labels=["production", "blue"],
        note="Kinder.\nAnd shorter.",
    )
    prompts.create("greet", "Hello {{name}}\r\n---\n\n")

    files = prompts.export(tmp_path / "deep" / "prompts")

    assert [file.name for file in files] == ["greet.prompt.md", "review.prompt.md"]
    assert files[0].read_bytes() == b"---\nname: greet\nversion: 1\n---\nHello {{name}}\r\n---\n\n"
    assert files[1].read_text(encoding="utf-8") == FILE
    assert sorted(files[0].parent.iterdir()) == files


def test_a_file_that_says_the_same_is_not_written_again(store: Store, tmp_path: Path) -> None:
    """Its time of change stays, and so do files that are not ours."""
    prompts.create("greet", "Hello")
    folder = tmp_path / "prompts"
    (file,) = prompts.export(folder)
    (folder / "notes.md").write_text("mine")
    before = file.stat().st_mtime_ns, file.stat().st_ino

    assert prompts.export(folder) == [file]
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == before
    prompts.update("greet", "Hi")
    prompts.export(folder)

    assert file.read_bytes().endswith(b"\nHi")
    assert sorted(entry.name for entry in folder.iterdir()) == ["greet.prompt.md", "notes.md"]


@pytest.mark.usefixtures("greet")
def test_what_is_in_production_can_be_exported(tmp_path: Path) -> None:
    """Of the prompts that are."""
    prompts.create("draft", "Draft")
    (file,) = prompts.export(tmp_path, label="staging")
    assert file.read_bytes() == b"---\nname: greet\nversion: 2\nlabels:\n- blue\n- staging\n---\ntwo"


def test_files_make_the_same_prompts_in_another_database(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content and labels, from version 1; where they were deleted, their numbers go on."""
    prompts.create("greet", "Hello {{name}}\r\n", options={"seed": 1}, labels=["production"], note="Warm")
    prompts.create("review", [{"role": "user", "content": "a\n b\n"}])
    prompts.update("review", [{"role": "user", "content": "a\n c\n"}])
    folder = tmp_path / "prompts"
    prompts.export(folder)
    kept = [told(prompt) for prompt in prompts.list()]
    prompts.delete("greet")
    prompts.delete("review")

    again = prompts.load(str(folder))
    assert [told(prompt) for prompt in again] == kept
    assert [(prompt.name, prompt.version) for prompt in again] == [("greet", 2), ("review", 3)]

    monkeypatch.setenv("AISTRALE_DATABASE_URL", f"sqlite:///{tmp_path / 'other.db'}")
    loaded = prompts.load(folder)
    assert [told(prompt) for prompt in loaded] == kept
    assert [(prompt.name, prompt.version) for prompt in loaded] == [("greet", 1), ("review", 1)]
    assert prompts.list() == loaded
    open_store().close()


def test_loading_updates_what_changed_and_nothing_else(store: Store, tmp_path: Path) -> None:
    """What a file leaves out is empty then, and labels it does not name stay where they are."""
    prompts.create("greet", "Hello", options={"seed": 1}, labels=["production"], note="Warm")
    prompts.create("same", "Same", options={"a": 1}, labels=["blue"])
    prompts.export(tmp_path)
    (tmp_path / "greet.prompt.md").write_bytes(b"---\nlabels: [staging]\n---\nHi")
    (tmp_path / "new.prompt.md").write_bytes(b"---\nlabels:\nnote:\n---\nNew\n")
    before = len(store.events.list())

    loaded = prompts.load(tmp_path)

    assert [(prompt.name, prompt.version, prompt.template) for prompt in loaded] == [
        ("greet", 2, "Hi"),
        ("new", 1, "New\n"),
        ("same", 1, "Same"),
    ]
    assert (loaded[0].options, loaded[0].note, loaded[0].labels) == ({}, None, ("staging",))
    assert prompts.get("greet@production").version == 1
    assert changes(store)[before:] == [("updated", 2), ("labelled", 2, "staging"), ("created", 1)]
    assert prompts.load(tmp_path) == loaded


def test_a_file_is_loaded_whole_or_not_at_all(store: Store, tmp_path: Path) -> None:
    """Where one of them is bad, none is loaded."""
    (tmp_path / "a.prompt.md").write_bytes(b"---\n---\nGood")
    (tmp_path / "b.prompt.md").write_bytes(b"---\nnote: 3\n---\nBad")
    assert refused(InvalidRequestError, prompts.load, tmp_path) == (
        f"{tmp_path / 'b.prompt.md'}, line 2: note must be a text, not a value of type int"
    )
    assert prompts.list() == []


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    """A slip of the keyboard is no empty folder."""
    assert prompts.load(tmp_path) == []
    assert refused(InvalidRequestError, prompts.load, tmp_path / "x") == (
        f"There is no folder {str(tmp_path / 'x')!r} to load prompts from"
    )


BEGIN = "it must begin with a line ---, front matter in YAML, and another line ---"
YAML = "its front matter is not what we take as YAML: "
EMPTY = "The template is empty: a prompt is a text or at least one message"


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (b"", 1, BEGIN),
        (b"Hello", 1, BEGIN),
        (b"\n---\n---\nHello", 1, BEGIN),
        (b"---\nname: greet\nHello", 1, BEGIN),
        (b"----\n---\nHello", 1, BEGIN),
        (b"---\nnote: a\n---\n\nHe\xffllo", 5, "it is not in UTF-8"),
        (b"---\nnote: a\n---\n", 4, EMPTY),
        (b"---\nnote: a\r\n---", 3, EMPTY),
        (b"---\n---\na\0b", 3, "There is a NUL character in the template, which not every database can keep"),
        (b"---\n---\n" + b"x" * 5_000_000, 3, "There are 5,000,000 bytes in the template, and the limit is 1,048,576"),
        (b"---\nnote: a\n- b\n---\nHello", 3, YAML + "expected <block end>, but found '-'"),
        (b"---\nnote: a\n<<<<<<< HEAD\n---\nHello", 4, YAML + "could not find expected ':'"),
        (b"---\nnote: 'a\n---\nHello", 3, YAML + "found unexpected end of stream"),
        (b"---\nnote: a\nname: \x07\n---\nHello", 3, "its front matter holds a control character"),
        (b"---\nnote: a\noptions:\n  note: c\nnote: b\n---\nHello", 5, YAML + "the key note is set twice"),
        (b"---\noptions:\n  a: 1\n  a: 2\n---\nHello", 4, YAML + "the key a is set twice"),
        (b"---\nnote: &a b\nname: *a\n---\nHello", 3, YAML + "there is an alias or a tag; write the value out"),
        (b"---\nnote: !!int x\n---\nHello", 2, YAML + "there is an alias or a tag; write the value out"),
        (b"---\nnote: a\noptions: {a: 2026-13-45}\n---\nHello", 3, YAML + "month must be in 1..12"),
        (b"---\n? [a]\n: b\n---\nHello", 2, YAML + "found unhashable key"),
        (b"---\na: b\n...\n---\nHello", 2, "its front matter has the key 'a'; known are name, version, labels, "),
        (b"---\nnote: a\n3: b\n---\nHello", 3, "its front matter has the key '3'; known are name, version, labels, "),
        (b"---\n- a\n---\nHello", 2, "its front matter must be made of keys and values, such as 'note: Shorter'"),
        (b"---\noptions:\n  x: " + b"[" * 5000 + b"\n---\nHello", 2, "its front matter is nested too deep"),
        (b"---\nnote: a\nname: other\n---\nHello", 3, "its name is 'other', but the file is called 'greet'"),
        (b"---\nnote: a\nname: a/b\n---\nHello", 3, "'a/b' is no name for a prompt: names are 1 to 200 of the "),
        (b"---\nnote: a\nversion: new\n---\nHello", 3, "A version is a whole number from 1 on, not 'new'"),
        (b"---\nnote: a\nlabels: blue\n---\nHello", 3, "labels must be a list, not a value of type str"),
        (b"---\nnote: a\nlabels: [latest]\n---\nHello", 3, "The label 'latest' is always on the newest version and "),
        (b"---\nnote: a\noptions: x\n---\nHello", 3, "options must be a dict of options of run, not a value of "),
        (b"---\noptions: {a: 2026-01-01}\n---\nHello", 2, "There is something in the options that is not JSON: "),
        (b"---\noptions: {api_key: x}\n---\nHello", 2, "A prompt is kept in plain text: leave api_key out of its "),
        (b"---\nmessages: Hello\n---\n", 2, "messages must be a list, not a value of type str"),
        (b"---\nmessages: []\n---\n", 2, EMPTY),
        (b"---\nnote: a\nmessages: [{role: sytem}]\n---\n", 3, "Unknown role 'sytem' in a message; use one of "),
        (
            b"---\nmessages: [{role: user, content: a}]\n---\n\nHello",
            4,
            "it has messages, and a text below them: keep one of the two",
        ),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_bad_file_is_refused_with_its_line(data: bytes, line: int, message: str) -> None:
    """Whatever is wrong with it."""
    said = refused(InvalidRequestError, decode_file, data, "prompts/greet.prompt.md")
    assert said.startswith(f"prompts/greet.prompt.md, line {line}: {message}")


def test_a_file_whose_name_is_no_prompts_is_refused() -> None:
    """Unlike a file that does not name its prompt, which has the file's name."""
    assert decode_file(b"---\n---\nHello", "x/greet.prompt.md")["name"] == "greet"
    assert refused(InvalidRequestError, decode_file, b"---\n---\nHello", "x/a b.prompt.md").startswith(
        "x/a b.prompt.md, line 1: 'a b' is no name for a prompt: names are "
    )


marks = [
    "'",
    '"',
    "-",
    "&",
    "*",
    "!",
    "?",
    ":",
    "[",
    "{",
    ",",
    "%",
    "|",
    "~",
    "=",
    "<<",
    "...",
    "&a",
    "*a",
    "!!x",
    "|2-",
]
keys = ["---\n", "name: greet\n", "labels:\n- a\n", "options: {a: 1}\n", "messages:\n- role: user\n  content: a\n"]
pieces = st.sampled_from(
    [*marks, *keys, "1e5", "0b_", "2026-99-99", "note: |\n  a\n", "x", " ", "\n", "\r\n", "\t", "\0", "\x85", "\ufeff"]
)


@given(st.binary(max_size=40) | st.lists(pieces, max_size=12).map(lambda found: ("---\n" + "".join(found)).encode()))
def test_a_file_is_read_or_refused_and_nothing_else(data: bytes) -> None:
    """Never another error, and what is read can be written."""
    try:
        read = decode_file(data, "greet.prompt.md")
    except InvalidRequestError as error:
        said = str(error)
        assert re.match(r"greet\.prompt\.md, line [1-9]\d*: .", said)
    else:
        template = read["template"]
        assert as_template(template) == template
        prompt = StoredPrompt("greet", 1, template, read["options"], read["note"] or None, read["labels"], NEW_YEAR)
        assert decode_file(encode_file(prompt), "greet.prompt.md") == read


# The guide


def test_the_guides_snippets_run_in_order(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And print what a reader expects."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for snippet in re.findall(r"^```python\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE):
        exec(compile(snippet, "prompts.md", "exec"), namespace)

    assert capsys.readouterr().out == snapshot("""\
Say hello to Ada.
Greet Ada in Welsh.
[(2, ()), (1, ('production',))]
3
Say hello to {{name}}.
Prompt 'greet' is at version 3, not at 1 as expected: somebody wrote in between. Look at it, then update again
Answer like {"tags": ["a"]}, at most 3. Do not fill in {{this}}.

A text with {{braces}}
('language', 'code')
The variables do not fit prompt 'review', version 1: missing: language; unknown: langauge; it takes language, code
---
name: review
version: 1
messages:
- role: system
  content: |-
    You review {{language}}.
    Be kind.
- role: user
  content: '{{code}}'
---

['extract@1', 'greet@3', 'review@1']
""")
