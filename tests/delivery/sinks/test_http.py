"""Charges as CloudEvents over HTTP, to a real server."""

import ast
import dataclasses
import hashlib
import hmac
import json
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError, SinkError, find_sink
from livekit_costmeter.delivery.sinks import http as module
from livekit_costmeter.delivery.sinks.http import HttpSink
from livekit_costmeter.records import charge_json, parse_charge
from livekit_costmeter.testing.contract import check_sink
from tests.engines.receiver import Receiver

SECRET = "whsec-5f1b9c77a0e4"
TOKEN = "tok-93b1c2d4e5f6"


@pytest.fixture(scope="module")
def server():
    """Run one receiver."""
    receiver = Receiver()
    yield receiver
    receiver.end()


@pytest.fixture
def receiver(server):
    """Give the receiver, as new."""
    server.start()
    server.requests.clear()
    server.script = lambda _request: web.Response(status=204)
    return server


@pytest.fixture
def make_sink(receiver):
    """Make sinks that post to the receiver, closed at the end."""
    made = []

    def make(clock=time.time, sleep=time.sleep, **options):
        options = {"url": f"{receiver.url}/in?key={TOKEN}", "secret": SECRET, "timeout": 3, **options}
        made.append(HttpSink(HttpSink.Options(**options), clock=clock, sleep=sleep))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


def events(receiver):
    """List every event that arrived, repeats included."""
    return [event for request in receiver.requests for event in json.loads(request.body)]


def kept(receiver):
    """Do what a receiver does: keep the first event of each source and id."""
    store = {}
    for event in events(receiver):
        store.setdefault((event["source"], event["id"]), event["data"])
    return [parse_charge(json.dumps(data)) for data in store.values()]


def sent(receiver):
    return [event["id"] for event in events(receiver)]


def answering(*statuses, headers=None):
    """Answer with these in turn, and well after them."""
    left = list(statuses)
    return lambda _request: web.Response(status=left.pop(0), headers=headers) if left else web.Response(status=204)


def refusing(*records, status=422):
    """Refuse each batch that holds one of these records."""

    def script(request):
        if any(event["data"]["record_id"] in records for event in json.loads(request.body)):
            return web.Response(status=status, text="no such account\nin this ledger")
        return web.Response(status=204)

    return script


def test_contract_is_kept(receiver, make_sink):
    """A receiver that tells events apart by source and id has each charge once, every field as it was."""
    check_sink(make_sink, lambda _sink: kept(receiver))


def test_type_is_declared():
    """The YAML's `http` is this sink."""
    assert find_sink("http") is HttpSink


def test_event_is_a_cloudevent(receiver, make_sink, charges):
    """Each event has the attributes of CloudEvents 1.0, and the charge with the bytes that it has in every sink."""
    charge = dataclasses.replace(charges(1)[0], project="support line", account="acme")
    make_sink().write([charge])
    [event] = events(receiver)
    assert event["data"] == json.loads(charge_json(charge))
    assert charge_json(charge) in receiver.requests[0].body
    del event["data"]
    assert event == {
        "specversion": "1.0",
        "type": "dev.livekit-costmeter.charge.v1",
        "source": "/livekit-costmeter/support%20line",
        "id": f"{charge.record_id}:{charge.line}",
        "subject": "acme",
        "time": "2026-11-20T18:00:00.000000Z",
        "datacontenttype": "application/json",
    }


def test_unknown_project_and_account_are_left_out(receiver, make_sink, charges):
    """What is not known is not made up: no empty subject, no project in the source."""
    make_sink(source="urn:costs").write([dataclasses.replace(charges(1)[0], project=None, account=None)])
    [event] = events(receiver)
    assert event["source"] == "urn:costs"
    assert "subject" not in event


@pytest.mark.parametrize("zipped", [True, False])
def test_request_says_what_it_is(receiver, make_sink, charges, zipped):
    """Content type, encoding, and the digest of the batch as idempotency key, the same for the same batch."""
    sink = make_sink(gzip=zipped, headers={"Authorization": f"Bearer {TOKEN}"})
    sink.write(charges(1))
    sink.write(charges(1))
    first, second = receiver.requests
    assert first.headers["Content-Type"] == "application/cloudevents-batch+json"
    assert first.headers.get("Content-Encoding") == ("gzip" if zipped else None)
    assert first.headers["Idempotency-Key"] == hashlib.sha256(first.body).hexdigest()
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.headers["Authorization"] == f"Bearer {TOKEN}"


def documented_recipe():
    """Take the function that the module's documentation gives to receivers."""
    text = ast.get_docstring(ast.parse(Path(module.__file__).read_text()))
    begin = text.index("    def verify(")
    lines = text[begin : text.index("\n\n", begin)].split("\n")
    space = {"hmac": hmac, "hashlib": hashlib}
    exec("\n".join(line[4:] for line in lines), space)
    return space["verify"]


def test_signature_is_verified_as_documented(receiver, make_sink, charges):
    """The recipe accepts what the sink signed, and neither another body, nor another secret, nor an old request."""
    make_sink(clock=lambda: 1_790_000_000.5).write(charges(1))
    [request] = receiver.requests
    header, verify = request.headers["Costmeter-Signature"], documented_recipe()
    assert header.startswith("t=1790000000,v1=")
    assert verify(header, request.body, SECRET, now=1_790_000_100)
    assert not verify(header, request.body + b" ", SECRET, now=1_790_000_100)
    assert not verify(header, request.body, SECRET + "x", now=1_790_000_100)
    assert not verify(header, request.body, SECRET, now=1_790_001_000)
    assert not verify(header.replace("t=1790000000", "t=1790000900"), request.body, SECRET, now=1_790_001_000)


def test_without_a_secret_nothing_is_signed(receiver, make_sink, charges):
    """A signature that nobody can verify is not sent."""
    make_sink(secret=None).write(charges(1))
    assert "Costmeter-Signature" not in receiver.requests[0].headers


def test_batches_keep_records_whole(receiver, make_sink, charges):
    """A request has about so many events as configured, and all rows of its records."""
    make_sink(batch_events=3).write(charges(4))
    batches = [[event["data"]["record_id"] for event in json.loads(request.body)] for request in receiver.requests]
    assert batches == [[f"seg-{n}"] * 2 for n in range(4)]


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_success_is_a_commit(receiver, make_sink, charges, status):
    """Any 2xx commits the batch, with one request."""
    receiver.script = answering(status)
    make_sink().write(charges(2))
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 408, 409, 425, 429, 500, 502, 503, 504, 507])
def test_what_an_operator_mends_is_retryable(receiver, make_sink, charges, status):
    """No record is given up because of rights, addresses, quotas or a server that is out of order."""
    receiver.script = answering(status)
    sink = make_sink()
    with pytest.raises(RetryableError, match=f"answers {status}"):
        sink.write(charges(2))
    sink.write(charges(2))
    assert len(kept(receiver)) == 4


@pytest.mark.parametrize("status", [400, 422])
def test_refused_record_is_found(receiver, make_sink, charges, status):
    """Of a batch with one bad record, that record is named with the receiver's reason, and the others arrive."""
    receiver.script = refusing("seg-5", status=status)
    with pytest.raises(RejectedRecords) as caught:
        make_sink().write(charges(12))
    assert list(caught.value.rejected) == ["seg-5"]
    assert f"answers {status}: no such account in this ledger" in caught.value.rejected["seg-5"]
    receiver.script = answering()
    make_sink().write([charge for charge in charges(12) if charge.record_id != "seg-5"])
    assert {charge.record_id for charge in kept(receiver)} >= {f"seg-{n}" for n in range(12) if n != 5}


def test_refusal_of_everything_names_every_record(receiver, make_sink, charges):
    """A receiver that takes nothing at all makes dead letters of all, each with its reason."""
    receiver.script = lambda _request: web.Response(status=400)
    with pytest.raises(RejectedRecords) as caught:
        make_sink().write(charges(5))
    assert set(caught.value.rejected) == {f"seg-{n}" for n in range(5)}


def test_refused_record_becomes_a_dead_letter(receiver, make_sink, make_shipper, fill, directory):
    """From the spool on: the refused record is set aside with its reason, all others arrive once, nothing is owed."""
    ids = fill(20)
    receiver.script = refusing(ids[7])
    shipment = make_shipper(sinks={"ledger": make_sink()}).ship_once()
    assert (shipment.rejected, shipment.still_owed, shipment.deleted) == (1, {}, 1)
    [dead] = [path for path in (directory / "dead").iterdir() if path.is_file()]
    assert ids[7] in dead.read_text()
    assert "answers 422: no such account in this ledger" in dead.read_text()
    taken = [json.loads(request.body) for request in receiver.requests if ids[7] not in request.body.decode()]
    assert {event["data"]["record_id"] for batch in taken for event in batch} == {*ids} - {ids[7]}


def test_outage_only_delays(receiver, make_sink, make_shipper, fill):
    """From the spool on: while nobody answers everything is owed, with the reason, and then it arrives once."""
    ids = fill(20)
    receiver.stop()
    shipper = make_shipper(sinks={"ledger": make_sink()})
    assert "refused" in shipper.ship_once().still_owed["ledger"]
    receiver.start()
    assert shipper.ship_once().still_owed == {}
    assert {charge.record_id for charge in kept(receiver)} == {*ids}


def test_readme_has_the_documented_recipe():
    """The two places that tell receivers how to verify say the same."""
    text = ast.get_docstring(ast.parse(Path(module.__file__).read_text()))
    begin = text.index("    def verify(")
    lines = [line[4:] for line in text[begin : text.index("\n\n", begin)].split("\n")]
    assert "\n".join(lines) in (Path(__file__).parents[3] / "README.md").read_text()


def test_too_large_batch_is_split(receiver, make_sink, charges):
    """A 413 halves the batch until it fits; a record that is too large by itself is refused."""
    receiver.script = lambda request: web.Response(status=204 if len(json.loads(request.body)) <= 4 else 413)
    make_sink().write(charges(10))
    assert len(kept(receiver)) == 20
    receiver.script = lambda _request: web.Response(status=413)
    with pytest.raises(RejectedRecords, match="413"):
        make_sink().write(charges(1))


def test_refusals_that_are_known_are_told_when_the_time_is_up(receiver, make_sink, charges):
    """A batch that cannot be sorted out in one go is smaller the next time."""
    count = iter(range(1000))
    receiver.script = lambda _request: web.Response(status=503 if next(count) >= 6 else 422)
    with pytest.raises(RejectedRecords) as caught:
        make_sink().write(charges(8))
    assert 1 <= len(caught.value.rejected) < 8


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(receiver, make_sink, charges, status):
    """The same request comes again after the time that the receiver asks for."""
    slept = []
    receiver.script = answering(status, headers={"Retry-After": "2"})
    make_sink(sleep=slept.append).write(charges(1))
    assert slept == [2.0]
    assert sent(receiver)[:2] == sent(receiver)[2:]


def test_retry_after_may_be_a_date(receiver, make_sink, charges):
    """A date is as good as a number of seconds."""
    slept = []
    now = datetime(2026, 11, 20, 18, tzinfo=UTC)
    receiver.script = answering(503, headers={"Retry-After": format_datetime(now.replace(second=1), usegmt=True)})
    make_sink(clock=now.timestamp, sleep=slept.append).write(charges(1))
    assert slept == [1.0]


@pytest.mark.parametrize("value", ["30", "soon", "Fri, 20 Nov 2099 18:00:00 GMT"])
def test_longer_waits_are_left_to_the_courier(receiver, make_sink, charges, value):
    """What asks for more time than a write has, or does not say how much, fails at once."""
    receiver.script = answering(503, headers={"Retry-After": value})
    with pytest.raises(RetryableError, match="503"):
        make_sink(sleep=pytest.fail).write(charges(1))
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(receiver, make_sink, charges, status):
    """A signed batch goes to no other address than the one configured."""
    receiver.script = answering(status, headers={"Location": f"{receiver.url}/elsewhere"})
    with pytest.raises(RetryableError, match="redirect"):
        make_sink().write(charges(1))
    assert [request.path for request in receiver.requests] == ["/in"]


def test_down_at_start_is_retryable(receiver, make_sink, charges):
    """Nobody listens: the batch waits, and goes when somebody does."""
    receiver.stop()
    sink = make_sink()
    sink.open()
    for attempt in (sink.check, lambda: sink.write(charges(1))):
        with pytest.raises(RetryableError, match=r"127\.0\.0\.1:\d+: .*refused"):
            attempt()
    receiver.start()
    sink.write(charges(1))
    assert len(kept(receiver)) == 2


def test_death_in_the_middle_is_retryable(receiver, make_sink, charges):
    """A connection that ends without an answer commits nothing; the batch comes again."""
    receiver.script = receiver.hang_up
    sink = make_sink()
    with pytest.raises(RetryableError, match="127"):
        sink.write(charges(2))
    receiver.script = answering()
    sink.write(charges(2))
    assert len(kept(receiver)) == 4


def test_restarted_receiver_is_not_noticed(receiver, make_sink, charges):
    """A connection that was closed between two batches costs neither an error nor a row."""
    sink = make_sink()
    sink.write(charges(1))
    receiver.stop()
    receiver.start()
    sink.write(charges(1, first=1))
    assert len(kept(receiver)) == 4


def test_hanging_receiver_holds_nobody_up(receiver, make_sink, charges):
    """Who never answers is given up after `timeout`, `close` does not wait for it, and the next batch connects anew."""
    receiver.script = receiver.hang
    sink = make_sink(timeout=0.3)
    with pytest.raises(RetryableError, match=r"not done within 0\.3 s"):
        sink.write(charges(1))
    sink.close()
    receiver.script = answering()
    make_sink().write(charges(1))
    assert len(kept(receiver)) == 2


def test_dripping_receiver_holds_nobody_up(receiver, make_sink, charges):
    """An answer without an end is not waited for: its status says it all."""
    receiver.script = receiver.drip
    with pytest.raises(RetryableError, match="answers 500"):
        make_sink(timeout=0.3).write(charges(1))


def test_clock_that_steps_back_delays_nothing(receiver, make_sink, charges):
    """Deadlines do not look at the wall clock; the signature bears the time that it is now."""
    times = iter([1_790_000_000.0, 1_780_000_000.0])
    sink = make_sink(clock=lambda: next(times))
    sink.write(charges(1))
    sink.write(charges(1, first=1))
    assert [request.headers["Costmeter-Signature"][:12] for request in receiver.requests] == [
        "t=1790000000",
        "t=1780000000",
    ]
    assert len(kept(receiver)) == 4


def test_two_writers_at_once_make_one_set(receiver, make_sink, charges):
    """Two shippers that send the same rows at the same time give the receiver nothing to count twice."""
    sinks = [make_sink(batch_events=4) for _ in range(2)]
    threads = [threading.Thread(target=sink.write, args=(charges(20),)) for sink in sinks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(sent(receiver)) == 80
    assert len(kept(receiver)) == 40


def test_check_says_what_is_wrong(receiver, make_sink):
    """One line: it takes batches, it does not let us in, it is somewhere else."""
    assert make_sink().check() == f"{receiver.url}: takes batches"
    for status, says in ((401, "answers 401"), (404, "answers 404"), (302, "redirect"), (500, "answers 500")):
        receiver.script = answering(status)
        with pytest.raises(SinkError, match=says):
            make_sink().check()
    receiver.script = answering(400)
    assert "empty" in make_sink().check()


def test_secrets_are_in_no_message(receiver, make_sink, charges):
    """Neither secret, token nor what stands in the address is in an error, a health line or a repr."""

    def echo(request):
        return web.Response(status=500, text=f"you said {request.headers} to /in?key={TOKEN}, we share {SECRET}")

    receiver.script = echo
    sink = make_sink(headers={"Authorization": f"Bearer {TOKEN}"})
    texts = [repr(sink), repr(sink._options), str(sink._options)]
    for attempt in (sink.check, lambda: sink.write(charges(1))):
        with pytest.raises(RetryableError) as caught:
            attempt()
        texts.append(str(caught.value))
    assert "answers 500" in texts[-1]
    assert not [text for text in texts if TOKEN in text or SECRET in text or "\n" in text]


@pytest.fixture
def certificate(tmp_path):
    """Make a certificate for 127.0.0.1 that only its own file vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    made = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "server.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*plain))
    return path


def test_certificate_is_verified(make_sink, charges, certificate):
    """Over TLS, only a server that `ca_file` or the system vouches for gets a batch."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    secure = Receiver(context)
    try:
        sinks = [make_sink(url=secure.url), make_sink(url=secure.url, ca_file=certificate)]
        with pytest.raises(RetryableError, match="TLS: self-signed certificate"):
            sinks[0].write(charges(1))
        assert secure.requests == []
        sinks[1].write(charges(1))
        assert len(kept(secure)) == 2
        for sink in sinks:
            sink.close()
    finally:
        secure.end()


def test_missing_authority_is_said_plainly(make_sink):
    """A `ca_file` that is not there is named as what is missing."""
    with pytest.raises(RetryableError, match="No such file"):
        make_sink(ca_file="nowhere.pem").check()


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "example.com", "https://", f"https://user:{TOKEN}", "http://h:0"]
)
def test_address_is_checked_beforehand(url):
    """What is no web address is refused by the configuration, without quoting it."""
    with pytest.raises(ValidationError, match="begins with https") as caught:
        HttpSink.Options(url=url)
    assert TOKEN not in str(caught.value)
