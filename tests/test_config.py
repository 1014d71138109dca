"""Where settings come from, which source wins, and what a project's file may not say."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from programs import printed
from scripted import Provider, answer

import aistrale
from aistrale.config import SETTINGS, Config, home


@pytest.fixture
def user_file() -> Path:
    """The user's own file, in the folder that AISTRALE_HOME names."""
    return home() / "config.toml"


@pytest.fixture
def project_file(in_folder: Path) -> Path:
    """The project's file, in the working directory."""
    return in_folder / "aistrale.toml"


# Precedence


def test_an_argument_beats_the_environment_beats_the_project_beats_the_user_beats_the_default(
    project_file: Path, user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each source is put below those before it, and `explain` names the one that won."""
    assert (Config()["max_retries"], Config().explain("max_retries").origin) == (2, "default")

    user_file.write_text("max_retries = 3")
    assert (Config()["max_retries"], Config().explain("max_retries").origin) == (3, str(user_file))

    project_file.write_text("max_retries = 4")
    assert (Config()["max_retries"], Config().explain("max_retries").origin) == (4, str(project_file))

    monkeypatch.setenv("AISTRALE_MAX_RETRIES", "5")
    assert (Config()["max_retries"], Config().explain("max_retries").origin) == (
        5,
        "environment AISTRALE_MAX_RETRIES",
    )

    config = Config({"max_retries": 6, "model": None})
    assert (config["max_retries"], config.explain("max_retries").origin) == (6, "argument")
    assert config.explain("model").origin == "default"


def test_a_source_wins_setting_by_setting(project_file: Path, user_file: Path) -> None:
    """A file that says nothing of a setting leaves it to the next."""
    user_file.write_text('model = "echo"\ntimeout = 30')
    project_file.write_text("timeout = 5")

    assert (Config()["model"], Config()["timeout"]) == ("echo", 5)


def test_the_nearest_project_file_is_taken(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`aistrale.toml` or a `[tool.aistrale]` table, in the working directory or above it; only one."""
    outer, inner, innermost = in_folder / "outer", in_folder / "outer/inner", in_folder / "outer/inner/innermost"
    innermost.mkdir(parents=True)
    (outer / "aistrale.toml").write_text('model = "echo"\nmax_retries = 7')
    monkeypatch.chdir(innermost)
    assert Config()["model"] == "echo"

    (inner / "pyproject.toml").write_text('[project]\nname = "other"')
    assert Config()["model"] == "echo"

    (inner / "pyproject.toml").write_text('[tool.aistrale]\nmodel = "nearer"')
    assert (Config()["model"], Config().explain("model").origin) == ("nearer", str(inner / "pyproject.toml"))
    assert Config()["max_retries"] == 2

    (inner / "aistrale.toml").write_text('model = "its own file"')
    assert Config()["model"] == "its own file"


@pytest.mark.parametrize(
    "table",
    ['[tool.aistrale]\nmodel = "echo"', '[tool]\naistrale = { model = "echo" }', 'tool.aistrale.model = "echo"'],
)
def test_a_pyproject_may_spell_its_table_in_any_way_toml_has(in_folder: Path, table: str) -> None:
    """They are one and the same table."""
    (in_folder / "pyproject.toml").write_text(table)
    assert Config()["model"] == "echo"


def test_a_pyproject_that_is_none_of_our_business_may_be_broken(in_folder: Path) -> None:
    """Only one that names us is read."""
    (in_folder / "pyproject.toml").write_text("not = = toml")
    assert Config()["model"] is None


def test_there_may_be_no_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there is no project either."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert Config()["max_retries"] == 2


def test_aistrale_home_says_where_the_users_files_are(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """By default `~/.aistrale`."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "config.toml").write_text('model = "elsewhere"')
    monkeypatch.setenv("AISTRALE_HOME", str(folder))
    assert Config()["model"] == "elsewhere"

    monkeypatch.setenv("HOME", str(folder))
    (folder / ".aistrale").mkdir()
    (folder / ".aistrale/config.toml").write_text('model = "at home"')
    for value in ("", "~/.aistrale"):
        monkeypatch.setenv("AISTRALE_HOME", value)
        assert Config()["model"] == "at home"


# What settings do


def test_settings_are_what_calls_use(project_file: Path) -> None:
    """From a file to the request."""
    project_file.write_text('provider = "echo"\nmodel = "echo-2"')
    assert aistrale.run("Hello").model == "echo-2"
    assert aistrale.run("Hello", model="echo-3").model == "echo-3"


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("AISTRALE_MODEL", " openai/gpt-4o ", "model", "openai/gpt-4o"),
        ("AISTRALE_PROVIDER", "echo", "provider", "echo"),
        ("AISTRALE_TIMEOUT", "2.5", "timeout", 2.5),
        ("AISTRALE_MAX_RETRIES", "0", "max_retries", 0),
        ("AISTRALE_TELEMETRY", "False", "telemetry", "off"),
        ("AISTRALE_TELEMETRY", "store", "telemetry", "store"),
        ("AISTRALE_API_URL", "https://llm.example", "api_url", "https://llm.example"),
        ("AISTRALE_API_KEY", "key", "api_key", "key"),
        ("AISTRALE_MODEL", " ", "model", None),
    ],
)
def test_environment_variables_are_read_as_their_settings_type(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, text: str, name: str, value: Any
) -> None:
    """Blanks around them do not count, and an empty one is none."""
    monkeypatch.setenv(variable, text)
    assert Config()[name] == value


def test_a_files_settings_reach_the_wire(user_file: Path, in_folder: Path) -> None:
    """Retries and fallbacks, which have no other way to be seen."""
    user_file.write_text('max_retries = 0\nfallbacks = ["openai/gpt-5-mini"]')
    provider = Provider(httpx.ConnectError("refused"), answer())

    completion = provider.client(retry=None).run("Hello")

    assert [asked["model"] for asked in provider.asked] == ["gpt-4o", "gpt-5-mini"]
    assert len(completion.attempts) == 2


# What is not for projects to say


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS.values() if not setting.project])
@pytest.mark.parametrize("file", ["aistrale.toml", "pyproject.toml"])
def test_a_project_file_may_set_neither_keys_nor_addresses_nor_what_is_kept(
    in_folder: Path, user_file: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str
) -> None:
    """It comes with the code one happens to stand in; the user's own file may."""
    monkeypatch.delenv("AISTRALE_TELEMETRY")
    values = {"telemetry": '"off"', "telemetry_retention": "0.001", "capture_content": "true"}
    value = values.get(name, '"https://thief.example"')
    table = "[tool.aistrale]\n" if file == "pyproject.toml" else ""
    user_file.write_text(f"{name} = {value}")
    assert Config().explain(name).origin == str(user_file)

    (in_folder / file).write_text(f"{table}{name} = {value}")
    with pytest.raises(aistrale.ConfigurationError) as caught:
        Config()
    assert repr(name) in caught.value.message
    assert str(in_folder / file) in caught.value.message
    assert "thief" not in caught.value.message


def test_what_projects_may_not_set_is_this() -> None:
    """Whoever adds a setting of that kind adds it here."""
    assert {setting.name for setting in SETTINGS.values() if not setting.project} == {
        *("api_key", "api_url", "base_url"),
        *("telemetry", "telemetry_retention", "capture_content"),
    }


# What is wrong in a file or a variable


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("model = ", "cannot be read"),
        ('modle = "echo"', "Unknown setting 'modle'"),
        ("model = 3", "model must be a text, not 3"),
        ('timeout = "5"', "timeout must be a positive number, not '5'"),
        ("timeout = true", "timeout must be a positive number, not True"),
        ("max_retries = 1.5", "max_retries must be a whole number from 0 on, not 1.5"),
        ('fallbacks = "echo"', "fallbacks must be a list of model names, not 'echo'"),
        ("fallbacks = [1]", "fallbacks must be"),
        ("max_retries = -1", "max_retries must be"),
        ("timeout = -1", "timeout must be"),
    ],
)
def test_a_mistake_in_a_file_names_the_file(project_file: Path, text: str, reason: str) -> None:
    """And what is wrong, at once: not at the call that happens to use it."""
    project_file.write_text(text)
    with pytest.raises(aistrale.ConfigurationError) as caught:
        Config()
    assert reason in caught.value.message
    assert str(project_file) in caught.value.message


def test_a_mistake_in_the_users_file_names_the_file(user_file: Path) -> None:
    """As one in a project's does."""
    user_file.write_text("telemetry = 1")
    with pytest.raises(
        aistrale.ConfigurationError, match="telemetry must be one of on, off, store, otlp, not 1"
    ) as caught:
        Config()
    assert str(user_file) in caught.value.message


def test_a_file_that_is_no_text_names_itself(project_file: Path) -> None:
    """As one that is no TOML."""
    project_file.write_bytes(b"\xff\xfe")
    with pytest.raises(aistrale.ConfigurationError, match=r"aistrale\.toml cannot be read"):
        Config()


def test_a_table_that_is_none_names_its_file(in_folder: Path) -> None:
    """`tool.aistrale` is a table or a mistake."""
    (in_folder / "pyproject.toml").write_text('tool.aistrale = "echo"')
    with pytest.raises(aistrale.ConfigurationError, match=r"pyproject\.toml"):
        Config()


@pytest.mark.parametrize(
    ("variable", "text", "wanted"),
    [
        ("AISTRALE_TIMEOUT", "soon", "a positive number"),
        ("AISTRALE_MAX_RETRIES", "2.5", "a whole number"),
        ("AISTRALE_TELEMETRY", "maybe", "one of on, off, store, otlp"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, text: str, wanted: str
) -> None:
    """And what it should be."""
    monkeypatch.setenv(variable, text)
    with pytest.raises(aistrale.ConfigurationError, match=f"{variable} must be {wanted}"):
        Config()


@pytest.mark.parametrize(("variable", "text"), [("AISTRALE_MAX_RETRIES", "-1"), ("AISTRALE_TIMEOUT", "-2")])
def test_a_value_out_of_range_in_the_environment_names_the_variable(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    """As one of the wrong type does."""
    monkeypatch.setenv(variable, text)
    with pytest.raises(aistrale.ConfigurationError, match=variable):
        aistrale.run("Hello", provider="echo")


# When they are read


def test_importing_reads_no_environment_and_no_file(tmp_path: Path) -> None:
    """What is set after the import counts, up to the first call."""
    program = """
        import os
        import pathlib
        import aistrale

        os.environ["AISTRALE_PROVIDER"] = "echo"
        pathlib.Path("aistrale.toml").write_text('model = "echo-2"')
        print(aistrale.run("Hello").model)
    """
    assert printed(program, cwd=tmp_path) == "echo-2\n"


def test_configure_reads_the_environment_again(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The facade reads it at its first call; `configure` lets it look again."""
    monkeypatch.setenv("AISTRALE_MODEL", "echo")
    assert aistrale.run("Hello").model == "echo"
    monkeypatch.setenv("AISTRALE_MODEL", "echo-2")
    assert aistrale.run("Hello").model == "echo"
    aistrale.configure()
    assert aistrale.run("Hello").model == "echo-2"
