"""The sink that prints."""

import io
import json

import pytest

from livekit_costmeter.delivery.sinks import RetryableError
from livekit_costmeter.delivery.sinks.stdout import StdoutSink
from livekit_costmeter.records import CHARGE_FIELDS


class Closed(io.StringIO):
    """A pipe whose reader is gone."""

    def write(self, _text):
        raise BrokenPipeError(32, "Broken pipe")


def test_text_shows_what_it_cost(charges):
    """One line per charge, key=value, with the fields a reader looks for."""
    stream = io.StringIO()
    StdoutSink(stream=stream).write(charges(2))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert "provider='openai'" in lines[0]
    assert "cost='0.0012'" in lines[0]
    assert "record_id='seg-0'" in lines[0]


def test_json_has_every_field(charges):
    """A log collector gets the whole charge."""
    stream = io.StringIO()
    StdoutSink(StdoutSink.Options(format="json"), stream=stream).write(charges(1))
    first = json.loads(stream.getvalue().splitlines()[0])
    assert set(CHARGE_FIELDS) < set(first)
    assert first["cost"] == "0.0012"


def test_row_is_printed_once(charges):
    """A batch that comes again in the same process prints nothing."""
    stream = io.StringIO()
    sink = StdoutSink(stream=stream)
    sink.write(charges(2))
    sink.write(charges(3))
    assert len(stream.getvalue().splitlines()) == 6


def test_reader_that_left_is_retryable(charges):
    """A broken pipe delays the charges; they stay in the spool."""
    with pytest.raises(RetryableError, match="Broken pipe"):
        StdoutSink(stream=Closed()).write(charges(1))
