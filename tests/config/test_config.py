"""costmeter.yaml: found, read, validated, and explained when it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from livekit_costmeter.config import ConfigError, load
from livekit_costmeter.config.compose import build_sinks
from livekit_costmeter.config.prices import rate_cards

EXAMPLES = Path(__file__).parents[2] / "examples"


def write(path, text):
    path.write_text(text)
    return path


def test_without_a_file_the_built_in_settings_hold(tmp_path, monkeypatch):
    """SQLite in the current directory is what a user gets who sets up nothing."""
    monkeypatch.chdir(tmp_path)
    config = load(environ={})
    assert [(sink.name, sink.type, sink.options["path"]) for sink in config.sinks] == [
        ("sqlite", "sqlite", str(tmp_path / "costmeter.db"))
    ]
    assert config.spool_directory == tmp_path / ".costmeter/spool"


def test_the_file_is_found_by_argument_then_variable_then_name(tmp_path, monkeypatch):
    """An explicit path wins over the variable, which wins over ./costmeter.yaml."""
    monkeypatch.chdir(tmp_path)
    for name in ("costmeter", "variable", "argument"):
        write(tmp_path / f"{name}.yaml", f"project: {name}\n")
    environ = {"COSTMETER_CONFIG": str(tmp_path / "variable.yaml")}
    assert load(environ={}).settings.project == "costmeter"
    assert load(environ=environ).settings.project == "variable"
    assert load("argument.yaml", environ=environ).settings.project == "argument"


def test_paths_are_relative_to_the_file(tmp_path):
    """A worker may be started anywhere."""
    (tmp_path / "etc").mkdir()
    config = load(write(tmp_path / "etc/c.yaml", "spool: {dir: spool}\nsinks: [{type: sqlite, path: a.db}]\n"))
    assert config.spool_directory == tmp_path / "etc/spool"
    assert config.sinks[0].options["path"] == str(tmp_path / "etc/a.db")


def test_variables_expand_and_their_values_stay_out_of_sight(tmp_path):
    """A password from the environment is used, and is in no repr."""
    path = write(tmp_path / "c.yaml", 'sinks: [{type: sqlite, path: "${DB}-${KIND:-x}.db"}]\n')
    config = load(path, {"DB": "s3cret"})
    assert config.sinks[0].options["path"].endswith("s3cret-x.db")
    assert "s3cret" not in repr(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("projct: x\n", ":1: projct: unknown key (allowed: account, attribution, billing, keys, labels, policies"),
        ("a: [\n", ": not YAML: "),
        ("- a\n", ":1: expected a mapping of keys"),
        ("project: a\nproject: b\n", ":2: project: stands here twice"),
        ("project: 5\n", ":1: project: expected text"),
        (
            "keys:\n  - {owner: a, env: B, fingerprnt: c}\n",
            ":2: keys[0].fingerprnt: unknown key (allowed: account, billed_by",
        ),
        ("keys:\n  - {owner: a}\n", ":2: keys[0]: needs exactly one of env, fingerprint, provider"),
        ("keys: [{owner: a, env: B, provider: c}]\n", ":1: keys[0]: needs exactly one of"),
        ("keys: [{owner: a, fingerprint: sk-pasted-by-mistake}]\n", "fingerprint is 12 hex digits"),
        (
            "keys: [{owner: a, fingerprint: 9f31c2d07a4e}]\n",
            ":1: keys[0].fingerprint: fingerprints need COSTMETER_SECRET",
        ),
        ("privacy: {phone_numbers: shown}\n", ":1: privacy.phone_numbers: input should be 'masked', 'hash' or 'full'"),
        ("spool:\n  max_bytes: lots\n", ":2: spool.max_bytes: expected a size such as 512MiB"),
        ("spool: {fsync: soon}\n", ":1: spool.fsync: expected a duration such as 500ms"),
        (
            "attribution: {account: job.tenant}\n",
            ":1: attribution.account: expected a path that starts with job.metadata.*",
        ),
        ("account: ${NOT_SET}\n", ":1: account: environment variable NOT_SET is not set"),
        ("sinks: []\n", ":1: sinks: list should have at least 1 item"),
        ("sinks: [{path: x}]\n", ":1: sinks[0]: missing type"),
        ("sinks:\n  - {type: stdout}\n  - {type: stdout}\n", ":3: sinks[1]: a second sink named stdout"),
        ("sinks: [{type: stdout, name: a b}]\n", ":1: sinks[0].name: expected letters, digits"),
        ("taps: all\n", ":1: taps: input should be 'streams'"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, text, message):
    """File, line, key path and what is allowed, in one line; a pasted key is not repeated."""
    path = write(tmp_path / "c.yaml", text)
    with pytest.raises(ConfigError) as error:
        load(path, {})
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert "pasted" not in str(error.value)


def test_files_that_cannot_be_read_say_so(tmp_path):
    """A missing file, a directory and a file of another encoding are one clear line each."""
    for path, message in (
        (tmp_path / "none.yaml", "No such file"),
        (tmp_path, "directory"),
    ):
        with pytest.raises(ConfigError, match=message):
            load(path)
    (tmp_path / "utf16.yaml").write_bytes("project: x".encode("utf-16"))
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        load(tmp_path / "utf16.yaml")


@pytest.mark.parametrize(
    ("sink", "message"),
    [
        ("{type: sqllite, path: x}", ":1: sinks[0].type: "),
        ("{type: sqlite, pth: x}", ":1: sinks[0].pth: unknown key (allowed: "),
        ("{type: sqlite}", ":1: sinks[0].path: missing"),
    ],
)
def test_a_wrong_sink_is_named_with_its_place(tmp_path, sink, message):
    """Sinks are validated by their own class, and reported like everything else."""
    config = load(write(tmp_path / "c.yaml", f"sinks: [{sink}]\n"))
    with pytest.raises(ConfigError) as error:
        build_sinks(config)
    assert message in str(error.value)


GOOD_RATE = '{provider: openai, model: m, unit: input_tokens, price: "1"}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rates: []\n", "r.yaml:1: name: missing"),
        (f"name: a\nrates:\n  - {GOOD_RATE[:-1]}, prce: 1}}\n", "r.yaml:3: rates[0].prce: unknown key"),
        ("name: a\nrates:\n  - {provider: p, model: m, unit: tokens, price: 1}\n", "r.yaml:3: rates[0].unit: "),
        ("name: a\nrates:\n  - {provider: p, model: m, unit: requests, price: -1}\n", "r.yaml:3: rates[0].price: "),
        ("name: a\nrates:\n  - {provider: p, model: m, unit: requests, price: cheap}\n", "r.yaml:3: rates[0].price: "),
        (f"name: a\nrates:\n  - {GOOD_RATE}\n  - {GOOD_RATE}\n", "r.yaml:"),
    ],
)
def test_a_wrong_rate_card_is_named_with_its_place(tmp_path, text, message):
    """A mistake in a rate card is reported in the rate card's own file and line."""
    write(tmp_path / "r.yaml", text)
    config = load(write(tmp_path / "c.yaml", "pricing: {rate_cards: [./r.yaml]}\n"))
    with pytest.raises(ConfigError) as error:
        rate_cards(config)
    assert message in str(error.value)


def test_an_unquoted_price_is_read_digit_by_digit(tmp_path):
    """A YAML number becomes the decimal that stands there, not the nearest float."""
    write(tmp_path / "r.yaml", "name: a\nrates: [{provider: p, model: m, unit: requests, price: 0.1}]\n")
    config = load(write(tmp_path / "c.yaml", "pricing: {rate_cards: [./r.yaml]}\n"))
    ((_, _, rate),) = rate_cards(config)[0].rates()
    assert str(rate.unit_price) == "0.1"


def test_the_example_is_what_init_writes_and_it_is_valid():
    """The commented example holds every option and loads as it stands."""
    template = Path(load.__code__.co_filename).parent / "template.yaml"
    assert (EXAMPLES / "costmeter.yaml").read_text() == template.read_text()
    config = load(EXAMPLES / "costmeter.yaml", {})
    assert [sink.type for sink in config.sinks] == ["sqlite"]


def test_the_sinks_of_the_example_are_valid_too(tmp_path):
    """The sinks that the commented example mentions can be taken as they stand."""
    text = (EXAMPLES / "costmeter.yaml").read_text()
    path = write(tmp_path / "c.yaml", text.replace("  # - {type:", "  - {type:"))
    sinks = build_sinks(load(path, {}))
    assert sorted(sinks) == ["jsonl", "sqlite", "stdout"]
