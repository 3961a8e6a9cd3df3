"""
Bringing a rollup up to date: the rows that came since its position are summed up, a stretch at a time.

Invariant: whoever is killed leaves whole stretches behind, and the next one goes on from there; several at once take
turns. A new row changes what its unit (see `contributions`) has contributed, so the unit's earlier rows are read again,
their contribution is taken back and that of all its rows is added.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice

from livekit_costmeter.records import Charge
from livekit_costmeter.reporting.rollup.arrivals import Arrivals
from livekit_costmeter.reporting.rollup.contributions import CannotRollUp, Contributions
from livekit_costmeter.reporting.rollup.file import RollupFile
from livekit_costmeter.reporting.tally import answers

ROWS_AT_ONCE = 50_000
_UNITS_AT_ONCE = 500
_LANDMARKS = 64

Unit = tuple[bool, str]
"""Whether it is a session, and the id of the session or the record."""
Progress = Callable[[int, int], None]
"""Called with the number of rows that are summed up, and of all rows."""


def bring_up_to_date(
    file: RollupFile,
    arrivals: Arrivals,
    *,
    anew: bool = False,
    rows_at_once: int = ROWS_AT_ONCE,
    progress: Progress | None = None,
) -> None:
    """Sum up what came since; all of it `anew`, or where the file is of another format or another ledger.

    Raises:
        CannotRollUp: The ledger has rows that do not allow it; this is remembered until it is done `anew`.
    """
    newest = arrivals.position()
    while anew or not _is_current(file, arrivals, newest):
        with file.writing():
            if anew or not _knows(file, arrivals):
                file.clear()
            anew = False
            start = file.position()
            stop = min(start + rows_at_once, newest)
            if start < stop and file.obstacle() is None:
                _take_in(file, arrivals, start, stop)
        if progress is not None:
            progress(stop, newest)
    obstacle = file.obstacle()
    if obstacle is not None:
        raise CannotRollUp(obstacle)


def _is_current(file: RollupFile, arrivals: Arrivals, newest: int) -> bool:
    if not _knows(file, arrivals):
        return False
    return file.obstacle() is not None or file.position() >= newest


def _knows(file: RollupFile, arrivals: Arrivals) -> bool:
    if not file.is_laid_out():
        return False
    known = file.landmarks()
    # One of them is the newest row, so a ledger that has become shorter is another one.
    return known == arrivals.digests(list(known))


def _take_in(file: RollupFile, arrivals: Arrivals, start: int, stop: int) -> None:
    units: dict[Unit, list[Charge]] = defaultdict(list)
    for charge in arrivals.read(start, stop):
        units[unit_of(charge)].append(charge)
    contributions = Contributions()
    try:
        file.add_answers(_answers(units))
        for names in _slices(list(units)):
            earlier = _earlier(file, arrivals, names, start)
            for name in names:
                if name in earlier:
                    contributions.add(earlier[name], -1)
                contributions.add([*earlier.get(name, ()), *units[name]])
    except CannotRollUp as obstacle:
        file.give_up(str(obstacle))
        return
    file.add(contributions)
    places = {1, stop, *(stop * part // _LANDMARKS for part in range(1, _LANDMARKS))}
    file.move(stop, arrivals.digests(sorted(places)))


def unit_of(charge: Charge) -> Unit:
    """Return the unit that a charge belongs to."""
    if charge.session_id is not None:
        return True, charge.session_id
    if answers(charge) and charge.corrects is not None:
        return False, charge.corrects
    return False, charge.record_id


def _answers(units: dict[Unit, list[Charge]]) -> Iterator[tuple[str, str]]:
    for (is_session, record), charges in units.items():
        if not is_session:
            yield from ((record, charge.record_id) for charge in charges if charge.record_id != record)


def _slices(units: Sequence[Unit]) -> Iterator[Sequence[Unit]]:
    # A stretch of corrections may touch many units: their earlier rows are not held at once.
    left = iter(units)
    while some := list(islice(left, _UNITS_AT_ONCE)):
        yield some


def _earlier(file: RollupFile, arrivals: Arrivals, units: Collection[Unit], until: int) -> dict[Unit, list[Charge]]:
    earlier: dict[Unit, list[Charge]] = defaultdict(list)
    if not until:
        return earlier
    sessions = [name for is_session, name in units if is_session]
    for charge in arrivals.of_sessions(sessions, until):
        earlier[unit_of(charge)].append(charge)
    records = [name for is_session, name in units if not is_session]
    for charge in arrivals.of_records([*records, *file.answers(records)], until):
        if charge.session_id is not None:
            raise CannotRollUp(f"record {charge.record_id} is in a session, and what corrects it is not")
        earlier[unit_of(charge)].append(charge)
    return earlier
