"""
A private event loop in a daemon thread, for a client library that is asynchronous.

Invariant: `run` and `stop` come back in time, whatever the library, the network or the resolver do. The
loop runs between calls too, so that the library answers the store's pings. What hangs is left behind in its daemon
thread, which keeps no process alive; there is no executor, whose threads would.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

from livekit_costmeter.delivery.sinks.deadline import in_thread
from livekit_costmeter.log import log

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Work = Callable[[], Coroutine[Any, Any, T]]
_GOODBYE = 1.0
_GRACE = 0.5


class _Loop(asyncio.SelectorEventLoop):
    """Looks up names, and does what else blocks, in daemon threads.

    An executor's threads keep a process from ending while they hang, and it takes no work while the process ends.
    """

    def run_in_executor(  # the names are asyncio's
        self,
        executor: Executor | None,  # noqa: ARG002
        func: Callable[[*Ts], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        return asyncio.wrap_future(in_thread(partial(func, *args)), loop=self)


class PrivateLoop:
    """Runs coroutines for a thread that is not asynchronous."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = _Loop()
        self._loop.set_exception_handler(self._hear)
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop itself, for a library that wants to be given one."""
        return self._loop

    def run(self, work: Work[T], timeout: float) -> T:
        """Run `work()` on the loop and return its result.

        Raises:
            TimeoutError: It took longer than `timeout` seconds; it was cancelled.
            Exception: What the work raised.
        """
        future = asyncio.run_coroutine_threadsafe(_begin(work), self._loop)
        try:
            return future.result(timeout)
        except TimeoutError:
            future.cancel()
            raise

    def stop(self, goodbye: Work[Any] | None = None, *, wait: bool = True) -> None:
        """Run `goodbye()` and end the loop, within a second and a half; without `wait` only ask for it."""
        if not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._end(goodbye), self._loop)
        if wait:
            self._thread.join(_GOODBYE + _GRACE)

    async def _end(self, goodbye: Work[Any] | None) -> None:
        try:
            if goodbye is not None:
                await asyncio.wait_for(goodbye(), _GOODBYE)
        except Exception as error:
            # The connection is being given up, however the other side takes it.
            log().debug("a client library did not disconnect in order", thread=self._name, error=type(error).__name__)
        finally:
            self._loop.stop()

    def _serve(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(_give_up_the_rest())
        self._loop.close()

    def _hear(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # Only the kind: the text may quote an address with its password.
        error = context.get("exception")
        log().debug("a client library left an error behind", thread=self._name, error=type(error).__name__)


async def _give_up_the_rest() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


async def _begin(work: Work[T]) -> T:
    return await work()


def plain_reason(error: BaseException) -> str:
    """Say what the operating system says, where it is behind the error; asyncio hides that in its own words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):  # an OSError too, but its number is OpenSSL's
            if said := getattr(cause, "verify_message", None) or getattr(cause, "reason", None):
                return f"TLS: {said}"
        elif isinstance(cause, OSError) and (cause.errno or 0) > 0:
            return os.strerror(cause.errno or 0)
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
