"""Sinks of a third party that quote their address in whatever they raise."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from livekit_costmeter.delivery.sinks import RejectedRecords


class Leaky:
    """Never opens."""

    class Options(BaseModel):
        """`dsn` of the store."""

        model_config = ConfigDict(extra="forbid")
        dsn: str

    def __init__(self, options):
        self._dsn = options.dsn

    def open(self):
        """Fail as client libraries do: with the address."""
        raise RuntimeError(f'invalid dsn: missing "=" after "{self._dsn}" in connection info string')

    def write(self, charges):
        """Fail too, whatever comes."""
        raise RuntimeError(f"{len(charges)} rows lost at {self._dsn}")

    def check(self):
        """Fail too."""
        self.open()

    def close(self):
        """Let go of nothing."""


class Picky(Leaky):
    """Opens, and refuses every record for good."""

    def open(self):
        """Open."""

    def write(self, charges):
        """Refuse, naming the address."""
        raise RejectedRecords({charge.record_id: f"no such table at {self._dsn}" for charge in charges})


class Unmakeable(Leaky):
    """Fails when it is made."""

    def __init__(self, options):
        super().__init__(options)
        self.open()
