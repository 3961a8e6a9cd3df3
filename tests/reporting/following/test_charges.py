"""Following charges, as they are rated and as they arrive in a ledger."""

from datetime import timedelta

import pytest

from livekit_costmeter.reporting import follow, within


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


class Rating:
    """What is rated before each look; waiting ends when nothing more is to come."""

    def __init__(self, *looks):
        self.looks = list(looks)

    def look(self):
        return iter(self.looks.pop(0) if self.looks else ())

    def wait(self, _seconds):
        return not self.looks


@pytest.fixture
def at(charge, noon):
    """Return a factory of charges some seconds after noon."""
    return lambda name, seconds, **fields: charge(record_id=name, at=noon + timedelta(seconds=seconds), **fields)


def shown(looks):
    """Return the record ids and lines that are shown."""
    return [(one.record_id, one.line) for look in looks for one in look]


def followed(ledger, since, clock, **options):
    return shown(follow(ledger, since, clock=clock, wait=ledger.wait, overlap=timedelta(seconds=60), **options))


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
    """Each look starts at the overlap before the newest charge, never before the start; one look more is the last."""
    ledger = GrowingLedger([at("a", 10)], [at("b", 500)], [])
    followed(ledger, noon, lambda: noon + timedelta(hours=1))
    later = noon + timedelta(seconds=440)
    assert [noon, noon, later, later] == ledger.reads


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
    found = followed(ledger, noon, lambda: noon + timedelta(days=1))
    assert [(one.record_id, 0) for one in history] + [("last", 0)] == found


def test_what_was_shown_when_it_was_rated_is_not_shown_again_from_the_ledger(at, noon):
    """The spool has it first, the ledger later, and one line is enough."""
    charges = [at(str(number), number) for number in range(30)]
    rating = Rating(*([one] for one in charges))
    ledger = GrowingLedger([*charges[:10], at("elsewhere", 5)])
    looks = follow(ledger, noon, rated=rating.look, clock=lambda: noon + timedelta(hours=1), wait=rating.wait)
    found = shown(looks)
    assert len(found) == len(set(found)) == 31
    assert ("elsewhere", 0) in found


def test_the_ledger_is_looked_at_now_and_then_and_at_the_end(at, noon):
    """What is rated is looked for each time, the ledger every twentieth time, and both a last time."""
    rating, ledger = Rating(*([] for _ in range(45))), GrowingLedger([])
    list(map(list, follow(ledger, noon, rated=rating.look, clock=lambda: noon, wait=rating.wait)))
    assert len(ledger.reads) == 4


def test_what_is_rated_now_is_shown_whatever_its_time_unless_a_start_is_given(at, noon):
    """A worker that comes back after an outage rates what is old; whoever names a start does not ask for it."""
    for since, expected in ((None, [("old", 0), ("new", 0)]), (noon, [("new", 0)])):
        rating = Rating([], [at("old", -7200), at("new", 1)])
        assert shown(follow(None, since, rated=rating.look, clock=lambda: noon, wait=rating.wait)) == expected


def test_memory_is_bounded_while_the_ledger_stands_still(at, noon):
    """After a long outage of the store the newest charges are still told apart, and the oldest are let go of."""
    charges = [at(str(number), number) for number in range(3000)]
    ledger = GrowingLedger([])
    rating = Rating([], charges, *([] for _ in range(18)), [])
    looks = follow(
        ledger, noon, rated=rating.look, clock=lambda: noon + timedelta(days=1), wait=rating.wait, seen_at_most=1000
    )
    found = []
    for position, look in enumerate(looks):
        if position == 3:
            ledger.charges = charges
        found += [one.record_id for one in look]
    assert sorted(found, key=int) == [str(number) for number in range(3000)]
    assert ledger.reads[-1] > noon + timedelta(seconds=1000)
