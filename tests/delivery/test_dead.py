"""Dead letters: kept with their reason, put back when asked for, and gone only when their sink has them."""

import json

import pytest

from livekit_costmeter.delivery import list_segments, pending
from livekit_costmeter.delivery.files.dead import ask_for_retry, count_letters
from livekit_costmeter.delivery.sinks.memory import MemorySink


def letters(directory):
    """Return the names of the files that hold letters, whether put back or not."""
    return sorted(path.name for path in (directory / "dead").iterdir())


@pytest.fixture
def refused(fill, make_shipper, picky):
    """Five records of which two were refused; returns the ids, and the sink that did it."""
    ids = fill(5)
    sink = picky({ids[1], ids[3]})
    make_shipper(sinks={"ledger": sink}).ship_once()
    return ids, sink


def test_letters_that_are_put_back_arrive_as_they_were_refused(refused, make_shipper, directory, rates, rows, expected):
    """The sink gets the rows that it refused, not rated anew, and then nothing is left of the letters."""
    ids, sink = refused
    before = list(sink.charges)
    sink.refused = ()
    assert ask_for_retry(directory)
    shipment = make_shipper(sinks={"ledger": sink}, rate=lambda _: 1 / 0).ship_once()
    assert (shipment.put_back, shipment.rejected) == (2, 0)
    assert sorted(rows(sink)) == sorted(expected(ids))
    again = [charge for charge in sink.charges if charge not in before]
    assert {charge.pricing_source for charge in again} == {"ratecard:test@00#*/*@2026-01-01"}
    assert (letters(directory), list_segments(directory), count_letters(directory)) == ([], [], {})


def test_letters_stay_until_their_sink_has_them(refused, make_shipper, directory, away, rows, expected):
    """While the sink is away the letters lie in `dead`, are pending, and are not put back a second time."""
    ids, sink = refused
    ask_for_retry(directory)
    assert make_shipper(sinks={"ledger": away}).ship_once().still_owed == {"ledger": "connection refused"}
    assert len(letters(directory)) == 1
    assert pending(directory).records == 2
    assert not ask_for_retry(directory)
    sink.refused = ()
    make_shipper(sinks={"ledger": sink}).ship_once()
    assert sorted(rows(sink)) == sorted(expected(ids))
    assert letters(directory) == []


def test_refused_again_is_a_new_letter_and_no_loop(refused, make_shipper, directory):
    """Each is tried once for each time it is asked for."""
    _, sink = refused
    ask_for_retry(directory)
    shipper = make_shipper(sinks={"ledger": sink})
    assert shipper.ship_once().rejected == 2
    assert count_letters(directory) == {"ledger": 2}
    assert shipper.ship_once().put_back == 0
    assert len(letters(directory)) == 1


def test_letter_that_stands_twice_is_put_back_once(refused, make_shipper, directory):
    """A crash right after a letter was written has it written again."""
    _, sink = refused
    path = directory / "dead" / letters(directory)[0]
    path.write_text(path.read_text() * 2)
    sink.refused = ()
    ask_for_retry(directory)
    assert make_shipper(sinks={"ledger": sink}).ship_once().put_back == 2


def test_usage_that_could_not_be_rated_is_rated_when_it_is_put_back(fill, make_shipper, directory, rows, expected):
    """Once the price is mended, the record goes to all sinks that its segment was for."""
    ids = fill(2, sinks=["ledger", "warehouse"])
    sinks = {"ledger": MemorySink(), "warehouse": MemorySink(), "later": MemorySink()}
    make_shipper(sinks=sinks, rate=lambda _: 1 / 0).ship_once()
    assert count_letters(directory) == {"rating": 2}
    ask_for_retry(directory)
    assert make_shipper(sinks=sinks).ship_once().put_back == 2
    assert rows(sinks["ledger"]) == rows(sinks["warehouse"]) == expected(ids)
    assert (sinks["later"].charges, letters(directory)) == ([], [])


def test_letters_of_a_sink_that_is_not_configured_stay(refused, make_shipper, directory, caplog):
    """They wait for their sink to be configured again."""
    ask_for_retry(directory)
    assert make_shipper(sinks={"other": MemorySink()}).ship_once().put_back == 0
    assert count_letters(directory) == {"ledger": 2}
    assert "not configured stay" in caplog.text


def test_crash_before_the_letters_segment_was_made_loses_none(refused, make_shipper, directory, rows, expected):
    """Letters whose file was renamed for a segment that never came are put back by the next request."""
    ids, sink = refused
    path = directory / "dead" / letters(directory)[0]
    path.rename(path.with_suffix(".20261120T000000000000Z-never"))
    sink.refused = ()
    (directory / "dead" / "retry").touch()
    make_shipper(sinks={"ledger": sink}).ship_once()
    assert sorted(rows(sink)) == sorted(expected(ids))
    assert letters(directory) == []


def test_damaged_letter_holds_up_no_other(refused, make_shipper, directory, rows, expected):
    """Half a letter is kept as a letter again, with the reason that it is no record."""
    ids, sink = refused
    path = directory / "dead" / letters(directory)[0]
    path.write_text(path.read_text() + '{"at": "2026')
    sink.refused = ()
    ask_for_retry(directory)
    make_shipper(sinks={"ledger": sink}).ship_once()
    assert sorted(rows(sink)) == sorted(expected(ids))
    assert count_letters(directory) == {"rating": 1}
    letter = json.loads((directory / "dead" / letters(directory)[0]).read_text())
    assert letter["usage"] == '{"at": "2026'


def test_background_puts_letters_back_while_it_ships(refused, make_shipper, directory, until):
    """Whoever holds the lock heeds the request; nobody has to stop a worker for it."""
    _, sink = refused
    make_shipper(sinks={"ledger": sink}, interval=0.02).start()
    sink.refused = ()
    ask_for_retry(directory)
    until(lambda: len(sink.charges) == 10)
    until(lambda: letters(directory) == [])
    assert list_segments(directory) == []
