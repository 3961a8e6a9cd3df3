"""
A sink that keeps charges in memory, for tests and examples.

Invariant: one row per (`record_id`, `line`), the first one written; sinks with the same `name` share their rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from livekit_costmeter.records import Charge

Rows = dict[tuple[str, int], Charge]
_SHARED: dict[str, Rows] = {}


class MemorySink:
    """Keep charges in a dictionary; `charges` lists them in the order of arrival."""

    readable = True

    class Options(BaseModel):
        """Under `name`, rows outlive the sink object for as long as the process."""

        model_config = ConfigDict(extra="forbid")
        name: str | None = None

    def __init__(self, options: Options | None = None) -> None:
        name = options.name if options else None
        self._rows: Rows = {} if name is None else _SHARED.setdefault(name, {})

    @property
    def charges(self) -> list[Charge]:
        """Rows in the order of arrival."""
        return list(self._rows.values())

    def open(self) -> None:
        """Need nothing."""

    def write(self, charges: Sequence[Charge]) -> None:
        """Keep the rows that are new."""
        for charge in charges:
            self._rows.setdefault((charge.record_id, charge.line), charge)

    def check(self) -> str:
        """Say how many rows there are."""
        return f"{len(self._rows)} rows in memory"

    def read(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[Charge]:
        """Yield the rows between two instants in the order of arrival."""
        for charge in self.charges:
            if (since is None or charge.at >= since) and (until is None or charge.at < until):
                yield charge

    def close(self) -> None:
        """Keep the rows: a closed sink can still be looked at."""
