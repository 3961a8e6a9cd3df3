"""The audit sidecar: kept once rated, read once each, and never in the way."""

import os
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from livekit_costmeter.delivery.files.audit import AuditSidecar, current_path, previous_path, read_audits
from livekit_costmeter.delivery.notices import Notices
from livekit_costmeter.delivery.sinks.memory import MemorySink
from livekit_costmeter.records import UsageRecord

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
ROW = {"component": "llm", "provider": "api.openai.com", "model": "m", "units": {"input_tokens": "30"}}


def audit(number=0, *, rows=(ROW,), at=AT):
    """Return an audit record."""
    return UsageRecord(
        f"seg-{number}", at, "call", "livekit", "agents", {}, session_id=f"ses-{number}", account="acme",
        attributes={"livekit": list(rows)},
    )  # fmt: skip


@pytest.fixture
def sidecar(directory):
    """Give a sidecar of a spool directory, which is full after about three records."""
    directory.mkdir()
    return AuditSidecar(directory, notices=Notices(), max_bytes=600)


@pytest.fixture
def append_audit(make_spool, rates):
    """Append two records of usage with an audit record between them, in a segment that is closed."""

    def append():
        spool = make_spool()
        spool.append(rates.body())
        fields = {"component": "call", "provider": "livekit", "model": "agents", "quantities": {}}
        identity = spool.append(rates.body(**fields, session_id="ses-1", attributes={"livekit": [ROW]}))
        spool.append(rates.body())
        spool.close()
        return identity

    return append


def usage_only(rates):
    """Return a rate that charges nothing for what has no quantity, as the real one does."""
    return lambda record: rates.two_charges(record) if record.quantities else []


def test_shipping_keeps_what_livekit_said(append_audit, make_shipper, directory, rates):
    """The audit record makes no charge, goes into the sidecar, and its segment is done with."""
    identity, sink = append_audit(), MemorySink()
    shipment = make_shipper(rate=usage_only(rates), sinks={"ledger": sink}).ship_once()
    assert (shipment.records, shipment.charges, shipment.rejected, shipment.deleted) == (3, 4, 0, 1)
    (found,) = read_audits(directory)
    assert (found.id, found.session_id, found.account, found.project) == (identity, "ses-1", "acme", None)
    assert found.at == datetime(2026, 11, 20, 18, 11, 24, 123456, tzinfo=UTC)
    assert found.livekit[0].units == {"input_tokens": Decimal(30)}
    assert current_path(directory).stat().st_mode & 0o777 == 0o600


def test_a_crash_between_rating_and_acknowledging_loses_nothing(append_audit, make_shipper, directory, rates, away):
    """What was rated by a process that died is rated again; the session is in the sidecar, and is read once."""
    identity = append_audit()
    make_shipper(rate=usage_only(rates), sinks={"ledger": away}).ship_once()
    assert [found.id for found in read_audits(directory)] == [identity]
    charges = next(directory.glob("*.charges"))
    os.truncate(charges, charges.stat().st_size // 2)
    make_shipper(rate=usage_only(rates), sinks={"ledger": MemorySink()}).ship_once()
    assert current_path(directory).read_bytes().count(identity.encode()) == 2
    assert [found.id for found in read_audits(directory)] == [identity]


def test_a_sidecar_that_cannot_be_written_stops_nothing(append_audit, make_shipper, directory, rates, rows, caplog):
    """It is said, and the charges go their way."""
    append_audit()
    current_path(directory).mkdir()
    sink = MemorySink()
    shipment = make_shipper(rate=usage_only(rates), sinks={"ledger": sink}).ship_once()
    assert (len(rows(sink)), shipment.stalled, shipment.deleted) == (4, 0, 1)
    assert "a session's audit cannot be kept, shipping goes on  reason=Is a directory" in caplog.text


def test_a_record_that_says_nonsense_of_livekit_is_said_and_left_out(sidecar, directory, caplog):
    """It stays out of the sidecar, and out of the way."""
    sidecar.keep(audit(1, rows=[{"component": "llm"}]))
    sidecar.keep(audit(2))
    assert [found.session_id for found in read_audits(directory)] == ["ses-2"]
    assert "a session's audit cannot be kept" in caplog.text


def test_usage_is_none_of_its_business(sidecar, directory):
    """Call time is a call's as well, and is no audit."""
    sidecar.keep(UsageRecord("seg-1", AT, "call", "livekit", "agents", {"call_seconds": Decimal(5)}))
    assert not current_path(directory).exists()
    assert read_audits(directory) == []


def test_there_is_nothing_to_read_where_there_is_no_spool(directory):
    """A report on a machine that never metered says so itself."""
    assert read_audits(directory) == []


def test_a_full_sidecar_is_kept_and_the_one_before_it_goes(sidecar, directory):
    """Two files at most; both are read, oldest session first."""
    for number in range(9):
        sidecar.keep(audit(number, at=AT.replace(minute=59 - number)))
    files = {path.name for path in directory.glob("audit*")}
    assert files == {current_path(directory).name, previous_path(directory).name}
    found = [each.session_id for each in read_audits(directory)]
    assert found == sorted(found, reverse=True)
    assert found[0] == "ses-8"
    assert 3 < len(found) < 9
    assert all(path.stat().st_size < 900 for path in directory.glob("audit*"))


def test_half_a_line_takes_no_other_with_it(sidecar, directory, caplog):
    """What a killed shipper left behind is passed over with a warning; the next session begins a line of its own."""
    sidecar.keep(audit(1))
    with current_path(directory).open("ab") as file:
        file.write(b'0badcafe {"id":')
    sidecar.keep(audit(2))
    assert [found.session_id for found in read_audits(directory)] == ["ses-1", "ses-2"]
    assert "lines of the audit sidecar cannot be read" in caplog.text
    assert "lines=1" in caplog.text


def test_a_period_is_half_open(sidecar, directory):
    """A session belongs to the period that it ended in."""
    for hour in (11, 12, 13):
        sidecar.keep(audit(hour, at=AT.replace(hour=hour)))
    found = read_audits(directory, AT, AT.replace(hour=13))
    assert [each.session_id for each in found] == ["ses-12"]
