"""
The daemon behind `costmeter ship --watch`: ships, or waits for its turn, until it is told to stop.

Invariant: a stop (SIGTERM, SIGINT) makes a last pass within the deadline and is no failure, whatever is left in the
spool by then; what is left is said. Configuration and rate cards are read once, and a change on disk is said, too.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

from livekit_costmeter.config import Config
from livekit_costmeter.delivery import Shipper, pending
from livekit_costmeter.delivery.files.status import Status, read_status
from livekit_costmeter.log import LOGGER_NAME, log

_TICK = 0.2
_LOOK_EVERY = 5.0
_TELL_EVERY = 60.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def watch_spool(config: Config, shipper: Shipper, *, deadline: float) -> None:
    """Ship until a signal says stop, then for at most `deadline` seconds more."""
    with stop_signals() as told, _display() as show:
        watch = _Watch(config, shipper)
        log().info("watching the spool", directory=str(config.spool_directory), sinks=",".join(_names(config)))
        shipper.start()
        while not told():
            time.sleep(_TICK)
            show(watch.look())
        log().info("stopping after a last pass", deadline=deadline)
        ended = shipper.stop(deadline)
        left = pending(config.spool_directory).records
        log().info("stopped" if ended else "stopped at the deadline", waiting=left)


def _names(config: Config) -> list[str]:
    return [sink.name for sink in config.sinks]


class _Watch:
    """What there is to say while it runs."""

    def __init__(self, config: Config, shipper: Shipper, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._directory = config.spool_directory
        self._shipper = shipper
        self._monotonic = monotonic
        self._held: bool | None = None
        self._looked_at = self._told_at = monotonic()
        cards = [config.directory / path for path in config.settings.pricing.rate_cards]
        self._files = [*([config.document.path] if config.document else []), *cards]
        self._read = _digests(self._files)
        self._status: Status | None = None
        self._told: object = None

    def look(self) -> str:
        """Log what has changed, and return a line on how things stand."""
        now = self._monotonic()
        self._say_whose_turn(now)
        if now - self._looked_at >= _LOOK_EVERY or self._status is None:
            self._looked_at = now
            self._status = read_status(self._directory)
            self._say_what_changed_on_disk()
        if now - self._told_at >= _TELL_EVERY:
            self._told_at = now
            self._say_how_it_goes()
        return self.line()

    def _say_whose_turn(self, now: float) -> None:
        held = self._shipper.lock.held
        if held == self._held or (not held and self._held is None and now - self._told_at < 1):
            return
        self._held = held
        if held:
            log().info("shipping")
        else:
            log().info("another process ships this spool; waiting for its turn")

    def _say_what_changed_on_disk(self) -> None:
        found = _digests(self._files)
        for path, digest in found.items():
            if digest != self._read[path]:
                log().warning("changed on disk; it counts after a restart", path=str(path))
        self._read = found

    def _say_how_it_goes(self) -> None:
        if self._status is None or self._status.sinks == self._told:
            return
        self._told = self._status.sinks
        for name, sink in self._status.sinks.items():
            log().info(
                "delivery",
                sink=name,
                records=sink.records,
                pending_bytes=sink.pending_bytes,
                retries=sink.retries,
                rejected=sink.rejected,
            )

    def line(self) -> str:
        """Return one line on how things stand."""
        turn = "shipping" if self._held else "waiting for its turn"
        if self._status is None:
            return turn
        sinks = (
            f"{name}: {sink.records} records, {sink.pending_bytes / 1e6:.1f} MB pending"
            for name, sink in self._status.sinks.items()
        )
        return " | ".join([turn, *sinks])


def _digests(paths: list[Path]) -> dict[Path, bytes]:
    return {path: _digest(path) for path in paths}


def _digest(path: Path) -> bytes:
    try:
        return blake2b(path.read_bytes()).digest()
    except OSError:
        return b""


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether a signal came; the second one has its usual effect."""
    came: list[int] = []

    def note(number: int, _frame: Any) -> None:
        came.append(number)
        signal.signal(number, before[number])

    # A note, looked at in turns: whatever wakes a thread may be in use by it when the signal comes.
    before: dict[int, Any] = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _display() -> Iterator[Callable[[str], None]]:
    """Have log lines on stderr, and on a terminal a status line below them."""
    logger = logging.getLogger(LOGGER_NAME)
    if not sys.stderr.isatty():
        with _logging(logger, _plain_handler()):
            yield lambda _: None
        return
    from rich.console import Console
    from rich.logging import RichHandler

    console = Console(stderr=True)
    with _logging(logger, RichHandler(console=console, show_path=False)), console.status("starting") as status:
        yield status.update


def _plain_handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return handler


@contextmanager
def _logging(logger: logging.Logger, handler: logging.Handler) -> Iterator[None]:
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
