"""
The audit of a ledger: how each quantity is known, what LiveKit's own usage said, what it missed and why.

Invariant: shares are of measured quantities, and two sides are compared only where both are known: session by session,
for the sessions whose figures of LiveKit are at hand. What is known on one side only is `None`, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import ROUND_HALF_EVEN, ROUND_UP, Decimal

from livekit_costmeter.records import (
    UNIT_ORDER,
    Charge,
    Finding,
    LiveKitUsage,
    Manner,
    Reason,
    Recorded,
    SessionAudit,
    Work,
    compare,
)
from livekit_costmeter.reporting.ledger import within
from livekit_costmeter.reporting.tally import ESTIMATES, EXACT

_ZERO = Decimal(0)
_SHARE_STEP = Decimal("1e-6")


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One model and unit.

    `quantity` is all that was measured, in whatever session; the three shares are of it, 0 to 1, `estimated_share`
    rounded up, and `is_lower_bound` says that some of it may be more. `livekit` is LiveKit's figure for the sessions
    that could be compared, `missed` what it lacks there (below 0: what it has too much), `missed_share` the part of all
    that was measured there. `reasons` explain `missed`, and what could not be compared.
    """

    work: Work
    unit: str
    quantity: Decimal | None
    reported_share: Decimal | None
    observed_share: Decimal | None
    estimated_share: Decimal | None
    is_lower_bound: bool
    livekit: Decimal | None
    missed: Decimal | None
    missed_share: Decimal | None
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """The rows by component, provider, model and unit, and how many of the sessions could be compared."""

    since: datetime | None
    until: datetime | None
    sessions: int
    compared_sessions: int
    rows: tuple[AuditRow, ...]


def build_audit(
    charges: Iterable[Charge],
    livekit: Sequence[SessionAudit],
    since: datetime | None = None,
    until: datetime | None = None,
) -> Audit:
    """Audit the charges with `since` <= `at` < `until` against what LiveKit said of the sessions that ended then.

    A session is compared if LiveKit's side of it is there and any charge of it is; one that began before the period, as
    far as its start is known, is not, because part of it is missing here.
    """
    books = _Books(livekit, since)
    for charge in within(charges, since, until):
        books.add(charge)
    known = books.totals()
    compared = books.compared()
    keys = sorted(known.keys() | compared.keys(), key=lambda key: (key[0], UNIT_ORDER.get(key[1], len(UNIT_ORDER))))
    rows = tuple(_row(key, known.get(key, {}), compared.get(key)) for key in keys)
    return Audit(since, until, len(books.sessions), books.compared_sessions, rows)


_Key = tuple[Work, str]


@dataclass(slots=True)
class _Compared:
    """The findings about one model and unit, added up over sessions."""

    ours: Decimal = _ZERO
    theirs: Decimal | None = None
    is_comparable: bool = False
    reasons: dict[str, Decimal] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        if finding.theirs is not None:
            self.theirs = EXACT.add(self.theirs or _ZERO, finding.theirs)
        if finding.difference is not None:
            self.is_comparable = True
            self.ours = EXACT.add(self.ours, finding.ours or _ZERO)
        for code, quantity in finding.reasons:
            self.explain(code, quantity)

    def explain(self, code: str, quantity: Decimal) -> None:
        self.reasons[code] = EXACT.add(self.reasons.get(code, _ZERO), quantity)


class _Books:
    """What one pass over the charges fills: everything by manner, and each session that can be compared by itself."""

    def __init__(self, livekit: Sequence[SessionAudit], since: datetime | None) -> None:
        self._livekit: dict[str, list[LiveKitUsage]] = {}
        begun_before = set()
        for audit in livekit:
            if audit.session_id is not None:
                self._livekit.setdefault(audit.session_id, []).extend(audit.livekit)
                if since is not None and audit.started_at is not None and audit.started_at < since:
                    begun_before.add(audit.session_id)
        for session_id in begun_before:
            del self._livekit[session_id]
        self._all = Recorded()
        self._outside = Recorded()
        self._others = Recorded()
        self._by_session: dict[str, Recorded] = {}
        self.sessions: set[str] = set()

    def add(self, charge: Charge) -> None:
        """Count one measured line."""
        if charge.kind != "usage":
            return
        books = self._others
        if charge.session_id is None:
            books = self._outside
        else:
            self.sessions.add(charge.session_id)
            if charge.session_id in self._livekit:
                books = self._by_session.setdefault(charge.session_id, Recorded())
        _enter(self._all, charge)
        _enter(books, charge)

    @property
    def compared_sessions(self) -> int:
        """Count the sessions of which both sides are known."""
        return len(self._by_session)

    def totals(self) -> dict[_Key, dict[str, Decimal]]:
        """Return everything measured, by basis."""
        found: dict[_Key, dict[str, Decimal]] = {}
        for work, units in self._all.amounts.items():
            for unit, manners in units.items():
                sums = found.setdefault((work, unit), {})
                for manner, quantity in manners.items():
                    sums[manner.basis] = EXACT.add(sums.get(manner.basis, _ZERO), quantity)
        return found

    def compared(self) -> dict[_Key, _Compared]:
        """Return the findings of all sessions, and what could not be compared."""
        found: dict[_Key, _Compared] = {}
        for session_id, recorded in self._by_session.items():
            # A model that this session did not record may be known by its canonical name from another one.
            rows = [replace(row, **self._all.work_of(row)._asdict()) for row in self._livekit[session_id]]
            _collect(found, compare(recorded, rows))
        if self._by_session:
            _collect(found, compare(self._outside, ()))
        else:
            self._others.merge(self._outside)
        for finding in compare(self._others, ()):
            code = "no_counterpart" if finding.difference is None else "not_audited"
            found.setdefault((finding.work, finding.unit), _Compared()).explain(code, finding.ours or _ZERO)
        return found


def _enter(recorded: Recorded, charge: Charge) -> None:
    work = Work(charge.component, charge.provider, charge.model)
    names = Work(charge.component, charge.reported_provider or charge.provider, charge.reported_model or charge.model)
    manner = Manner(charge.outcome, charge.quantity_basis, charge.session_id is None)
    recorded.add(work, names, charge.unit, charge.quantity, manner)


def _collect(found: dict[_Key, _Compared], findings: Iterable[Finding]) -> None:
    for finding in findings:
        found.setdefault((finding.work, finding.unit), _Compared()).add(finding)


def _row(key: _Key, bases: Mapping[str, Decimal], compared: _Compared | None) -> AuditRow:
    quantity = sum(bases.values(), _ZERO) if bases else None
    estimated = sum((amount for basis, amount in bases.items() if basis in ESTIMATES), _ZERO)
    missed = None
    if compared is not None and compared.is_comparable:
        missed = EXACT.subtract(compared.ours, compared.theirs or _ZERO)
    is_two_sided = compared is not None and compared.theirs is not None
    return AuditRow(
        work=key[0],
        unit=key[1],
        quantity=quantity,
        reported_share=_share(bases.get("reported", _ZERO), quantity),
        observed_share=_share(bases.get("observed", _ZERO), quantity),
        estimated_share=_share(estimated, quantity, rounding=ROUND_UP),
        is_lower_bound=bool(bases.get("lower_bound")),
        livekit=compared.theirs if compared else None,
        missed=missed,
        missed_share=_share(missed, compared.ours) if compared and missed is not None and is_two_sided else None,
        reasons=_reasons(compared),
    )


def _reasons(compared: _Compared | None) -> tuple[Reason, ...]:
    if compared is None:
        return ()
    reasons = [Reason(code, quantity) for code, quantity in compared.reasons.items() if quantity]
    return tuple(sorted(reasons, key=lambda reason: (-abs(reason.quantity), reason.code)))


def _share(part: Decimal, whole: Decimal | None, *, rounding: str = ROUND_HALF_EVEN) -> Decimal | None:
    if not whole:
        return None
    return EXACT.divide(part, whole).quantize(_SHARE_STEP, rounding=rounding, context=EXACT)
