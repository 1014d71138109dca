"""The master key: where it comes from, where it is kept, and what happens if it is another one."""

import inspect
import itertools
import logging
import os
import re
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keyring
import pytest
from books import postgres_schema
from keyring.backend import KeyringBackend
from keyring.backends import fail, null
from keyring.errors import KeyringLocked
from programs import printed
from sqlalchemy import delete, select, text, update

import aistrale
from aistrale import tokens
from aistrale.keys import Secret, Token
from aistrale.store.master_key import replacing
from aistrale.store.schema import secret_salts
from aistrale.store.schema import tokens as table
from aistrale.store.store import Store, open_store

KEY = "sk-proj-Xq2nC7tYh0aPz3LrW4x9"
OTHER = "sk-proj-Bm8eKd5fJu1sVg6oQ2y7"
VARIABLE = "AISTRALE_SECRET_KEY"

WHAT_TO_DO = (
    "Nothing was changed. Set AISTRALE_SECRET_KEY to the master key they were added with, or unlock the keyring or "
    "restore the file that holds it. If it is lost, remove the tokens and add them again"
)


class Drawer(KeyringBackend):
    """A keyring in memory. It is never chosen by itself: only `fail` has as little priority."""

    priority = -1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[tuple[str, str], str] = {}
        self.is_locked = False
        self.is_full = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.is_locked:
            raise KeyringLocked("locked")
        return self.held.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.is_locked or self.is_full:
            raise OSError(f"no room for {password}")
        self.held[service, username] = password


@pytest.fixture(autouse=True)
def _no_keyring() -> Iterator[None]:
    """The machine's own is left alone."""
    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())
    yield
    keyring.set_keyring(before)


@pytest.fixture
def drawer(_no_keyring: None) -> Drawer:
    """A keyring that works."""
    drawer = Drawer()
    keyring.set_keyring(drawer)
    return drawer


@pytest.fixture
def home() -> Path:
    return Path(os.environ["AISTRALE_HOME"])


@pytest.fixture
def key_file(home: Path) -> Path:
    return home / "secret.key"


def kept(store: Store) -> list[tuple[Any, ...]]:
    """All of what is encrypted, and with what."""
    with store.database.read() as connection:
        return [tuple(row) for known in (table, secret_salts) for row in connection.execute(select(known))]


def refused(store: Store, why: str) -> str:
    return f"^{re.escape(f'The tokens in {store.database.name} were encrypted with {why}. {WHAT_TO_DO}')}$"


# --- where it comes from


@pytest.mark.usefixtures("store")
def test_the_environment_counts_most(monkeypatch: pytest.MonkeyPatch, drawer: Drawer, key_file: Path) -> None:
    """Then neither the keyring nor a file is touched."""
    monkeypatch.setenv(VARIABLE, "  correct horse \n")
    assert tokens.master_key_source() == "environment AISTRALE_SECRET_KEY"
    tokens.add("openai", KEY)
    assert tokens.get("openai").reveal() == KEY
    assert drawer.held == {}
    assert not key_file.exists()

    monkeypatch.setenv(VARIABLE, "correct horse")
    assert tokens.get("openai").reveal() == KEY


@pytest.mark.usefixtures("store")
def test_a_keyring_counts_more_than_a_file(drawer: Drawer, home: Path, key_file: Path) -> None:
    """It gets an entry for this AISTRALE_HOME, and nothing is left on the disk."""
    assert tokens.master_key_source() == "keyring test vault Drawer"
    assert drawer.held == {}

    tokens.add("openai", KEY)
    ((entry, held),) = drawer.held.items()
    assert entry == ("aistrale", str(home))
    assert len(held) == 43
    assert not key_file.exists()
    assert tokens.master_key_source() == "keyring test vault Drawer"
    assert tokens.get("openai").reveal() == KEY


@pytest.mark.usefixtures("store")
def test_without_a_keyring_a_file_is_made_and_that_is_said_once(
    key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where it lies, what that means, and how to do better."""
    assert tokens.master_key_source() == f"file {key_file}"
    assert not key_file.exists()
    assert tokens.list() == []
    assert not key_file.exists()

    tokens.add("openai", KEY)
    tokens.add("openai", KEY, "work")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        f"The master key of your tokens is now in {key_file}. Whoever can read that file and the database can read "
        "the tokens. To do better, set AISTRALE_SECRET_KEY, or have a keyring (pip install keyring) before the first "
        "token is added"
    ]
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert len(key_file.read_text()) == 43
    assert key_file.read_text() not in caplog.text
    assert os.listdir(key_file.parent) == ["secret.key"]
    assert tokens.get("openai").reveal() == KEY


def test_a_home_that_is_not_there_is_made_for_its_owner_alone(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even below folders that are not there either."""
    monkeypatch.setenv("AISTRALE_HOME", str(tmp_path / "new" / "home"))
    store.tokens.keys()
    assert not (tmp_path / "new").exists()

    tokens.add("openai", KEY)
    assert stat.S_IMODE((tmp_path / "new" / "home").stat().st_mode) == 0o700
    assert (tmp_path / "new" / "home" / "secret.key").is_file()


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("backend", [fail.Keyring, null.Keyring])
def test_backends_that_keep_nothing_do_not_count(backend: type[KeyringBackend], key_file: Path) -> None:
    """`fail` and `null` are what a keyring without a keyring is."""
    keyring.set_keyring(backend())
    assert tokens.master_key_source() == f"file {key_file}"
    tokens.add("openai", KEY)
    assert key_file.exists()


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("fault", ["is_locked", "is_full", "forgets"])
def test_a_keyring_that_fails_is_passed_over(
    drawer: Drawer, key_file: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises, and also if it only pretends to keep things."""
    caplog.set_level(logging.DEBUG, "aistrale")
    if fault == "forgets":
        drawer.set_password = lambda *_: None  # type: ignore[method-assign]
    else:
        setattr(drawer, fault, True)

    tokens.add("openai", KEY)
    assert tokens.get("openai").reveal() == KEY
    assert tokens.master_key_source() == f"file {key_file}"
    assert drawer.held == {}
    assert key_file.read_text() not in caplog.text


def test_one_that_is_not_installed_is_passed_over(tmp_path: Path) -> None:
    """keyring is optional; and so is an orderly configuration of it."""
    program = """
        import sys

        sys.modules["keyring"] = None
        from aistrale import tokens

        print(tokens.master_key_source())
    """
    assert printed(program, cwd=tmp_path, env={"AISTRALE_HOME": "/nowhere"}) == "file /nowhere/secret.key\n"
    broken = {"AISTRALE_HOME": "/nowhere", "PYTHON_KEYRING_BACKEND": "no.such.Backend"}
    program = "from aistrale import tokens; print(tokens.master_key_source())"
    assert printed(program, cwd=tmp_path, env=broken) == "file /nowhere/secret.key\n"


@pytest.mark.usefixtures("store")
def test_a_file_that_is_there_stays_in_use(drawer: Drawer, key_file: Path) -> None:
    """A keyring that comes later is not given another master key."""
    key_file.write_text("from before\n")
    key_file.chmod(0o600)
    assert tokens.master_key_source() == f"file {key_file}"
    tokens.add("openai", KEY)
    assert drawer.held == {}


@pytest.mark.usefixtures("store")
def test_a_file_that_others_may_read_is_warned_of(key_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once, with what to do; it is used all the same."""
    key_file.write_text("from before")
    key_file.chmod(0o640)
    tokens.add("openai", KEY)
    assert tokens.get("openai").reveal() == KEY
    assert [record.getMessage() for record in caplog.records] == [
        f"Others than its owner may open {key_file} (mode 640), which holds your master key: chmod 600 it"
    ]


def test_a_file_that_is_of_no_use_is_said(store: Store, key_file: Path) -> None:
    """Empty, a folder, or in a place where none can be."""
    key_file.write_text("\n")
    empty = f"The master key's file {key_file} is empty: restore it, or delete it and set AISTRALE_SECRET_KEY"
    with pytest.raises(aistrale.StoreError, match=f"^{re.escape(empty)}$"):
        tokens.add("openai", KEY)

    key_file.unlink()
    key_file.mkdir()
    advice = "Set AISTRALE_SECRET_KEY, or let AISTRALE_HOME name a folder this user may write to"
    folder = f"The master key cannot be read in the file {key_file}: Is a directory. {advice}"
    with pytest.raises(aistrale.StoreError, match=f"^{re.escape(folder)}$"):
        tokens.add("openai", KEY)
    assert kept(store) == []


def test_a_home_that_can_be_none_is_said(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is added."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AISTRALE_HOME", str(tmp_path / "file"))
    with pytest.raises(aistrale.StoreError) as caught:
        tokens.add("openai", KEY)
    assert caught.value.message == (
        f"The master key cannot be read in the file {tmp_path / 'file' / 'secret.key'}: Not a directory. "
        "Set AISTRALE_SECRET_KEY, or let AISTRALE_HOME name a folder this user may write to"
    )
    assert kept(store) == []


def test_processes_that_start_at_once_make_one_file(tmp_path: Path) -> None:
    """Fifty times: whoever loses the race reads the winner's, whole, and leaves nothing behind."""
    program = """
        import logging, os, time
        from pathlib import Path

        from aistrale.keys import Secret
        from aistrale.store.master_key import KeyFile

        logging.disable()
        folder = Path(os.environ["FOLDER"])
        (folder / f"ready-{os.getpid()}").touch()
        while len(list(folder.glob("ready-*"))) < 6:
            time.sleep(0.001)
        for number in range(50):
            path = folder / "keys" / f"{number}.key"
            own = f"{os.getpid()}-" * 500
            print(KeyFile(path).create(Secret(own)).reveal())
            assert path.stat().st_mode & 0o777 == 0o600
    """
    env = {"FOLDER": str(tmp_path)}
    with ThreadPoolExecutor(6) as pool:
        seen = list(pool.map(lambda _: printed(program, cwd=tmp_path, env=env), range(6)))

    assert len(set(seen)) == 1
    assert all(re.fullmatch(r"(\d+-)\1{499}", line) for line in seen[0].splitlines())
    assert sorted(os.listdir(tmp_path / "keys")) == sorted(f"{number}.key" for number in range(50))


def test_processes_that_start_at_once_share_a_master_key(store: Store, tmp_path: Path, key_file: Path) -> None:
    """The first tokens of all of them can be read afterwards."""
    assert tokens.list() == []
    program = """
        import os, sys, time
        from pathlib import Path

        from aistrale import tokens

        folder = Path(os.environ["FOLDER"])
        (folder / f"ready-{os.getpid()}").touch()
        while len(list(folder.glob("ready-*"))) < 4:
            time.sleep(0.001)
        tokens.add("openai", os.environ["TOKEN"], f"p{os.getpid()}")
    """
    env = {
        "FOLDER": str(tmp_path),
        "TOKEN": KEY,
        "AISTRALE_DATABASE_URL": store.database.url,
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
    }
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: printed(program, cwd=tmp_path, env=env), range(4)))

    assert [tokens.get("openai", token.label).reveal() for token in tokens.list()] == [KEY] * 4
    assert os.listdir(key_file.parent) == ["secret.key"]


def test_a_child_after_a_fork_reads_them_too(tmp_path: Path, database_url: str) -> None:
    """With the cipher that its parent derived."""
    program = """
        import os
        from aistrale import tokens

        tokens.add("openai", os.environ["TOKEN"])
        child = os.fork()
        if child == 0:
            print(tokens.get("openai").masked, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
    """
    env = {"TOKEN": KEY, VARIABLE: "correct horse", "AISTRALE_DATABASE_URL": database_url}
    assert printed(program, cwd=tmp_path, env=env) == "sk-…W4x9\n"


def key_of(store: Store, provider: str) -> Token:
    """As a call looks its key up: what is wrong with one provider's is raised for that one."""
    found = store.tokens.keys()[provider]
    if isinstance(found, aistrale.StoreError):
        raise found
    return found


# --- another master key


@pytest.mark.parametrize("held", ["environment", "keyring", "file"])
def test_another_master_key_is_refused(
    store: Store, drawer: Drawer, home: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    """For reading and for writing; the error says where it comes from and what to do, and nothing has changed."""
    monkeypatch.setenv(VARIABLE, "the right one")
    tokens.add("openai", KEY)
    before = kept(store)
    monkeypatch.setenv(VARIABLE, "another" if held == "environment" else "")
    if held == "keyring":
        drawer.held["aistrale", str(home)] = "another"
    if held == "file":
        key_file.write_text("another")
        key_file.chmod(0o600)
    source = {
        "environment": "environment AISTRALE_SECRET_KEY",
        "keyring": "keyring test vault Drawer",
        "file": f"file {key_file}",
    }[held]

    for refuse in (
        lambda: tokens.get("openai"),
        lambda: tokens.add("openai", OTHER, "work"),
        lambda: tokens.add("google", OTHER),
        lambda: tokens.rotate("openai", OTHER),
        lambda: tokens.rotate_master_key("a third"),
        lambda: key_of(store, "openai"),
    ):
        with pytest.raises(
            aistrale.StoreError, match=refused(store, f"another master key than the one from {source}")
        ) as caught:
            refuse()
        assert not any(plain in caught.value.message for plain in (KEY, OTHER, "another one", "the right one"))
    assert kept(store) == before
    assert tokens.master_key_source() == source
    assert [token.masked for token in tokens.list()] == ["sk-…W4x9"]

    monkeypatch.setenv(VARIABLE, "the right one")
    assert tokens.get("openai").reveal() == KEY


NEED_THE_MASTER_KEY: dict[str, tuple[str, ...]] = {
    "add": ("google", OTHER),
    "get": ("openai",),
    "rotate": ("openai", OTHER),
    "rotate_master_key": ("a third",),
}
NEED_NONE: dict[str, tuple[str, ...]] = {
    "list": (),
    "master_key_source": (),
    "set_default": ("openai", "work"),
    "remove": ("openai", "work"),
}


async def asked(name: str, arguments: tuple[str, ...], way: str) -> Any:
    """What a function of `tokens` gives, or its twin for async code."""
    if way == "sync":
        return getattr(tokens, name)(*arguments)
    return await getattr(tokens, f"{name}_async")(*arguments)


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_every_function_works_or_says_what_to_do_without_the_right_master_key(
    store: Store, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """What has to read or write a key says so and changes nothing; with the right one all is there."""
    public = {name for name, _ in inspect.getmembers(tokens, inspect.isfunction) if not name.startswith("_")}
    own = {name for name in public if getattr(tokens, name).__module__ == tokens.__name__}
    assert {name for name in own if not name.endswith("_async")} == {*NEED_THE_MASTER_KEY, *NEED_NONE}

    monkeypatch.setenv(VARIABLE, "the right one")
    tokens.add("openai", KEY)
    tokens.add("openai", OTHER, "work")
    before = kept(store)
    monkeypatch.setenv(VARIABLE, "another")
    for name, arguments in NEED_THE_MASTER_KEY.items():
        with pytest.raises(aistrale.StoreError, match="another master key than the one from environment AIS") as caught:
            await asked(name, arguments, way)
        assert caught.value.message.endswith(WHAT_TO_DO)
    assert kept(store) == before

    assert [(token.label, token.is_default) for token in await asked("list", (), way)] == [
        ("default", True),
        ("work", False),
    ]
    assert await asked("master_key_source", (), way) == "environment AISTRALE_SECRET_KEY"
    await asked("set_default", NEED_NONE["set_default"], way)
    monkeypatch.setenv(VARIABLE, "the right one")
    assert [tokens.get("openai", label).reveal() for label in ("default", "work")] == [KEY, OTHER]
    assert tokens.get("openai").label == "work"

    monkeypatch.setenv(VARIABLE, "another")
    await asked("remove", NEED_NONE["remove"], way)
    monkeypatch.setenv(VARIABLE, "the right one")
    assert [token.label for token in tokens.list()] == ["default"]
    assert tokens.get("openai").reveal() == KEY


def test_a_master_key_that_is_gone_is_not_replaced(store: Store, key_file: Path, drawer: Drawer) -> None:
    """A new one could read none of the tokens."""
    keyring.set_keyring(fail.Keyring())
    tokens.add("openai", KEY)
    away = key_file.rename(key_file.with_name("away"))
    before = kept(store)

    keyring.set_keyring(drawer)
    why = (
        "a master key, and here is none (looked in: environment AISTRALE_SECRET_KEY, keyring test vault Drawer, "
        f"file {key_file})"
    )
    for refuse in (lambda: tokens.get("openai"), lambda: tokens.add("google", OTHER)):
        with pytest.raises(aistrale.StoreError, match=refused(store, why)):
            refuse()
    assert kept(store) == before
    assert drawer.held == {}
    assert not key_file.exists()

    away.rename(key_file)
    assert tokens.get("openai").reveal() == KEY


def test_without_tokens_any_master_key_will_do(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the error for a lost one advises: remove the tokens, which needs no master key, and add them again."""
    monkeypatch.setenv(VARIABLE, "lost")
    tokens.add("openai", KEY)
    tokens.add("google", KEY)
    monkeypatch.setenv(VARIABLE, "new")
    tokens.remove("openai")
    with pytest.raises(aistrale.StoreError):
        tokens.add("openai", OTHER)
    tokens.remove("google")
    assert store.tokens.keys() == {}
    tokens.add("openai", OTHER)
    assert tokens.get("openai").reveal() == OTHER


# --- rows that are not what they were


def test_a_row_with_anothers_key_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can write the database cannot have one provider called with another's key."""
    monkeypatch.setenv(VARIABLE, "correct horse")
    tokens.add("openai", KEY)
    tokens.add("openai", KEY, "work")
    tokens.add("google", OTHER)
    rows = {(row.provider, row.label): row.secret for row in _rows(store)}
    with store.database.read() as connection:
        verifier = connection.execute(select(secret_salts.c.verifier)).scalar_one()

    for put in (rows["google", "default"], rows["openai", "work"], verifier, "", "é", rows["openai", "default"][:-2]):
        with store.database.write() as connection:
            default = (table.c.provider == "openai") & (table.c.label == "default")
            connection.execute(update(table).where(default).values(secret=put))
        for refuse in (
            lambda: tokens.get("openai"),
            lambda: key_of(store, "openai"),
            lambda: tokens.rotate_master_key("x"),
        ):
            with pytest.raises(aistrale.StoreError) as caught:
                refuse()
            assert caught.value.message == (
                "The token 'default' of openai is damaged, or another was put in its place. Nothing was changed: "
                "restore a backup, or give its key anew with aistrale.tokens.rotate('openai', ..., 'default')"
            )
    assert tokens.get("google").reveal() == OTHER

    tokens.rotate("openai", KEY)
    assert tokens.get("openai").reveal() == KEY


def _rows(store: Store) -> list[Any]:
    with store.database.read() as connection:
        return list(connection.execute(select(table)))


def test_a_salt_that_is_gone_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokens can be read no more, but removed."""
    monkeypatch.setenv(VARIABLE, "correct horse")
    tokens.add("openai", KEY)
    with store.database.write() as connection:
        connection.execute(delete(secret_salts))
    with pytest.raises(aistrale.StoreError) as caught:
        tokens.get("openai")
    assert caught.value.message == (
        f"The salt of the tokens is gone from {store.database.name}. "
        "Restore a backup of it, or remove the tokens and add them again"
    )
    tokens.remove("openai")
    tokens.add("openai", OTHER)
    assert tokens.get("openai").reveal() == OTHER


# --- changing it


def test_changing_the_master_key_changes_every_row(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's is its owner's to set, which the answer says."""
    monkeypatch.setenv(VARIABLE, "old")
    tokens.add("openai", KEY)
    tokens.add("openai", OTHER, "work")
    before = kept(store)

    assert tokens.rotate_master_key(" new ") == (
        "Set AISTRALE_SECRET_KEY to the new master key wherever these tokens are used: none can be read before"
    )
    assert not {row[2] for row in before} & {row[2] for row in kept(store)}
    with pytest.raises(aistrale.StoreError, match="another master key than the one from environment"):
        tokens.get("openai")
    monkeypatch.setenv(VARIABLE, "new")
    assert [tokens.get("openai", label).reveal() for label in ("default", "work")] == [KEY, OTHER]
    assert [(token.is_default, token.rotated) for token in tokens.list()] == [(True, None), (False, None)]


@pytest.mark.usefixtures("store")
def test_a_file_gets_the_new_one_and_the_former_stays_beside_it(key_file: Path) -> None:
    """For backups, and for other databases; both for their owner alone."""
    tokens.add("openai", KEY)
    former = key_file.read_text()
    beside = key_file.with_name("secret.key.old")

    for new, old in itertools.pairwise((former, "new", "newer\r\nstill")):
        said = tokens.rotate_master_key(old)
        assert said == f"The new master key is in the file {key_file}, the former one in {beside}"
        assert (key_file.read_bytes(), beside.read_bytes()) == (old.encode(), new.encode())
        assert [stat.S_IMODE(path.stat().st_mode) for path in (key_file, beside)] == [0o600, 0o600]
        assert tokens.get("openai").reveal() == KEY
    assert sorted(os.listdir(key_file.parent)) == ["secret.key", "secret.key.old"]


@pytest.mark.usefixtures("store")
def test_a_keyring_gets_the_new_one_too(drawer: Drawer, home: Path) -> None:
    """With the former one beside it."""
    tokens.add("openai", KEY)
    former = drawer.held["aistrale", str(home)]

    assert tokens.rotate_master_key("new") == (
        f"The new master key is in the keyring test vault Drawer as {home}, the former one as {home}.old"
    )
    assert drawer.held == {("aistrale", str(home)): "new", ("aistrale", f"{home}.old"): former}
    assert tokens.get("openai").reveal() == KEY


@pytest.mark.usefixtures("store")
def test_one_may_be_given_before_there_are_tokens(key_file: Path, drawer: Drawer, home: Path) -> None:
    """It is kept where one would have been made."""
    drawer.is_full = True
    assert tokens.rotate_master_key("first") == f"The new master key is in the file {key_file}"
    assert key_file.read_text() == "first"
    tokens.add("openai", KEY)
    assert tokens.get("openai").reveal() == KEY

    key_file.unlink()
    tokens.remove("openai")
    drawer.is_full = False
    assert tokens.rotate_master_key("second") == "The new master key is in the keyring test vault Drawer"
    assert drawer.held == {("aistrale", str(home)): "second"}


def test_one_that_cannot_be_kept_changes_nothing(store: Store, drawer: Drawer) -> None:
    """The tokens stay encrypted with the former one."""
    tokens.add("openai", KEY)
    before = kept(store)
    drawer.is_full = True
    with pytest.raises(aistrale.StoreError) as caught:
        tokens.rotate_master_key("new")
    assert caught.value.message == (
        "The keyring test vault Drawer does not take the new master key: look whether it is locked, and try again"
    )
    assert kept(store) == before
    assert tokens.get("openai").reveal() == KEY


def test_a_failure_afterwards_puts_the_former_one_back(key_file: Path) -> None:
    """Whatever it is. The one before it, which a backup may need, is still beside it."""
    beside = key_file.with_name("secret.key.old")
    for path, secret in ((key_file, "former"), (beside, "earlier")):
        path.write_text(secret)
        path.chmod(0o600)
    with pytest.raises(KeyboardInterrupt), replacing() as replace:  # noqa: PT012
        replace(Secret("new"))
        assert (key_file.read_text(), beside.read_text()) == ("new", "former")
        raise KeyboardInterrupt
    assert (key_file.read_text(), beside.read_text()) == ("former", "earlier")


def test_a_commit_that_fails_does_so_too(monkeypatch: pytest.MonkeyPatch, key_file: Path) -> None:
    """The last moment at which it can go wrong. PostgreSQL can be told to."""
    with postgres_schema() as url:
        monkeypatch.setenv("AISTRALE_DATABASE_URL", url)
        store = open_store()
        tokens.add("openai", KEY)
        former = key_file.read_text()
        with store.database.write() as connection:
            for statement in FAILS_AT_COMMIT:
                connection.execute(text(statement))
        with pytest.raises(aistrale.StoreError, match="not at commit"):
            tokens.rotate_master_key("new")
        assert key_file.read_text() == former
        assert tokens.get("openai").reveal() == KEY
        store.close()


FAILS_AT_COMMIT = (
    "CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN RAISE 'not at commit'; END $$ LANGUAGE plpgsql",
    "CREATE CONSTRAINT TRIGGER refused AFTER UPDATE ON tokens DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW EXECUTE FUNCTION refuse()",
)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("empty", ["", " \n"])
def test_an_empty_one_is_refused(empty: str) -> None:
    """Before anything is looked at."""
    with pytest.raises(aistrale.InvalidRequestError, match=r"^The new master key is empty$"):
        tokens.rotate_master_key(empty)
