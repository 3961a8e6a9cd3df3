"""Whole days."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livekit_costmeter.reporting.reconcile import ExportError
from livekit_costmeter.reporting.reconcile.api.windows import Window, whole_days

NOW = datetime(2026, 5, 20, 15, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def at(day, hour=0):
    return datetime(2026, 5, day, hour, tzinfo=UTC)


def test_end_that_is_not_given_takes_in_today():
    """Without `--until`, today is the last day."""
    assert whole_days(at(1), None, NOW) == Window(at(1), at(21))
    assert whole_days(at(1), None, NOW).last_day == "2026-05-20"


def test_end_that_is_still_to_come_is_today():
    """A month that is not over is asked for as far as it went."""
    assert whole_days(at(1), datetime(2026, 6, 1, tzinfo=UTC), NOW) == Window(at(1), at(21))
    assert whole_days(at(1), at(20, 18), NOW) == Window(at(1), at(21))


@pytest.mark.parametrize(("since", "until", "option"), [(at(1, 5), at(3), "--since"), (at(1), at(3, 5), "--until")])
def test_window_that_cuts_a_day_is_refused(since, until, option):
    """Providers add up whole days; half a day of ours against a whole one of theirs would be no comparison."""
    with pytest.raises(ExportError, match=rf"^{option} 2026-05-0\dT05:00:00Z is not midnight"):
        whole_days(since, until, NOW)


def test_midnight_of_somewhere_else_is_not_midnight():
    """Days are UTC's."""
    with pytest.raises(ExportError, match=r"--since 2026-04-30T22:00:00Z is not midnight"):
        whole_days(datetime(2026, 5, 1, tzinfo=timezone(timedelta(hours=2))), None, NOW)


def test_days_to_come_cannot_be_fetched():
    """A window that has not begun is empty, and said to be."""
    with pytest.raises(ExportError, match=r"nothing to fetch"):
        whole_days(at(25), None, NOW)


@given(days=st.integers(1, 400), most=st.integers(1, 100))
def test_slices_are_the_window(days, most):
    """Pieces follow one another without gap or overlap, none too long."""
    window = Window(at(1), at(1) + days * DAY)
    pieces = list(window.slices(most))
    assert (pieces[0].since, pieces[-1].until) == (window.since, window.until)
    assert all(a.until == b.since for a, b in pairwise(pieces))
    assert all(DAY <= piece.until - piece.since <= most * DAY for piece in pieces)
