"""Tests of valid configurations: defaults, order of sources, secrets, shipped files."""

from __future__ import annotations

import json
import re
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

import config
from config.listen import Listen, parse_listen
from config.load import load
from config.problems import ConfigError
from config.settings import ImapSettings, OauthSettings, Settings

WRONG = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just([7]) | st.just({})
ENTRIES = st.dictionaries(
    st.sampled_from(
        ["name", "host", "port", "tls", "username", "password_file", "after", "x", "grant"]
    ),
    WRONG,
)
mistakes = st.fixed_dictionaries(
    {}, optional={"IMAP": st.lists(ENTRIES | WRONG) | WRONG, "OAUTH": st.lists(ENTRIES | WRONG)}
)
EXAMPLE = Path(config.__file__).with_name("ticketgate.example.toml")


def plain(model: BaseModel) -> dict:
    """Return the settings as the values of a TOML file."""
    values = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            value = plain(value)
        elif isinstance(value, tuple):
            value = [plain(item) if isinstance(item, BaseModel) else item for item in value]
        elif hasattr(value, "get_secret_value"):
            value = value.get_secret_value()
        values[name] = value
    return values


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_no_file_at_all_gives_the_defaults():
    """Without any file the program runs: SMTP on 127.0.0.1:2525, the database below ./var."""
    loaded = load(None, {})
    assert loaded.settings == Settings()
    assert loaded.settings.smtp.listen == ("127.0.0.1:2525",)
    assert loaded.settings.database.url == "sqlite:///var/ticketgate.db"
    assert loaded.file is None
    assert loaded.sources == {}


def test_the_example_shows_every_key_with_its_default():
    """The example sets every key, to its default; an empty url means data.directory."""
    given = tomllib.loads(EXAMPLE.read_text())
    defaults = {
        name: value for name, value in plain(Settings()).items() if name not in {"imap", "oauth"}
    }
    assert (given["database"], given["blobs"]) == ({"url": ""}, {"url": ""})
    assert given | {"database": defaults["database"], "blobs": defaults["blobs"]} == defaults
    assert load(EXAMPLE, {}).settings == Settings()


def test_the_data_directory_of_the_example_moves_everything(tmp_path):
    """Whoever changes only [data] directory in the example moves database and blobs with it."""
    path = tmp_path / "ticketgate.toml"
    path.write_text(EXAMPLE.read_text().replace('directory = "var"', 'directory = "/srv/desk/"'))
    settings = load(path, {}).settings
    assert settings.database.url == "sqlite:////srv/desk/ticketgate.db"
    assert settings.blobs.url == "file:///srv/desk/blobs"


def test_the_commented_example_tables_are_valid(tmp_path):
    """The commented mailbox and client are valid and name every key of their tables."""
    path = tmp_path / "ticketgate.toml"
    path.write_text(re.sub(r"^#(?=\[\[|[a-z_]+ = )", "", EXAMPLE.read_text(), flags=re.MULTILINE))
    settings = load(path, {}).settings
    given = tomllib.loads(path.read_text())
    assert set(given["imap"][0]) == set(ImapSettings.model_fields)
    assert set(given["oauth"][0]) == set(OauthSettings.model_fields)
    assert settings.imap[0].move_to == "Archive"


def test_the_named_file_wins_over_the_usual_places(tmp_path):
    """With --config FILE, ./ticketgate.toml is not read."""
    Path("ticketgate.toml").write_text('[account]\nname = "Here"\n')
    other = tmp_path / "other.toml"
    other.write_text('[account]\nname = "Named"\n')
    assert load(None, {}).settings.account.name == "Here"
    assert load(other, {}).settings.account.name == "Named"


def test_a_named_file_that_is_missing_is_a_problem(tmp_path):
    """A missing file after --config is a problem; no other file is read."""
    with pytest.raises(ConfigError, match="there is no such file"):
        load(tmp_path / "nowhere.toml", {})


def test_a_file_we_may_not_read_is_a_problem(tmp_path):
    """A folder in place of the file is reported as a problem."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, {})


def test_the_data_directory_carries_database_and_blobs():
    """Moving data.directory moves everything that is below it by default."""
    settings = load(None, {"TICKETGATE_DATA__DIRECTORY": "/srv/desk"}).settings
    assert settings.database.url == "sqlite:////srv/desk/ticketgate.db"
    assert settings.blobs.url == "file:///srv/desk/blobs"


def test_a_configured_database_is_not_moved():
    """A database with a configured URL is not moved by data.directory."""
    environ = {
        "TICKETGATE_DATA__DIRECTORY": "/srv/desk",
        "TICKETGATE_DATABASE__URL": "postgresql://desk@db.example.org/desk",
    }
    assert load(None, environ).settings.database.url == "postgresql://desk@db.example.org/desk"


def test_later_sources_win(tmp_path):
    """Order: environment, credentials, file, defaults."""
    path = tmp_path / "ticketgate.toml"
    path.write_text(
        '[account]\nname = "file"\ntime_zone = "Europe/Vienna"\n[log]\nlevel = "debug"\n'
    )
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "account.name").write_text("credential\n")
    (credentials / "log.level").write_text("warning\n")
    environ = {"CREDENTIALS_DIRECTORY": str(credentials), "TICKETGATE_LOG__LEVEL": "error"}
    loaded = load(path, environ)
    assert (loaded.settings.account.name, loaded.settings.account.time_zone) == (
        "credential",
        "Europe/Vienna",
    )
    assert loaded.settings.log.level == "error"
    assert loaded.sources == {
        "account.name": "credentials",
        "account.time_zone": str(path),
        "log.level": "environment",
    }


def test_lists_and_numbers_in_the_environment_are_json():
    """Lists, numbers and booleans are JSON; text needs no quotes."""
    environ = {
        "TICKETGATE_SMTP__LISTEN": '["127.0.0.1:0", "[::1]:0"]',
        "TICKETGATE_LIMITS__RECIPIENTS": "7",
        "TICKETGATE_ACCOUNT__NAME": "7",
        "TICKETGATE_IMAP": (
            '[{"name": "a", "host": "h.example", "username": "u", "password": "p", '
            '"channel": "c@d.example", "tls": true}]'
        ),
    }
    settings = load(None, environ).settings
    assert settings.smtp.listen == ("127.0.0.1:0", "[::1]:0")
    assert (settings.limits.recipients, settings.account.name) == (7, "7")
    assert settings.imap[0].tls is True


def test_an_empty_value_switches_a_listener_off():
    """interfaces.md 6: an empty variable switches a listener off."""
    environ = {f"TICKETGATE_{section}__LISTEN": "" for section in ("SMTP", "LMTP", "WEB", "HEALTH")}
    settings = load(None, environ).settings
    assert (
        settings.smtp.listen,
        settings.lmtp.listen,
        settings.web.listen,
        settings.health.listen,
    ) == ((), (), "", "")


@pytest.mark.parametrize("name", ["TICKETGATE_NOW", "TICKETGATE_REQUIRE_ALL", "TICKETGATE_CONFIG"])
def test_reserved_names_are_no_settings(name):
    """TICKETGATE_NOW and the tests' switch are not taken for settings."""
    assert load(None, {name: "1"}).settings == Settings()


def test_misspelt_environment_is_a_problem():
    """An unknown variable with our prefix is reported, with the likely name."""
    with pytest.raises(ConfigError) as raised:
        load(
            None,
            {
                "TICKETGATE_SMPT__LISTEN": "[]",
                "TICKETGATE_SMTP__LISTN": "[]",
                "TICKETGATE_LIMITS__ERRORS": "many",
            },
        )
    reasons = {
        problem.key: (problem.reason, problem.suggestion) for problem in raised.value.problems
    }
    assert reasons["TICKETGATE_SMPT__LISTEN"][1] == "did you mean smtp?"
    assert reasons["TICKETGATE_SMTP__LISTN"][1] == "did you mean listen?"
    assert reasons["TICKETGATE_LIMITS__ERRORS"][0] == "is not a whole number"


def test_a_secret_comes_from_its_file(tmp_path):
    """password_file is read without its line end; no repr shows the secret."""
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    environ = {
        "TICKETGATE_OUTBOUND__HOST": "h.example",
        "TICKETGATE_OUTBOUND__USERNAME": "u",
        "TICKETGATE_OUTBOUND__PASSWORD_FILE": str(secret),
    }
    settings = load(None, environ).settings
    assert settings.outbound.password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings)


def test_a_mailbox_takes_its_password_from_a_credential(tmp_path):
    """imap.NAME.password sets that mailbox's password; without a mailbox it is a problem."""
    path = tmp_path / "ticketgate.toml"
    path.write_text(
        '[[imap]]\nname = "my.desk"\nhost = "h.example"\nusername = "u"\nchannel = "a@b.example"\n'
    )
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "imap.my.desk.password").write_text("hunter2")
    (credentials / "unrelated.key").write_text("not ours")
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert load(path, environ).settings.imap[0].password.get_secret_value() == "hunter2"
    (credentials / "imap.other.password").write_text("x")
    with pytest.raises(ConfigError, match=r"imap\.other\.password: matches no table"):
        load(path, environ)


def test_settings_cannot_be_changed_after_loading():
    """Settings are immutable."""
    with pytest.raises(ValidationError):
        load(None, {}).settings.smtp.hostname = "other"


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("127.0.0.1:2525", Listen("127.0.0.1", 2525)),
        ("[::1]:25", Listen("::1", 25)),
        ("localhost:0", Listen("localhost", 0)),
        ("unix:/run/lmtp.sock", Listen("", 0, "/run/lmtp.sock")),
    ],
)
def test_addresses_to_listen_on(text, listen):
    """An address is parsed into host and port or path, and printed as written."""
    assert parse_listen(text) == listen
    assert str(listen) == text


@given(mistakes)
def test_any_number_of_mistakes_is_reported(tables):
    """Wrong types, unknown keys and missing keys, many in one table, end in ConfigError only."""
    with suppress(ConfigError):
        load(None, {f"TICKETGATE_{name}": json.dumps(value) for name, value in tables.items()})


def test_two_mistakes_in_one_mailbox_are_both_told():
    """A missing key and a wrong value of one [[imap]] table are two problems."""
    table = {"name": "desk", "host": 7, "port": "x", "surprise": 1}
    with pytest.raises(ConfigError) as told:
        load(None, {"TICKETGATE_IMAP": json.dumps([table])})
    keys = {problem.key for problem in told.value.problems}
    assert keys >= {"imap.desk.host", "imap.desk.port", "imap.desk.surprise", "imap.desk.username"}


@pytest.mark.parametrize("text", ["x = " + "[" * 100_000, "x = " + "9" * 5_000])
def test_a_bomb_in_the_file_is_a_problem(tmp_path, text):
    """A configuration file that would exhaust the stack is reported like any other mistake."""
    (tmp_path / "bomb.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"nested more than 200 deep|fit into 64 bits"):
        load(tmp_path / "bomb.toml", {})
