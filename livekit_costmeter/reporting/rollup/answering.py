"""
A report from a rollup.

Invariant: it equals, in everything, what `build_report` makes of the charges that are summed up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal

from livekit_costmeter.reporting.report import Key, Report, rows_beside, rows_of, sum_up
from livekit_costmeter.reporting.rollup.contributions import NO_DAY_AFTER, NO_DAY_BEFORE, PLACES, Measure
from livekit_costmeter.reporting.rollup.file import RollupFile, Window
from livekit_costmeter.reporting.rollup.traits import COVERED, WORK, Level, Traits, level_of
from livekit_costmeter.reporting.tally import EXACT, Tally, UnpricedModel, most_frequent_first

_KeyOf = Callable[[Mapping[str, str | None]], Key | None]
_REASON = "reason"


def can_answer(by: Sequence[str], since: datetime | None, until: datetime | None) -> bool:
    """Tell whether a rollup knows these dimensions, and the bounds are where a UTC day begins."""
    return COVERED.issuperset(by) and all(bound is None or _is_midnight(bound) for bound in (since, until))


def _is_midnight(instant: datetime) -> bool:
    return instant.astimezone(UTC).time() == time()


def report_from(file: RollupFile, by: Sequence[str], since: datetime | None, until: datetime | None) -> Report:
    """Return the report on everything that is summed up."""
    names = tuple(dict.fromkeys(by))
    daily = "day" in names
    rows = _Groups(lambda values: tuple([values[name] for name in names]))
    total = _Groups(lambda _: ())
    outcomes = _Groups(lambda values: None if values["outcome"] == "completed" else (values["outcome"],))
    unpriced = _Groups(_unpriced_model)
    wanted = {WORK: [total, outcomes, unpriced]}
    wanted.setdefault(level_of(names), []).append(rows)
    window = Window(
        NO_DAY_BEFORE + 1 if since is None else since.astimezone(UTC).toordinal(),
        NO_DAY_AFTER if until is None else until.astimezone(UTC).toordinal(),
    )
    with file.reading():
        for level, groups in wanted.items():
            _fill(file, level, window, groups, daily=daily)
    models = [
        UnpricedModel(str(provider), str(model), str(reason), tally.records)
        for (provider, model, reason), tally in unpriced.tallies.items()
    ]
    return Report(
        since,
        until,
        names,
        rows_of(names, rows.tallies, rows),
        sum_up({}, total.tallies.get((), Tally()), total),
        most_frequent_first(models),
        rows_beside({str(key[0]): tally for key, tally in outcomes.tallies.items()}, outcomes),
    )


class _Groups:
    """Tallies by key, filled from sums and counts; it is also the length of their calls."""

    def __init__(self, key_of: _KeyOf) -> None:
        self.tallies: dict[Key, Tally] = {}
        self._key_of = key_of
        self._keys: dict[tuple[int, int], tuple[Key | None, bool]] = {}
        self._numbers: dict[Key, int] = {}
        self._seconds: list[int] = []

    def find(self, day: int, traits: Iterable[int], values: Mapping[int, Mapping[str, str | None]]) -> dict[Key, bool]:
        """Return the groups that some traits belong to, and whether any of those in a group is unpriced."""
        found: dict[Key, bool] = {}
        for number in traits:
            place = (day, number)
            if place not in self._keys:
                named = values[number]
                of_day = {"day": date.fromordinal(day).isoformat()} if day else {}
                self._keys[place] = self._key_of({**named, **of_day}), named[_REASON] is not None
            key, is_unpriced = self._keys[place]
            if key is not None:
                found[key] = found.get(key, False) or is_unpriced
        return found

    def add_sum(self, key: Key, measure: Measure, amount: Decimal, magnitude: Decimal) -> None:
        tally = self._tally(key)
        if measure.kind == "unbilled":
            tally.billed_incomplete = True
            return
        sums = {"quantity": tally.quantities, "cost": tally.cost, "billed": tally.billed_cost}[measure.kind]
        sums[measure.name] = EXACT.add(sums.get(measure.name, Decimal(0)), amount)
        if measure.kind != "billed":
            tally.weigh(measure.name, magnitude, estimated=measure.estimated, money=measure.kind == "cost")

    def add_records(self, key: Key, records: int, *, unpriced: bool) -> None:
        tally = self._tally(key)
        tally.records += records
        tally.unpriced_records += records if unpriced else 0

    def add_seconds(self, key: Key, seconds: int) -> None:
        self._tally(key)
        self._seconds[self._numbers[key]] += seconds

    def seconds(self, calls: set[int]) -> Decimal | None:
        """Return the length of the calls of one group, which is all that a tally here knows of calls."""
        seconds = sum(self._seconds[number] for number in calls)
        return _decimal(seconds) if seconds else None

    def _tally(self, key: Key) -> Tally:
        tally = self.tallies.get(key)
        if tally is None:
            tally = self.tallies[key] = Tally()
            self._numbers[key] = len(self._seconds)
            tally.calls.add(len(self._seconds))
            self._seconds.append(0)
        return tally


def _fill(file: RollupFile, level: Level, window: Window, wanted: Sequence[_Groups], *, daily: bool) -> None:
    values = {number: _named(level, traits) for number, traits in file.traits(level).items()}
    for day, number, measure, amount, magnitude in file.sums(level, window, daily=daily):
        exact = _decimal(amount), _decimal(magnitude)
        for groups in wanted:
            for key in groups.find(day, (number,), values):
                groups.add_sum(key, measure, *exact)
    for day, kind, shape, things, seconds in file.counts(level, window, daily=daily):
        for groups in wanted:
            for key, unpriced in groups.find(day, shape, values).items():
                if kind == "records":
                    groups.add_records(key, things, unpriced=unpriced)
                else:
                    groups.add_seconds(key, seconds)


def _unpriced_model(values: Mapping[str, str | None]) -> Key | None:
    return None if values[_REASON] is None else (values["provider"], values["model"], values[_REASON])


def _named(level: Level, traits: Traits) -> dict[str, str | None]:
    return dict(zip((*level.dimensions, _REASON), traits, strict=True))


def _decimal(amount: int) -> Decimal:
    return Decimal(amount).scaleb(-PLACES, context=EXACT)
