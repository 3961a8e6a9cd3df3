"""Running totals: read back, priced once, and what LiveKit missed."""

from decimal import Decimal
from types import SimpleNamespace

import pytest

from livekit_costmeter.metering import summary as module
from livekit_costmeter.metering.audit import audit_fields
from livekit_costmeter.metering.summary import Totals
from livekit_costmeter.records import LiveKitUsage, usage_json


class Spooled:
    """A read-back that hands out lines once."""

    def __init__(self):
        self.complete = True
        self.lines = []
        self.count = 0

    def append(self, **fields):
        """Append a record."""
        self.count += 1
        defaults = {
            "id": f"seg-{self.count}",
            "at": "2026-11-20T12:00:00Z",
            "component": "llm",
            "provider": "openai",
            "model": "gpt-4o-mini",
            "quantities": {"output_tokens": "20"},
            "basis": {"output_tokens": "reported"},
            "session_id": "ses-1",
            "job_id": "job-1",
        }
        self.lines.append(usage_json({**defaults, **fields}))

    def audit(self, **units):
        """Append an audit record with one row of LiveKit's."""
        row = LiveKitUsage("llm", "openai", "gpt-4o-mini", {unit: Decimal(amount) for unit, amount in units.items()})
        self.append(**audit_fields([row]), basis={})

    def new(self):
        """Return what was appended since the last call."""
        lines, self.lines = self.lines, []
        return lines


def rate(record):
    """Return one charge of a cent per record."""
    return [SimpleNamespace(cost=Decimal("0.01"), currency="USD")] if record.quantities else []


@pytest.fixture
def spooled():
    """Give an empty spool."""
    return Spooled()


def test_shares_of_records_add_up_to_one(spooled):
    """A record is as good as the worst of its quantities."""
    spooled.append()
    spooled.append(basis={})
    both = {"quantities": {"characters": "9", "input_tokens": "3"}}
    spooled.append(**both, basis={"characters": "observed", "input_tokens": "reported"})
    spooled.append(**both, basis={"characters": "observed", "input_tokens": "lower_bound"})
    found = Totals(spooled, rate).summary(None)
    shares = (found.reported_share, found.observed_share, found.estimated_share)
    assert shares == (Decimal("0.5"), Decimal("0.25"), Decimal("0.25"))
    (row,) = found.rows
    assert (row.reported_records, row.observed_records, row.estimated_records, row.records) == (2, 1, 1, 4)


def test_what_livekit_missed_is_unknown_until_a_session_ends(spooled):
    """None, not nothing; after the audit record it is by unit, for the session and for the process."""
    totals = Totals(spooled, rate)
    spooled.append()
    spooled.append(outcome="interrupted", quantities={"output_tokens": "16"}, basis={"output_tokens": "estimated"})
    spooled.append(session_id="ses-2")
    assert totals.summary(None).livekit_missed is None
    spooled.audit(output_tokens=20)
    assert totals.summary("ses-1").livekit_missed == totals.summary(None).livekit_missed == {"output_tokens": 16}
    assert totals.summary("ses-2").livekit_missed is None


def test_an_audit_record_is_no_work(spooled):
    """It counts as no record, and leaves none unpriced."""
    spooled.append()
    spooled.audit(output_tokens=20)
    found = Totals(spooled, rate).summary(None)
    assert (found.records, found.unpriced_share, found.livekit_missed) == (1, 0, {})


def test_work_thrown_away_later_is_counted_once(spooled):
    """The record that says so has no quantity and is no work of its own."""
    spooled.append()
    spooled.append(outcome="discarded", quantities={"output_tokens": "0"})
    found = Totals(spooled, rate).summary("ses-1")
    assert (found.records, found.rows[0].quantities, found.cost) == (1, {"output_tokens": 20}, {"USD": Decimal("0.01")})


def test_work_of_the_same_job_outside_the_session_is_missed(spooled):
    """LiveKit's session cannot have seen it; another job's is none of this session's business."""
    spooled.append(session_id=None)
    spooled.append(session_id=None, job_id="job-2")
    spooled.append()
    spooled.audit(output_tokens=20)
    totals = Totals(spooled, rate)
    assert totals.summary("ses-1").livekit_missed == {"output_tokens": 20}
    recorded, livekit = totals.audited("ses-1")
    assert [row.units for row in livekit] == [{"output_tokens": 20}]
    assert sum(recorded.amounts["llm", "openai", "gpt-4o-mini"]["output_tokens"].values()) == 40


def test_auditing_needs_no_prices(spooled):
    """No record is rated before somebody asks for a summary, and then each is rated once."""
    rated = []

    def counted(record):
        rated.append(record.id)
        return rate(record)

    totals = Totals(spooled, counted)
    spooled.append()
    spooled.audit(output_tokens=20)
    assert totals.audited("ses-1")[1] is not None
    assert rated == []
    assert totals.summary(None).records == totals.summary(None).records == 1
    assert rated == ["seg-1"]


def test_a_session_closed_twice_adds_up(spooled):
    """LiveKit begins to count anew when a session is started again."""
    spooled.append()
    spooled.audit(output_tokens=15)
    spooled.append()
    spooled.audit(output_tokens=20)
    assert Totals(spooled, rate).summary("ses-1").livekit_missed == {"output_tokens": 5}


def test_what_waits_for_a_price_is_bounded(spooled, monkeypatch):
    """Where nobody asks for a summary, the oldest records are let go, and a later summary says so."""
    monkeypatch.setattr(module, "_KEPT_LINES", 2)
    totals = Totals(spooled, rate)
    for _ in range(3):
        spooled.append()
        totals.audited("ses-1")
    found = totals.summary(None)
    assert (found.records, found.complete) == (2, False)
    assert sum(totals.audited("ses-1")[0].amounts["llm", "openai", "gpt-4o-mini"]["output_tokens"].values()) == 60


def test_an_audit_record_that_cannot_be_read_is_said(spooled, caplog):
    """It leaves the session without LiveKit's side, and costs nothing else."""
    spooled.append()
    spooled.append(component="call", quantities={}, attributes={"livekit": "made up"})
    found = Totals(spooled, rate).summary("ses-1")
    assert (found.records, found.livekit_missed) == (1, None)
    assert "an audit record cannot be read" in caplog.text
