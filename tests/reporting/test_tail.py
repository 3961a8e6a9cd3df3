"""Following a ledger."""

from datetime import timedelta
from decimal import Decimal

import pytest

from livekit_costmeter.reporting import charge_line, follow, within


class GrowingLedger:
    """A ledger to which each pause adds the next batch; it notes from where it is read."""

    def __init__(self, *batches):
        self.charges = list(batches[0])
        self.coming = list(batches[1:])
        self.reads = []

    def read(self, since, until):
        self.reads.append(since)
        return within(list(self.charges), since, until)

    def wait(self, _seconds):
        if not self.coming:
            return True
        self.charges.extend(self.coming.pop(0))
        return False


@pytest.fixture
def at(charge, noon):
    """Return a factory of charges some seconds after noon."""
    return lambda name, seconds, **fields: charge(record_id=name, at=noon + timedelta(seconds=seconds), **fields)


def followed(ledger, since, clock):
    """Return the record ids and lines that are shown."""
    shown = follow(ledger, since, clock=clock, wait=ledger.wait, overlap=timedelta(seconds=60))
    return [(one.record_id, one.line) for one in shown]


def test_each_charge_is_shown_once_also_when_it_arrives_late(at, noon):
    """A charge from another process that is older than what was shown still appears, and none appears twice."""
    ledger = GrowingLedger(
        [at("a", 0), at("b", 100)],
        [at("late", 50), at("b", 100, line=1)],
        [],
        [at("c", 200)],
        [],
    )
    expected = [("a", 0), ("b", 0), ("late", 0), ("b", 1), ("c", 0)]
    assert expected == followed(ledger, noon, lambda: noon + timedelta(hours=1))


def test_only_the_overlap_is_read_again(at, noon):
    """Each look starts at the overlap before the newest charge, never before the start."""
    ledger = GrowingLedger([at("a", 10)], [at("b", 500)], [])
    followed(ledger, noon, lambda: noon + timedelta(hours=1))
    assert [noon, noon, noon + timedelta(seconds=440)] == ledger.reads


def test_without_a_start_only_new_charges_are_shown(at, noon):
    """Following begins now."""
    ledger = GrowingLedger([at("old", -1)], [at("new", 1)])
    assert followed(ledger, None, lambda: noon) == [("new", 0)]


def test_a_clock_that_is_ahead_hides_no_one_else(at, noon):
    """A charge dated a day ahead does not push charges that are on time out of sight."""
    ledger = GrowingLedger([at("future", 86400)], [at("a", 10)], [at("b", 20)])
    assert followed(ledger, noon, lambda: noon + timedelta(seconds=30)) == [("future", 0), ("a", 0), ("b", 0)]


def test_a_clock_that_is_set_back_repeats_nothing(at, noon):
    """Setting the clock back does not show charges again."""
    times = iter([noon + timedelta(hours=1)] * 2 + [noon] * 10)
    ledger = GrowingLedger([at("a", 0), at("b", 500)], [], [], [])
    assert followed(ledger, noon, lambda: next(times)) == [("a", 0), ("b", 0)]


def test_a_long_history_is_shown_whole_and_once(at, noon):
    """Forgetting charges that are never read again loses and repeats none."""
    history = [at(str(number), number) for number in range(20_000)]
    ledger = GrowingLedger(history, [at("last", 20_000)], [])
    shown = followed(ledger, noon, lambda: noon + timedelta(days=1))
    assert [(one.record_id, 0) for one in history] + [("last", 0)] == shown


def test_a_line_says_what_how_much_and_from_where(charge, noon):
    """One compact line per charge."""
    line = charge_line(charge(at=noon + timedelta(milliseconds=7), session_id="s", account="acme"))
    assert line == (
        "12:00:00.007Z  llm  openai/gpt-4o-mini  1000 input_tokens  0.00015 USD  catalog"
        "  owner=platform  account=acme  session=s"
    )


def test_a_line_marks_what_is_uncertain(charge, unpriced):
    """Estimates carry a tilde, unpriced charges their reason, odd kinds and outcomes a word."""
    assert "~1000 input_tokens  unpriced (no_match)  owner" in charge_line(unpriced(quantity_basis="estimated"))
    assert "  correction  interrupted  catalog  " in charge_line(charge(kind="correction", outcome="interrupted"))


def test_a_line_stays_one_line(charge):
    """Names from outside cannot break it."""
    assert "openai/x\\ny  " in charge_line(charge(model="x\ny", cost=Decimal(0)))
