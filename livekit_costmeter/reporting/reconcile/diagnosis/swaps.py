"""
What was recorded under another name: another model, or another kind of tokens.

Invariant: a swap takes from one what it gives to the other, hour by hour or day by day; a surplus without such a
counterpart is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

from livekit_costmeter.reporting.reconcile.diagnosis.causes import Finding
from livekit_costmeter.reporting.reconcile.diagnosis.evidence import Line, Series, Subject

_COVERED = 0.8
_NET = 0.1
_BESIDE_ESTIMATES = 0.2
_ESTIMATES_OFF = 0.6
_TRACE = 0.001
_MANY = 0.05
_FAMILIES = (
    frozenset(
        {
            "input_tokens",
            "cached_input_tokens",
            "input_audio_tokens",
            "cached_input_audio_tokens",
            "input_image_tokens",
            "cached_input_image_tokens",
        }
    ),
    frozenset({"output_tokens", "output_audio_tokens", "reasoning_tokens"}),
)


def find_modalities(subjects: Sequence[Subject]) -> Iterator[Finding]:
    """Yield kinds of tokens that were taken for one another, and put them right."""
    for subject in subjects:
        for family in _FAMILIES:
            for more, less in permutations([line for line in subject.lines.values() if line.unit in family], 2):
                moved = None if {more.unit, less.unit} - set(subject.lines) else _moved([(more, less)])
                if moved is None:
                    continue
                share = sum(moved[0]) / max(sum(more.ours), 1.0)
                # From now on both are one: which of them an estimate is of, cannot be told.
                del subject.lines[more.unit]
                subject.lines[less.unit] = _sum(less, more)
                yield Finding(
                    "wrong_modality",
                    f"{sum(moved[0]):,.0f} {more.unit} of ours are {less.unit} for the provider",
                    subject.models,
                    (more.unit, less.unit),
                    weight=share,
                )


def find_models(subjects: list[Subject]) -> Iterator[Finding]:
    """Yield models that were taken for one another; from then on both are looked at as one."""
    # Most models agree, and need not be tried with every other.
    off = [subject for subject in subjects if any(_is_off(line) for line in subject.lines.values())]
    for more, less in permutations(off, 2):
        if more not in subjects or less not in subjects or more.component != less.component:
            continue  # taken together with another one, or not of a kind
        shared = [name for name in more.lines if name in less.lines]
        pairs = [(more.lines[name], less.lines[name]) for name in shared if _size(more.lines[name], less.lines[name])]
        moved = _moved(pairs)
        if moved is None:
            continue
        share = max(sum(part) / _size(*pair) for part, pair in zip(moved, pairs, strict=True))
        for pair, part in zip(pairs, moved, strict=True):
            _move(*pair, part)
        main = max(range(len(pairs)), key=lambda position: sum(moved[position]))
        yield Finding(
            "wrong_model",
            f"{sum(moved[main]):,.0f} {pairs[main][0].unit} that we have as {more.match.model} are "
            f"{less.match.model} for the provider",
            (*more.models, *less.models),
            weight=share,
        )
        subjects.remove(more)
        subjects.remove(less)
        subjects.append(_together(more, less))


def _is_off(line: Line) -> bool:
    return abs(sum(line.residual())) > _TRACE * _size(line)


def _size(*lines: Line) -> float:
    return sum(max(line.stated, sum(line.ours)) for line in lines)


def _moved(pairs: Sequence[tuple[Line, Line]]) -> list[Series] | None:
    """Return what has to move from each first to each second; `None` where nothing does."""
    moved: list[Series] = []
    many = sum(sum(more.estimated) for more, _ in pairs) > _MANY * sum(_size(more, less) for more, less in pairs)
    surplus = covered = net = size = 0.0
    for more, less in pairs:
        scale = _size(more, less) or 1.0
        # What estimates may be too high is no surplus.
        guessed = [_ESTIMATES_OFF * part if many else 0.0 for part in more.estimated]
        too_much = [max(0.0, -rest - part) for rest, part in zip(more.residual(), guessed, strict=True)]
        too_little = [max(0.0, rest) for rest in less.residual()]
        part = [min(values) for values in zip(too_much, too_little, strict=True)]
        moved.append(part)
        surplus += sum(too_much) / scale
        covered += sum(part) / scale
        net -= sum(more.residual()) / scale
        size += 1
    enough = size and surplus / size > _TRACE and covered >= _COVERED * surplus and net >= _NET * surplus
    # A trace of both is noise; what moves is most of what there is too much.
    estimates = sum(sum(more.estimated) / (_size(more, less) or 1.0) for more, less in pairs)
    return moved if enough and covered > _BESIDE_ESTIMATES * estimates else None


def _move(more: Line, less: Line, part: Series) -> None:
    shares = [moved / value if value > 0 else 0.0 for value, moved in zip(more.ours, part, strict=True)]
    guessed = [value * share for value, share in zip(more.estimated, shares, strict=True)]
    more.estimated = [value - moved for value, moved in zip(more.estimated, guessed, strict=True)]
    less.estimated = [value + moved for value, moved in zip(less.estimated, guessed, strict=True)]
    more.ours = [value - moved for value, moved in zip(more.ours, part, strict=True)]
    less.ours = [value + moved for value, moved in zip(less.ours, part, strict=True)]


def _together(first: Subject, second: Subject) -> Subject:
    lines = dict(first.lines)
    for name, line in second.lines.items():
        lines[name] = _sum(lines[name], line) if name in lines else line
    requests = [part for part in (first.their_requests, second.their_requests) if part is not None]
    return Subject(
        second.match,
        (*first.models, *second.models),
        lines,
        [sum(values) for values in zip(*requests, strict=True)] if requests else None,
        [a + b for a, b in zip(first.operations, second.operations, strict=True)],
        [a + b for a, b in zip(first.doubled, second.doubled, strict=True)],
    )


def _sum(first: Line, second: Line) -> Line:
    names = ("theirs", "ours", "estimated", "doubled", "measured")
    series = {name: [a + b for a, b in zip(getattr(first, name), getattr(second, name), strict=True)] for name in names}
    roundings = {
        step: [a + b for a, b in zip(first.roundings[step], second.roundings[step], strict=True)]
        for step in first.roundings.keys() & second.roundings.keys()
    }
    return Line(first.unit, roundings=roundings, recorded=None, **series)
