"""YAML that is odd or hostile: one line that says where, in no time."""

from __future__ import annotations

import pytest

from livekit_costmeter.config import ConfigError, load

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("project: a\n? [b]\n: c\n", ":2: a key must be plain text"),
        ("labels:\n  {a: b}: c\n", ":2: labels: a key must be plain text"),
        ("project: a\nlabels: &a {x: *a}\n", ":2: labels: nested too deeply"),
        ("a: " + "[" * 5000, ":1: nested too deeply"),
        (BOMB, "values"),
        ("project: x\naccount: 2026-13-45\n", ":2: account: not a valid timestamp (quote it if it is text)"),
        ("account: !!int many\n", ":1: account: not a valid int"),
        ("account: " + "9" * 5000, ":1: account: not a valid int"),
        ("account: 010\n", ":1: account: not a plain number (quote it if it is text)"),
        ("account: 1:30\n", ":1: account: not a plain number"),
        ("labels: {<<: {[a]: b}}\n", ":1: labels: a key must be plain text"),
        ("account: !!timestamp x\n", ":1: account: not a valid timestamp"),
        ("account: !!python/object:os.system x\n", ":1: not YAML: could not determine a constructor"),
        ("project: é\naccount: \x07\n", ":2: not YAML: unacceptable character"),
        ("project: a\n---\nproject: b\n", ":2: not YAML: but found another document"),
        ("1: a\n'1': b\n", ":2: 1: stands here twice"),
        ("project: x\npricing:\n", ":2: pricing: expected a mapping of keys"),
        ("sinks: {type: sqlite}\n", ":1: sinks: expected a list"),
        ("labels: [a]\n", ":1: labels: expected a mapping of keys"),
        ("spool: {dir: 5}\n", ":1: spool.dir: expected a path"),
        (b"project: x\naccount: \xff\n", ":2: not UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", ":1: not UTF-8 text"),
    ],
)
def test_odd_yaml_is_refused_in_one_line(tmp_path, content, message):
    """File and line come first; whatever the parser thinks of it, it is a `ConfigError`."""
    path = tmp_path / "c.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as error:
        load(path, {})
    assert str(error.value).startswith(f"{path}:")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "# nothing but comments\n", "---\n"])
def test_a_file_that_sets_nothing_leaves_the_defaults(tmp_path, content):
    """Whoever comments everything out gets the built-in settings, relative to the file."""
    path = tmp_path / "c.yaml"
    path.write_text(content)
    config = load(path, {})
    assert config.sinks[0].options["path"] == str(tmp_path / "costmeter.db")


def test_anchors_and_merges_work(tmp_path):
    """Aliases are fine as long as they stay small."""
    path = tmp_path / "c.yaml"
    path.write_text("labels: &l {a: b}\nattribution: {labels: {<<: {x: room.name}}}\n")
    config = load(path, {})
    assert (config.settings.labels, config.settings.attribution.labels) == ({"a": "b"}, {"x": "room.name"})


def test_an_empty_name_is_not_no_name(tmp_path):
    """A script's unset variable must not fall back to other settings without a word."""
    with pytest.raises(ConfigError, match="empty text"):
        load("", {})
