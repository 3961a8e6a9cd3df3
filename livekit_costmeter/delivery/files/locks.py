"""
The lock of a spool directory, and what a forked child does with descriptors it inherits.

Invariant: at most one process holds `<directory>/ship.lock` (`flock`, freed by the kernel when its holder dies). A
child never keeps a lock of its parent alive and never frees it: closing an inherited descriptor leaves the lock with
the parent, unlocking it would not.
"""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

_POLL = 0.05


class ForkAware(Protocol):
    """Something that holds descriptors which must not live on in a forked child."""

    def after_fork(self) -> None:
        """Close inherited descriptors and start afresh; called in the child, where no other thread runs."""


_aware: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def watch_forks(holder: ForkAware) -> None:
    """Have `holder.after_fork()` called in every forked child for as long as the holder exists."""
    _aware.add(holder)


def _in_child() -> None:
    for holder in list(_aware):
        holder.after_fork()


os.register_at_fork(after_in_child=_in_child)


class ShipLock:
    """The right to rate, send and delete in one spool directory."""

    def __init__(
        self,
        directory: Path,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._directory = directory
        self._monotonic = monotonic
        self._sleep = sleep
        self._descriptor: int | None = None
        watch_forks(self)

    @property
    def held(self) -> bool:
        """Tell whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self, wait: float = 0.0) -> bool:
        """Take the lock, trying for up to `wait` seconds; tell whether it is held now.

        Raises:
            OSError: The directory cannot be written.
        """
        deadline = self._monotonic() + wait
        while not self.held and not self._try():
            if self._monotonic() >= deadline:
                return False
            self._sleep(_POLL)
        return True

    def _try(self) -> bool:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._directory / "ship.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        if not _lock(descriptor):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Free the lock; idempotent."""
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None

    def stands(self) -> bool:
        """Tell whether what is held is still the lock of the directory, which somebody may have removed or replaced."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), (self._directory / "ship.lock").stat())
        except OSError:
            return False

    def is_free(self) -> bool:
        """Tell whether nobody ships here."""
        try:
            descriptor = os.open(self._directory / "ship.lock", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            return _lock(descriptor)
        finally:
            os.close(descriptor)

    def after_fork(self) -> None:
        """Let go of the inherited descriptor without freeing the parent's lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
