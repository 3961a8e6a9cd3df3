"""The private event loop of asynchronous client libraries."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from livekit_costmeter.delivery.sinks.private_loop import PrivateLoop, plain_reason


@pytest.fixture
def loop():
    """Give a running loop."""
    running = PrivateLoop("test-loop")
    yield running
    running.stop()


async def where():
    return threading.current_thread().name, threading.current_thread().daemon


async def forever():
    await asyncio.Event().wait()


async def failing():
    raise KeyError("gone")


def test_work_runs_in_a_daemon_thread(loop):
    """What hangs in a library keeps no process from ending."""
    assert loop.run(where, 5) == ("test-loop", True)


def test_errors_of_the_work_arrive(loop):
    """The caller sees what the library raised."""
    with pytest.raises(KeyError, match="gone"):
        loop.run(failing, 5)


def test_time_that_is_up_ends_the_wait(loop):
    """Work that takes too long is cancelled, and the loop goes on."""
    with pytest.raises(TimeoutError):
        loop.run(forever, 0.01)
    assert loop.run(where, 5)


def test_loop_that_is_blocked_holds_nobody_up():
    """Even a library that blocks the whole loop costs no more than the time given."""
    release = threading.Event()

    async def blocking():
        release.wait(20)

    blocked = PrivateLoop("blocked-loop")
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        blocked.run(blocking, 0.05)
    blocked.stop(forever)
    assert time.monotonic() - started < 5
    release.set()


def test_stop_says_goodbye_and_ends_the_thread(loop):
    """Closing a connection in order is part of stopping."""
    said = []

    async def goodbye():
        said.append("goodbye")

    loop.stop(goodbye)
    assert said == ["goodbye"]
    assert not any(thread.name == "test-loop" for thread in threading.enumerate())


def test_goodbye_that_fails_or_hangs_does_not_matter():
    """The connection is given up either way."""
    for goodbye in (failing, forever):
        ending = PrivateLoop("ending-loop")
        ending.stop(goodbye)
    assert not any(thread.name == "ending-loop" for thread in threading.enumerate())


def test_process_ends_while_the_resolver_hangs():
    """A name that is being looked up keeps no finished process alive."""
    code = (
        "import asyncio, socket, time\n"
        "from livekit_costmeter.delivery.sinks.private_loop import PrivateLoop\n"
        "socket.getaddrinfo = lambda *a, **k: time.sleep(60)\n"
        "try:\n    PrivateLoop('x').run(lambda: asyncio.open_connection('store.example', 1), 0.1)\n"
        "except TimeoutError:\n    print('on time')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "on time\n"


def test_reason_is_what_the_operating_system_says():
    """`Connect call failed ('127.0.0.1', 1)` is no way to say that a connection was refused."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - whichever it is
        asyncio.run(asyncio.open_connection("127.0.0.1", 1))
    assert plain_reason(caught.value) == "Connection refused"
    assert plain_reason(ValueError("other")) == "other"
    assert plain_reason(ValueError()) == "ValueError"
