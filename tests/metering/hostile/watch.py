"""
Watching a script run: all that an agent, its loop and its interpreter can tell of it.

Invariant: nothing here depends on a clock or on the machine's speed; two runs of one script compare equal.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import selectors
import sys
import warnings
from dataclasses import dataclass, field


class Loop(asyncio.SelectorEventLoop):
    """Time passes only while nothing is ready to run; each turn notes the tasks that are alive."""

    def __init__(self):
        super().__init__(selectors.DefaultSelector())
        self.now, self.turns, self.tasks = 0.0, 0, []
        self._select, self._selector.select = self._selector.select, self._pass

    def time(self):
        return self.now

    def _pass(self, timeout=None):
        if timeout is None:
            raise RuntimeError("nothing will ever happen again")
        self.now += timeout
        self.turns += 1
        names = sorted(task.get_name() for task in asyncio.all_tasks(self))
        if self.tasks[-1:] != [names]:
            self.tasks.append(names)
        return self._select(0)


@dataclass
class Seen:
    """All that an agent, its loop and its interpreter can tell of one run."""

    told: list = field(default_factory=list)
    complaints: list = field(default_factory=list)
    tasks: list = field(default_factory=list)
    clock: tuple = ()
    kept: list = field(default_factory=list)

    def tell(self, what, value=None):
        detail = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else value
        self.told.append((asyncio.get_running_loop().time(), what, detail))


def watch(script) -> Seen:
    """Run a script on a loop of its own, without the cyclic collector, and let go of all that it made."""
    seen, loop, made = Seen(), Loop(), []
    first = asyncio.Task(asyncio.sleep(0), loop=loop)
    loop.run_until_complete(first)
    loop.set_exception_handler(lambda _loop, context: seen.complaints.append(str(context["message"])))
    with warnings.catch_warnings(record=True) as caught, complaining(seen):
        gc.disable()
        gc.freeze()
        try:
            loop.run_until_complete(script(seen, made.append))
            seen.kept.append([ref() is None for ref in made])
            seen.clock = (loop.turns, loop.now)
            loop.close()
            seen.kept.append([ref() is None for ref in made])
        finally:
            gc.enable()
        gc.collect()
        gc.unfreeze()
    seen.kept.append([ref() is None for ref in made])
    seen.complaints += [f"{warning.category.__name__}: {warning.message}" for warning in caught]
    seen.complaints = [re.sub(r"0x\w+|Task-\d+", "", complaint) for complaint in seen.complaints]
    born = int(first.get_name().removeprefix("Task-"))
    seen.tasks = [
        sorted(re.sub(r"\d+", lambda n: str(int(n[0]) - born), name) for name in names) for names in loop.tasks
    ]
    return seen


class complaining(logging.Handler):  # noqa: N801 - a context, used as one
    """Takes down what is logged, and what could not be raised."""

    def __init__(self, seen):
        super().__init__(logging.INFO)
        self.seen = seen

    def emit(self, record):
        if record.name != "livekit.costmeter":
            self.seen.complaints.append(f"{record.name}: {record.getMessage()}")

    def __enter__(self):
        self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        logging.getLogger("livekit").addHandler(self)

    def __exit__(self, *_):
        sys.unraisablehook = self._hook
        logging.getLogger("livekit").removeHandler(self)

    def _unraisable(self, unraisable):
        self.seen.complaints.append(f"{type(unraisable.exc_value).__name__}: {unraisable.exc_value}")
