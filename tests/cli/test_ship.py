"""`costmeter ship`: what waits is delivered, once, and what cannot be is said."""

from __future__ import annotations

import json
from pathlib import Path

from livekit_costmeter.delivery import Spool, list_segments
from livekit_costmeter.delivery.files.locks import ShipLock


def test_what_waits_is_delivered_once(project, spool, run, usage):
    """Every sink gets every charge; the second time nothing is left to do. Messages are no results."""
    spool(json.loads(usage()))
    first, second = run("ship"), run("ship")
    assert first.exit_code == second.exit_code == 0
    assert "shipped 1 records, 2 charges (rows taken: sqlite 2, lines 2, screen 2)" in first.stderr
    assert "shipped 0 records, 0 charges" in second.stderr
    assert second.stdout == ""
    assert len(run("export").stdout.splitlines()) == 2


def test_a_sink_that_is_away_is_owed_and_gets_it_later(project, spool, run, usage):
    """Exit code 1 and the reason; the others are served, and once it is back it gets its share."""
    Path("costmeter.yaml").write_text(
        "pricing: {catalogs: []}\n"
        "sinks:\n"
        "  - {name: away, type: jsonl, path: ./later/charges.jsonl}\n"
        "  - {name: here, type: jsonl, path: ./charges.jsonl}\n"
    )
    spool(json.loads(usage()))
    result = run("ship")
    assert result.exit_code == 1
    assert "costmeter: away is still owed: " in result.stderr
    assert len(run("export", "--sink", "here").stdout.splitlines()) == 2
    Path("later").mkdir()
    assert run("ship").exit_code == 0
    assert run("export", "--sink", "away").stdout == run("export", "--sink", "here").stdout


def test_records_that_cannot_be_priced_at_all_are_set_aside_and_said(project, spool, run, usage):
    """A line that is no usage record does not hold up the others, and the exit code tells."""
    spool({"nonsense": True}, json.loads(usage()))
    result = run("ship")
    assert result.exit_code == 1
    assert "costmeter: 1 records set aside in dead/" in result.stderr
    assert len(run("export").stdout.splitlines()) == 2


def test_a_second_shipper_says_so_and_leaves(project, run):
    """One process holds a spool directory; that another does is fine."""
    lock = ShipLock(project / ".costmeter/spool")
    assert lock.acquire()
    try:
        result = run("ship", "--wait", "0")
    finally:
        lock.release()
    assert result.exit_code == 0
    assert result.stderr == f"costmeter: another process ships {project / '.costmeter/spool'}\n"
    assert not (project / "costmeter.db").exists()


def test_a_wrong_rate_card_stops_before_anything_is_shipped(project, spool, run, usage):
    """Usage waits for the mended card and is priced with that."""
    spool(json.loads(usage()))
    good = Path("rates.yaml").read_text()
    Path("rates.yaml").write_text(good.replace("price:", "prize:"))
    result = run("ship")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "rates.yaml:3: rates[0].prize: unknown key" in result.stderr
    assert not (project / "costmeter.db").exists()
    Path("rates.yaml").write_text(good)
    assert run("ship").exit_code == 0
    assert "unpriced" not in run("report").stdout


def test_waiting_for_less_than_no_time_is_refused(project, run):
    """A negative `--wait` is a mistake."""
    result = run("ship", "--wait", "-1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--wait" in result.stderr


def test_a_sink_that_was_taken_out_is_owed_until_it_is_let_go_of(project, spool, run, usage):
    """A changed configuration deletes nothing that is owed; only the operator does, and is told how much it was."""
    owed = Spool(project / ".costmeter/spool", header={"sinks": ["lines", "old"]}, max_bytes=1 << 30)
    owed.append(usage().rstrip().encode()[1:])
    owed.close()
    result = run("ship")
    assert (result.exit_code, list_segments(project / ".costmeter/spool") != []) == (1, True)
    assert "costmeter: old is still owed: not configured" in result.stderr
    result = run("ship", "--forget-sink", "old", "--forget-sink", "older")
    assert result.exit_code == 0
    assert "costmeter: let go of old, which was owed 1 records" in result.stderr
    assert "costmeter: nothing is owed to older" in result.stderr
    assert list_segments(project / ".costmeter/spool") == []


def test_dead_letters_are_put_back_on_request(project, spool, run, usage):
    """What could not be read is tried again, and without any there is a word."""
    assert "costmeter: there are no dead letters" in run("ship", "--retry-dead").stderr
    spool({"nonsense": True}, json.loads(usage()))
    assert run("ship").exit_code == 1
    result = run("ship", "--retry-dead")
    assert result.exit_code == 1
    assert "costmeter: 1 dead letters put back" in result.stderr
    assert "costmeter: 1 records set aside in dead/" in result.stderr


def test_what_is_asked_for_while_another_process_ships_is_left_to_it(project, spool, run):
    """The request lies in the spool, and it is said who heeds it."""
    spool({"nonsense": True})
    run("ship")
    lock = ShipLock(project / ".costmeter/spool")
    assert lock.acquire()
    try:
        result = run("ship", "--wait", "0", "--retry-dead")
    finally:
        lock.release()
    assert result.exit_code == 0
    assert result.stderr.endswith("; it heeds what was asked for\n")
    assert "1 dead letters put back" in run("ship").stderr
