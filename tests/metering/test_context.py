"""Session, job, room, participant, account and labels on a record."""

from __future__ import annotations

import gc
import json
import weakref
from types import SimpleNamespace

import pytest

from livekit_costmeter.metering import ContextRules, Privacy
from livekit_costmeter.metering.context import Scope, Scopes


def job(**changes):
    room = SimpleNamespace(name="call-1", metadata="{}")
    info = {"id": "AJ_1", "metadata": "{}", "agent_name": "support", "room": room}
    return type("Job", (), {"job": SimpleNamespace(**{**info, **changes})})()


def session(participant=None):
    room_io = SimpleNamespace(linked_participant=participant)
    return type("Session", (), {"_room_io": room_io})()


def participant(**attributes):
    return SimpleNamespace(identity="sip_+15551234567", attributes=attributes)


def scope(rules=None, *, of_session=None, of_job=None, privacy="masked"):
    return Scope(
        rules or ContextRules(),
        Privacy(privacy, secret=lambda: b"s"),
        session=of_session,
        job=of_job,
        session_id="ses_1" if of_session else None,
    )


def test_context_comes_from_the_job_and_its_room():
    """Job id and room name are on every record; what is not known is absent."""
    running = job()
    assert scope(of_job=running).current() == {"job_id": "AJ_1", "room": "call-1"}


def test_attribution_follows_paths_into_metadata():
    """Account, project and labels are read out of job, room, participant and agent."""
    rules = ContextRules(
        account_path="job.metadata.customer.tenant",
        project_path="room.metadata.project",
        label_paths={
            "trunk": "participant.attributes.sip.trunkID",
            "agent": "agent.name",
            "none": "job.metadata.no",
        },
    )
    room = SimpleNamespace(name="call-1", metadata=json.dumps({"project": "north"}))
    running = job(metadata=json.dumps({"customer": {"tenant": "acme"}}), room=room)
    talking = session(participant(**{"sip.trunkID": "ST_1"}))
    fields = scope(rules, of_session=talking, of_job=running).current()
    assert (fields["account"], fields["project"]) == ("acme", "north")
    assert fields["labels"] == {"trunk": "ST_1", "agent": "support"}


@pytest.mark.parametrize("metadata", ["", "not json", "[1]", '{"tenant": {"a": 1}}', '{"tenant": null}'])
def test_metadata_that_says_nothing_is_no_account(metadata):
    """Metadata of any other shape never breaks a call; the fixed account remains."""
    rules = ContextRules(account="fallback", account_path="job.metadata.tenant")
    running = job(metadata=metadata)
    assert scope(rules, of_job=running).current()["account"] == "fallback"


def test_what_is_attached_wins_and_merges():
    """The account of attach wins over attribution; labels merge, the later one winning."""
    rules = ContextRules(account_path="job.metadata.tenant", labels={"env": "prod", "campaign": "q3"})
    running = job(metadata='{"tenant": "from-metadata"}')
    one = scope(rules, of_job=running)
    assert one.current()["account"] == "from-metadata"
    one.attach("attached", {"campaign": "q4"})
    one.attach(None, {"agent": "a"})
    assert one.current()["account"] == "attached"
    assert one.current()["labels"] == {"env": "prod", "campaign": "q4", "agent": "a"}


def test_phone_numbers_are_masked_on_their_way_in():
    """Neither participant, room, labels nor account carry a number, unless the configuration says so."""
    rules = ContextRules(label_paths={"from": "participant.attributes.sip.phoneNumber"})
    caller = participant(**{"sip.phoneNumber": "+15551234567"})
    talking, running = session(caller), job(room=SimpleNamespace(name="call-_+15551234567_x", metadata=""))
    one = scope(rules, of_session=talking, of_job=running)
    one.attach("+15551234567", {"callback": "555-123-4567"})
    assert "1234567" not in json.dumps(one.current()).replace("-", "")
    full = scope(rules, of_session=talking, of_job=running, privacy="full")
    assert full.current()["participant"] == "sip_+15551234567"


@pytest.mark.parametrize("mode", ["masked", "hash"])
@pytest.mark.parametrize("number", ["+919812345678", "09812345678", "9812 345 678", "1001", "anonymous-caller"])
def test_what_is_known_to_be_a_number_is_masked_however_it_is_written(mode, number):
    """Also as account or project, and in a national form that anywhere else might be a customer's number."""
    path = "participant.attributes.sip.phoneNumber"
    rules = ContextRules(account_path=path, project_path=path, label_paths={"from": path})
    fields = scope(rules, of_session=session(participant(**{"sip.phoneNumber": number})), privacy=mode).current()
    assert number not in json.dumps(fields)
    assert fields.get("account") == fields.get("project") == fields.get("labels", {}).get("from")
    full = scope(rules, of_session=session(participant(**{"sip.phoneNumber": number})), privacy="full").current()
    assert full["account"] == full["project"] == full["labels"]["from"] == number


def test_a_project_that_is_named_after_a_room_holds_no_number():
    """LiveKit names the rooms of phone calls after their callers."""
    running = job(room=SimpleNamespace(name="call-_+15551234567_x", metadata=""))
    assert scope(ContextRules(project_path="room.name"), of_job=running).current()["project"] == "call-_+*********67_x"


def test_a_participant_who_comes_later_joins_the_scope():
    """Records before have no participant, records after have one."""
    talking = session()
    one = scope(of_session=talking)
    assert "participant" not in one.current()
    talking._room_io.linked_participant = SimpleNamespace(identity="caller", attributes={})
    assert one.current()["participant"] == "caller"


def test_scopes_do_not_keep_sessions_alive():
    """A closed session and its job are freed; nothing is kept per call."""
    scopes = Scopes(ContextRules(), Privacy(secret=lambda: b"s"))
    talking = session()
    scopes.of_session(talking)
    gone = weakref.ref(talking)
    del talking
    gc.collect()
    assert gone() is None
    assert len(scopes._by_session) == 0
