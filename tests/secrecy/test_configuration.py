"""A configuration file with a key in the wrong place: the mistake is named, the key is not."""

from __future__ import annotations

import multiprocessing
import secrets
import traceback

import pytest

from livekit_costmeter.config import ConfigError, compose, load
from livekit_costmeter.config.compose import build_sinks
from livekit_costmeter.config.passwords import Concealer, mask_keys, secrets_of
from livekit_costmeter.config.prices import check_prices
from livekit_costmeter.delivery.sinks.discreet import DiscreetSink
from livekit_costmeter.testing import MemorySink, check_sink

KEY = f"sk-proj-{secrets.token_hex(20)}1"
MISPLACED = (
    "keys: [{owner: acme, fingerprint: KEY}]",
    "keys: [{owner: acme, env: KEY}]",
    "keys: [{owner: acme, KEY: x}]",
    "keys: {KEY: acme}",
    "keys: [KEY]",
    "keys: [{owner: acme, env: A, billed_by: KEY}]",
    "KEY: platform",
    "KEY: 1\nKEY: 2",
    "KEY",
    "project: *KEY",
    "a: &KEY 1\nb: &KEY 2\nc: *KEY2",
    "project: !KEY x",
    'project: "KEY',
    "project: KEY: x",
    "project: [KEY",
    "project: {a: KEY}",
    "labels: {KEY: [1]}",
    "attribution: {account: KEY}",
    "pricing: {livekit_plan: KEY}",
    "pricing: {catalogs: [{KEY: 1}]}",
    "pricing: {catalogs: [KEY]}",
    "privacy: {phone_numbers: KEY}",
    "taps: KEY",
    "spool: {fsync: KEY}",
    "spool: {max_bytes: KEY}",
    "sinks: [KEY]",
    "sinks: [{type: KEY}]",
    'sinks: [{type: "${VARIABLE}"}]',
    "sinks: [{type: sqlite, name: 'KEY!'}]",
    "sinks: [{type: sqlite, path: x.db, KEY: 1}]",
    "sinks: [{type: sqlite, path: x.db, busy_timeout: KEY}]",
    'sinks: [{type: sqlite, path: x.db, busy_timeout: "${VARIABLE}"}]',
    'spool: {fsync: "${VARIABLE}"}',
)


def load_all(path):
    """Load everything that a file names."""
    config = load(path, {"VARIABLE": KEY, "COSTMETER_SECRET": "x"})
    check_prices(config)
    return build_sinks(config)


def refuse(path):
    """Load everything that a file names; return the error."""
    with pytest.raises(ConfigError) as caught:
        load_all(path)
    return caught.value


@pytest.mark.parametrize("text", MISPLACED)
def test_a_key_in_the_wrong_place_is_not_quoted(tmp_path, find_leaks, text):
    """The error names file and line, and no piece of the key."""
    path = tmp_path / "costmeter.yaml"
    path.write_text(text.replace("KEY", KEY) + "\n")
    error = refuse(path)
    assert str(error).startswith(f"{path}:")
    shown = "".join(traceback.format_exception(error, chain=True))
    assert find_leaks(shown.encode(), {"key": KEY}) == []


@pytest.mark.parametrize("rate", ["{KEY: 1}", "{provider: openai, model: m, unit: KEY, price: 1}", "KEY"])
def test_a_key_in_a_rate_card_is_not_quoted(tmp_path, find_leaks, rate):
    """Rate cards are read as the configuration is."""
    (tmp_path / "rates.yaml").write_text(f"name: a\nrates: [{rate.replace('KEY', KEY)}]\n")
    path = tmp_path / "costmeter.yaml"
    path.write_text("pricing: {rate_cards: [rates.yaml]}\n")
    error = refuse(path)
    assert "rates.yaml:2: rates[0]" in str(error)
    assert find_leaks(str(error).encode(), {"key": KEY}) == []


@pytest.mark.parametrize(
    "name", ["projct", "some_label_of_2026_campaign", "gpt-4o-mini-2024-07-18", "/srv/agents-2/costmeter.yaml"]
)
def test_names_of_people_are_quoted(name):
    """What is blanked out looks like a key; a misspelling is still shown."""
    assert mask_keys(name) == name


@pytest.mark.parametrize(
    ("options", "expanded", "secret"),
    [
        ({"dsn": "postgres://app:hunter2hunter2@db/x"}, [], "hunter2hunter2"),
        ({"dsn": "postgres://app:p@ss/w:rd@db/x"}, [], "p@ss/w:rd"),
        ({"dsn": "host=db password=hunter2 user=app"}, [], "hunter2"),
        ({"headers": {"auth": ["token=abcdef"]}}, [], "abcdef"),
        ({"password": "hunter2"}, ["hunter2"], "hunter2"),
        ({"dsn": "postgres://app:hunter2@db"}, ["postgres://app:hunter2@db"], "hunter2"),
        ({"path": "./costmeter.db"}, [], None),
        ({"pin": "123"}, ["123"], None),
    ],
)
def test_what_is_secret_in_the_options_of_a_sink(options, expanded, secret):
    """Passwords are, wherever they come from; the host and user of an address are not."""
    assert secrets_of(options, expanded) == ({secret} if secret else set())


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("cannot reach postgres://app:pa%40ss%2Fword@db", "cannot reach postgres://app:***@db"),
        ("cannot reach postgres://app:pa@ss/word@db", "cannot reach postgres://app:***@db"),
        ("no host 'ss/word@db'", "no host 'ss/word@db'"),
        ("no host 'a@ss/word@db'", "no host '***@db'"),
        ("nothing of it", "nothing of it"),
    ],
)
def test_a_concealed_message_keeps_everything_else(message, said):
    """A password goes in every form, and parts of eight characters and more; shorter ones cannot be told from words."""
    assert Concealer({"pa@ss/word"})(message) == said


def test_an_option_that_fails_is_explained_without_its_value(tmp_path, find_leaks, leaky_sinks):
    """A sink that cannot even be made is a configuration error, with its place and without its password."""
    path = tmp_path / "costmeter.yaml"
    path.write_text('sinks: [{type: unmakeable, dsn: "postgres://app:${VARIABLE}@db/x"}]\n')
    error = refuse(path)
    assert f"{path}:1: sinks[0]: RuntimeError: invalid dsn" in str(error)
    assert find_leaks(f"{error}{error.__context__!r}{error.__cause__!r}".encode(), {"key": KEY}) == []


def test_a_sink_with_a_secret_works_as_it_would_without(tmp_path, leaky_sinks):
    """The sink that conceals passes on what the inner one has, and its error is all that is known of the failure."""
    path = tmp_path / "costmeter.yaml"
    path.write_text('sinks: [{type: leaky, dsn: "${VARIABLE}"}]\n')
    (sink,) = build_sinks(load(path, {"VARIABLE": KEY})).values()
    with pytest.raises(Exception, match=r"RuntimeError: invalid dsn.*\*\*\*") as caught:
        sink.open()
    assert caught.value.__context__ is None
    assert not hasattr(sink, "readable")
    assert KEY not in repr(sink)


def test_a_job_logs_a_bad_file_without_its_key(tmp_path, find_leaks, monkeypatch, caplog):
    """In a job the mistake is a log line, and that line quotes no key either."""
    path = tmp_path / "costmeter.yaml"
    path.write_text(f"keys: [{{owner: acme, {KEY}: x}}]\n")
    monkeypatch.setattr(multiprocessing.current_process(), "_name", compose.JOB_PROCESS)
    assert compose._load(path).document is None
    assert "keys[0].***: unknown key" in caplog.text
    assert find_leaks(caplog.text.encode(), {"key": KEY}) == []


def test_a_sink_that_conceals_is_a_sink():
    """Concealing costs nothing of the contract: every rule for sinks holds through it."""
    store = secrets.token_hex(4)
    check_sink(lambda: DiscreetSink(lambda: MemorySink(MemorySink.Options(name=store)), Concealer({KEY})))
