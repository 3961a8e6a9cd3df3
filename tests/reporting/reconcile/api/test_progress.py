"""Progress where somebody watches."""

import io

from livekit_costmeter.reporting.reconcile.api import progress_on


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_terminal_shows_what_happens():
    """The last thing told is on the terminal, brackets and all."""
    stream = Terminal()
    with progress_on(stream) as progress:
        progress("openai costs: page 3 [of many]")
    assert "openai costs: page 3 [of many]" in stream.getvalue()


def test_stream_that_is_no_terminal_stays_clean():
    """A log file gets no progress."""
    stream = io.StringIO()
    with progress_on(stream) as progress:
        progress("openai costs: page 3")
    assert stream.getvalue() == ""
