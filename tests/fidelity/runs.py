"""
Runs of the cases, several at a time: each in a process that meters nothing else while it plays.

Invariant: fresh, a case has a meter that has seen no call before; practised, one that read what was learned from normal
calls on the same models, and from nothing else. A case that fails to play fails where its result is asked for, and
nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Self

from livekit_costmeter.metering.estimates import Calibration
from tests.fidelity.case import Result, play
from tests.fidelity.cases import CASES
from tests.fidelity.practice import practise
from tests.fidelity.stage import COMPRESSED, metered

_AT_A_TIME = 4
_BY_CODE = {case.code: case for case in CASES}


class Runs:
    """Results of cases, each played once, in processes of their own; use it as a context."""

    def __init__(self, *, speed: float = COMPRESSED) -> None:
        self._speed = speed
        self._pool = ProcessPoolExecutor(_AT_A_TIME, get_context("spawn"), initializer=_be_quiet)
        self._futures: dict[tuple[str, bool], Future[Result]] = {}
        self._directory = tempfile.TemporaryDirectory(prefix="fidelity-")
        self._lessons: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._directory.cleanup()

    def begin(self, codes: Iterable[str], *, practised: bool = False) -> None:
        """Begin to play the cases of these codes, unless they have begun."""
        lessons = self._learned() if practised else None
        for code in codes:
            if (code, practised) not in self._futures:
                self._futures[code, practised] = self._pool.submit(_play, code, self._speed, lessons)

    def result(self, code: str, *, practised: bool = False) -> Result:
        """Return what a case comes to, as soon as it is known."""
        self.begin([code], practised=practised)
        return self._futures[code, practised].result()

    def _learned(self) -> Path:
        if self._lessons is None:
            self._lessons = Path(self._directory.name) / "calibration.json"
            self._pool.submit(_practise, self._lessons).result()
        return self._lessons

    def as_they_end(self) -> Iterator[str]:
        """Yield the code of each case when it has been played."""
        codes = {future: code for (code, _), future in self._futures.items()}
        for future in as_completed(codes):
            yield codes[future]


def _be_quiet() -> None:
    for name in ("livekit", "asyncio", "openai"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # most cases are about what goes wrong


def _play(code: str, speed: float, lessons: Path | None) -> Result:
    async def alone() -> Result:
        with metered(Calibration(lessons)) as kept:
            return await play(_BY_CODE[code], kept, speed=speed)

    return asyncio.run(alone())


def _practise(lessons: Path) -> None:
    learned = Calibration(lessons)

    async def normal_calls() -> None:
        with metered(learned):
            await practise()

    asyncio.run(normal_calls())
    learned.save()
