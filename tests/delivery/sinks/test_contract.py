"""Every built-in store keeps the contract of a sink, and the contract test notices when one does not."""

import pytest

from livekit_costmeter.delivery.sinks import Sink, UnknownSink, find_sink
from livekit_costmeter.delivery.sinks.jsonl import JsonlSink
from livekit_costmeter.delivery.sinks.memory import MemorySink
from livekit_costmeter.delivery.sinks.sqlite import SqliteSink
from livekit_costmeter.testing.contract import check_sink


@pytest.fixture
def makers(tmp_path):
    """Make each built-in store anew on the same place."""
    return {
        "jsonl": lambda: JsonlSink(JsonlSink.Options(path=tmp_path / "charges.jsonl")),
        "memory": lambda: MemorySink(MemorySink.Options(name=str(tmp_path))),
        "rotating jsonl": lambda: JsonlSink(JsonlSink.Options(path=tmp_path / "rotating.jsonl", max_bytes=200_000)),
        "sqlite": lambda: SqliteSink(SqliteSink.Options(path=tmp_path / "ledger.db")),
    }


@pytest.mark.parametrize("name", ["jsonl", "memory", "rotating jsonl", "sqlite"])
def test_store_keeps_the_contract(makers, name):
    """The built-in stores are held to the test that third parties are held to."""
    assert isinstance(makers[name](), Sink)
    check_sink(makers[name])


class Forgetful(MemorySink):
    """Writes every row again that comes again."""

    def write(self, charges):
        for charge in charges:
            self._rows[charge.record_id, charge.line, len(self._rows)] = charge


class Overwriting(MemorySink):
    """Replaces a row that comes again."""

    def write(self, charges):
        self._rows.update({(charge.record_id, charge.line): charge for charge in charges})


class Losing(MemorySink):
    """Drops the end of a batch."""

    def write(self, charges):
        super().write(charges[:2])


class Unwell(MemorySink):
    """Has nothing to say about its health."""

    def check(self):
        return ""


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (Forgetful, "more than once"),
        (Overwriting, "never changed"),
        (Losing, "rows are missing"),
        (Unwell, "check"),
    ],
)
def test_broken_sink_is_told_what_it_breaks(tmp_path, broken, rule):
    """A sink that breaks a rule fails with that rule's name."""
    with pytest.raises(AssertionError, match=rule):
        check_sink(lambda: broken(MemorySink.Options(name=f"{tmp_path}/{broken.__name__}")))


@pytest.mark.parametrize(("type_name", "kind"), [("sqlite", SqliteSink), ("jsonl", JsonlSink), ("memory", MemorySink)])
def test_sink_is_found_by_its_type(type_name, kind):
    """The built-in sinks are declared as entry points like anybody else's."""
    assert find_sink(type_name) is kind


def test_unknown_type_names_the_known_ones():
    """A typo in the YAML is answered with what is allowed."""
    with pytest.raises(UnknownSink, match=r"'sqlit' \(allowed: .*jsonl, .*memory, .*sqlite, stdout"):
        find_sink("sqlit")


def test_missing_library_names_what_to_install(monkeypatch):
    """A sink whose client library is missing says which extra brings it."""
    from importlib.metadata import EntryPoint

    point = EntryPoint("warehouse", "no_such_module_of_ours:Sink", "livekit_costmeter.sinks")
    monkeypatch.setattr("livekit_costmeter.delivery.sinks.entry_points", lambda **_: [point])
    with pytest.raises(UnknownSink, match=r"no_such_module_of_ours.*pip install 'livekit-costmeter\[warehouse\]'"):
        find_sink("warehouse")
