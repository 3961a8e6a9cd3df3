"""
A server in a process of its own, on a free port of loopback.

Invariant: it is known by the process id that it was started with; started again, it has the same port and directory.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


class Engine:
    """`make_command(port, directory)` returns its command line."""

    def __init__(self, make_command: Callable[[int, Path], Iterable[Any]], directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._command = [str(part) for part in make_command(self.port, directory)]
        self.start()

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        with (self.directory / "log").open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output, cwd=self.directory)
        deadline = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline, f"{self._command[0]} does not answer"
            time.sleep(0.02)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def pause(self) -> None:
        """Let it hang: it is there and says nothing."""
        os.kill(self._process.pid, signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # its threads stop one by one

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
