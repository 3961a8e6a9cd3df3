"""How each quantity is known, and what LiveKit's own usage missed."""

import csv
import io
import json
from datetime import timedelta
from decimal import Decimal

import pytest
from rich.console import Console

from livekit_costmeter.records import LiveKitUsage, SessionAudit
from livekit_costmeter.reporting import audit_csv, audit_json, audit_text, build_audit, print_audit


@pytest.fixture
def said(noon):
    """Return the factory of what LiveKit said of a session: units of one model, by default the one of the charges."""

    def make(session_id="s", component="llm", provider="api.openai.com", model="gpt-4o-mini", start=None, **units):
        row = LiveKitUsage(component, provider, model, {unit: Decimal(amount) for unit, amount in units.items()})
        return SessionAudit(f"audit-{session_id}", noon, start, session_id, None, None, (row,))

    return make


@pytest.fixture
def heard(charge):
    """Return the factory of a speech charge."""

    def make(quantity, **fields):
        defaults = {"component": "tts", "provider": "cartesia", "model": "sonic-3", "reported_provider": "Cartesia"}
        unit = {"reported_model": None, "unit": "characters", "quantity": Decimal(quantity), "session_id": "s"}
        return charge(**{**defaults, **unit, "quantity_basis": "observed", **fields})

    return make


def rows(audit):
    """Return the rows by model and unit."""
    return {(row.work.model, row.unit): row for row in audit.rows}


def test_shares_say_how_the_quantity_is_known(charge):
    """They are of the quantity and add up; an estimate rounds up, and a lower bound is marked."""
    charges = [
        charge(quantity=Decimal(10)),
        charge(quantity=Decimal(3), quantity_basis="observed"),
        charge(quantity=Decimal(1), quantity_basis="estimated"),
        charge(quantity=Decimal(1), quantity_basis="lower_bound", model="gpt-5"),
    ]
    found = rows(build_audit(charges, []))
    row = found["gpt-4o-mini", "input_tokens"]
    assert (row.quantity, row.is_lower_bound) == (14, False)
    shares = (row.reported_share, row.observed_share, row.estimated_share)
    assert shares == (Decimal("0.714286"), Decimal("0.214286"), Decimal("0.071429"))
    assert (found["gpt-5", "input_tokens"].estimated_share, found["gpt-5", "input_tokens"].is_lower_bound) == (1, True)


def test_nothing_measured_has_no_shares(charge):
    """A quantity of zero is known to be zero, but no part of it is."""
    (row,) = build_audit([charge(quantity=Decimal(0))], []).rows
    assert (row.quantity, row.reported_share, row.estimated_share) == (0, None, None)


def test_what_livekit_missed_is_compared_session_by_session(heard, said):
    """Too much in one session does not make up for too little in another: both reasons show."""
    charges = [
        heard(119),
        heard(219, outcome="interrupted"),
        heard(24, session_id="t"),
        heard(1000, session_id="u"),
    ]
    tts = {"component": "tts", "provider": "Cartesia", "model": "sonic-3"}
    audit = build_audit(charges, [said("s", **tts, characters=119), said("t", **tts, characters=44)])
    (row,) = audit.rows
    assert (row.quantity, row.livekit, row.missed) == (1362, 163, 199)
    assert row.missed_share == Decimal("0.549724")  # of the 362 that could be compared
    assert row.reasons == (("not_audited", 1000), ("interrupted", 219), ("double_counted", -20))
    assert (audit.compared_sessions, audit.sessions) == (2, 3)


def test_without_livekits_side_nothing_is_compared(heard):
    """Not known is not zero, and not a hundred per cent either."""
    (row,) = build_audit([heard(119)], []).rows
    assert (row.livekit, row.missed, row.missed_share) == (None, None, None)
    assert row.reasons == (("not_audited", 119),)


def test_a_model_that_livekit_does_not_list_is_missed_without_a_share(heard, said, charge):
    """All of it is missed; there is no figure of LiveKit's to be a part of."""
    charges = [charge(session_id="s"), heard(68, outcome="interrupted")]
    row = rows(build_audit(charges, [said(input_tokens=1000)]))["sonic-3", "characters"]
    assert (row.livekit, row.missed, row.missed_share) == (None, 68, None)
    assert row.reasons == (("interrupted", 68),)


def test_a_model_that_only_livekit_lists_is_there(charge, said):
    """What was not recorded here is no zero, but not known; what has too much is below zero."""
    found = rows(build_audit([charge(session_id="s")], [said(model="gpt-5", input_tokens=9)]))
    row = found["gpt-5", "input_tokens"]
    assert (row.quantity, row.reported_share, row.livekit, row.missed, row.missed_share) == (None, None, 9, -9, None)
    assert row.reasons == (("not_recorded", -9),)


def test_a_unit_without_a_counterpart_is_not_compared(charge, said):
    """LiveKit counts no connection time."""
    charges = [
        charge(session_id="s", component="stt", unit="connection_seconds", quantity=Decimal(9)),
        charge(session_id="other", component="stt", unit="connection_seconds", quantity=Decimal(5)),
    ]
    row = rows(build_audit(charges, [said(input_tokens=9)]))["gpt-4o-mini", "connection_seconds"]
    assert (row.quantity, row.livekit, row.missed, row.reasons) == (14, None, None, (("no_counterpart", 14),))


def test_work_outside_of_sessions_is_missed(charge, said):
    """No session's usage can have it."""
    charges = [charge(session_id="s"), charge(session_id=None, quantity=Decimal(7))]
    (row,) = build_audit(charges, [said(input_tokens=1000)]).rows
    assert (row.livekit, row.missed, row.reasons) == (1000, 7, (("outside_session", 7),))


def test_a_session_that_began_before_the_period_is_not_compared(charge, said, noon):
    """LiveKit's figure is of the whole session, and part of it is not here."""
    audit = said(input_tokens=5000, start=noon - timedelta(hours=1))
    late = build_audit([charge(session_id="s")], [audit], noon)
    assert (late.compared_sessions, late.rows[0].livekit) == (0, None)
    whole = build_audit([charge(session_id="s")], [audit], noon - timedelta(hours=2))
    assert (whole.compared_sessions, whole.rows[0].livekit) == (1, 5000)


def test_a_session_that_is_not_in_the_ledger_is_not_compared(charge, said):
    """Its charges are on their way, or in another ledger."""
    audit = build_audit([charge(session_id="s")], [said(input_tokens=1000), said("elsewhere", input_tokens=7)])
    assert (audit.compared_sessions, audit.rows[0].livekit, audit.rows[0].missed) == (1, 1000, 0)


def test_the_period_is_half_open_and_corrections_measure_nothing(charge, noon):
    """What a later price changes was measured once."""
    charges = [charge(at=noon + timedelta(hours=hour)) for hour in range(3)]
    correction = charge(at=noon + timedelta(hours=1), kind="correction")
    (row,) = build_audit([*charges, correction], [], noon + timedelta(hours=1), noon + timedelta(hours=2)).rows
    assert row.quantity == 1000


@pytest.fixture
def audit(charge, heard, said, noon):
    """Return an audit with a lower bound, a difference, and a figure that only LiveKit has."""
    charges = [
        charge(session_id="s", quantity=Decimal(20)),
        charge(session_id="s", quantity=Decimal(5), outcome="interrupted", quantity_basis="lower_bound"),
        heard("12.50", unit="output_audio_seconds"),
        charge(session_id="s", component="stt", unit="connection_seconds", quantity=Decimal(9)),
    ]
    return build_audit(charges, [said(input_tokens=20), said(model="gpt-5", output_tokens=9)], noon)


def test_plain_text_is_aligned_and_explains_its_words(audit):
    """What is not known is `n/a`, and each reason is spelled out below."""
    lines = audit_text(audit).splitlines()
    header = ["component", "provider", "model", "unit", "quantity", "reported", "observed", "estimated"]
    assert lines[0].split()[:8] == header
    assert lines[1].split()[:4] == ["llm", "api.openai.com", "gpt-5", "output_tokens"]
    assert lines[1].split()[4:] == ["n/a", "n/a", "n/a", "n/a", "9", "-9", "n/a", "not_recorded", "-9"]
    assert lines[2].split()[4:9] == ["25", "80", "%", "0", "%"]
    assert lines[2].endswith(">= 20 %       20       5      20 %  interrupted 5")
    assert lines[3].endswith("no_counterpart")
    assert "interrupted: interrupted work, which LiveKit counts as nothing" in lines
    assert lines[-1] == "compared with LiveKit's own usage: 1 of 1 sessions"


def test_json_is_stable(audit):
    """Decimals as text, null for what only the other side knows, reasons with their words."""
    found = json.loads(audit_json(audit))
    assert (found["since"], found["until"]) == ("2026-11-20T12:00:00.000000Z", None)
    assert (found["sessions"], found["compared_sessions"]) == (1, 1)
    assert found["rows"][1] == {
        "component": "llm",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "unit": "input_tokens",
        "quantity": "25",
        "reported_share": "0.8",
        "observed_share": "0",
        "estimated_share": "0.2",
        "lower_bound": True,
        "livekit": "20",
        "missed": "5",
        "missed_share": "0.2",
        "reasons": [
            {"code": "interrupted", "quantity": "5", "text": "interrupted work, which LiveKit counts as nothing"}
        ],
    }
    assert (found["rows"][0]["quantity"], found["rows"][0]["missed_share"]) == (None, None)
    assert audit_json(audit) == audit_json(audit)


def test_csv_has_the_same_columns(audit):
    """An empty field is not known; reasons are one field."""
    lines = list(csv.DictReader(io.StringIO(audit_csv(audit))))
    columns = list(json.loads(audit_json(audit))["rows"][0])
    assert list(lines[0]) == columns
    assert (lines[0]["quantity"], lines[0]["livekit"], lines[0]["reasons"]) == ("", "9", "not_recorded=-9")
    assert (lines[1]["lower_bound"], lines[1]["reasons"]) == ("true", "interrupted=5")
    assert audit_csv(build_audit([], [])).splitlines() == [",".join(columns)]


def printed(audit, *, width, terminal):
    """Return what a console of this width shows, without colours."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=terminal, color_system=None, legacy_windows=False)
    print_audit(audit, console)
    return stream.getvalue()


def test_a_pipe_gets_plain_text_and_a_terminal_a_table(audit):
    """The same cells and the same words below them."""
    assert printed(audit, width=20, terminal=False) == audit_text(audit)
    table = printed(audit, width=200, terminal=True)
    assert "2026-11-20 12:00 to now, UTC" in table
    assert "interrupted 5" in table
    assert "compared with LiveKit's own usage: 1 of 1 sessions" in table


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_narrow_terminal_loses_columns_but_no_digit(audit, width):
    """Whole columns give way, and are named; numbers stay whole, and all fits."""
    table = printed(audit, width=width, terminal=True)
    assert ">= 20 %" in table
    assert " 12.5 " in table
    assert "no room for: " in table
    assert all(len(line) <= width for line in table.splitlines())


def test_a_hostile_name_breaks_no_line(charge):
    """Text from outside is escaped."""
    text = audit_text(build_audit([charge(model="x\x1b[2J\nforged")], []))
    assert "x\\x1b[2J\\nforged" in text
    assert "\x1b" not in text
