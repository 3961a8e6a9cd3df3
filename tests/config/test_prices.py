"""From settings to prices: billing policies that users write."""

from pathlib import Path

import pytest
import yaml

from livekit_costmeter.config import ConfigError, load
from livekit_costmeter.config.prices import build_book, check_prices
from livekit_costmeter.pricing.policies import PolicyModel

GOOD = "{id: ours, provider: groq, component: stt, billed_by: audio"


def config_of(folder, text):
    """Load a configuration with this text."""
    path = folder / "c.yaml"
    path.write_text(text)
    return load(path, {})


def test_a_users_policy_reaches_the_price_book(tmp_path):
    """It stands before the shipped row for the same work, and replaces it."""
    book = build_book(config_of(tmp_path, f"policies:\n  - {GOOD}, minimum: 0.5}}\n"))
    found = book.policies.find("groq", ["whisper-large-v3"], "stt")
    assert (found.row.id, found.own, str(found.row.minimum)) == ("ours", True, "0.5")
    assert "groq-whisper" not in {policy.row.id for policy in book.policies.in_force}


def test_without_policies_the_shipped_rows_are_in_force(tmp_path):
    """Also for the built-in configuration, which has no file."""
    assert all(not policy.own for policy in build_book(config_of(tmp_path, "project: x\n")).policies.in_force)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("policies: {a: b}\n", ":1: policies: expected a list"),
        ("policies:\n  - groq\n", ":2: policies[0]: expected a mapping of keys"),
        (
            f"policies:\n  - {GOOD}, incremnt: 1}}\n",
            ":2: policies[0].incremnt: unknown key (allowed: billed_by, channels",
        ),
        ("policies:\n  - {id: a, provider: b, component: stt}\n", ":2: policies[0].billed_by: missing (allowed: "),
        (f"policies:\n  - {GOOD}, minimum: -1}}\n", ":2: policies[0].minimum: input should be greater than"),
        (f"policies:\n  - {GOOD}, rounding: up}}\n", ":2: policies[0]: rounding up needs an increment"),
        (f"policies:\n  - {GOOD}}}\n  - {GOOD}}}\n", ":3: policies[1]: about the same work as policies[0]"),
    ],
)
def test_a_wrong_policy_is_named_with_its_place(tmp_path, text, message):
    """File, line, key path and what is allowed, before anything is rated."""
    with pytest.raises(ConfigError) as error:
        check_prices(config_of(tmp_path, text))
    assert message in str(error.value)
    assert str(error.value).startswith(str(tmp_path))


def test_the_policy_of_the_example_can_be_taken_as_it_stands():
    """The commented row is valid once its comment signs are gone."""
    example = Path(__file__).parents[2] / "examples/costmeter.yaml"
    lines = example.read_text().splitlines()
    start = lines.index("# policies:")
    taken = [line[2:] for line in lines[start : lines.index("", start)]]
    (row,) = yaml.safe_load("\n".join(taken))["policies"]
    assert PolicyModel.model_validate(row).failed == "free"
