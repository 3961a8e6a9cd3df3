"""
What is compared: the provider's files or API, and the ledger with what waits in the spool.

Invariant: the provider is read once and whole before anything is shown; the ledger a day beyond both ends, for days
that begin elsewhere. Neither is held: both are added up as they stream.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from livekit_costmeter.cli.options import LedgerFile
from livekit_costmeter.config import Config, ConfigError
from livekit_costmeter.config.reconcile import ReconcileSettings
from livekit_costmeter.pricing.providers import identify
from livekit_costmeter.records import Charge
from livekit_costmeter.reporting.reconcile import (
    ExportError,
    LedgerSide,
    ProviderSide,
    Question,
    Reconciliation,
    Thresholds,
    open_export,
    reconcile,
)
from livekit_costmeter.reporting.reconcile.matching import DEFAULTS

_MARGIN = timedelta(days=1)
_CHUNK = 1 << 20
Window = tuple[datetime, datetime]


def read_thresholds(settings: ReconcileSettings, given: Sequence[str]) -> Thresholds:
    """Return the thresholds of the configuration and of the command line, which wins.

    Raises:
        BadParameter: One is not a percentage, or of a component there is not.
    """
    own: dict[str, Decimal] = dict(settings.thresholds.items())
    for text in given:
        name, mark, number = text.rpartition("=")
        try:
            value = Decimal(number.strip().removesuffix("%"))
        except InvalidOperation:
            value = Decimal(-1)
        if not value.is_finite() or value < 0:
            raise click.BadParameter(f"{text!r} is not a percentage such as 5 or stt=2")
        if mark and name not in DEFAULTS:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(DEFAULTS)}")
        if mark:
            own[name] = value
        else:
            own = {"all": value}
    return Thresholds(own)


@dataclass(slots=True)
class Job:
    """One comparison: what is asked, and where both sides come from."""

    config: Config
    settings: ReconcileSettings
    ledger: LedgerFile
    provider: str
    since: datetime
    until: datetime
    by: str
    account_keys: bool
    theirs: ProviderSide
    is_digested: bool = False
    """Whether the digest is asked for: reading a large file a second time takes a quarter of all the time."""
    _hash: Any = field(default_factory=hashlib.sha256)

    @classmethod
    def of(
        cls,
        config: Config,
        settings: ReconcileSettings,
        ledger: LedgerFile,
        provider: str,
        window: Window,
        *,
        by: str,
        account_keys: bool,
    ) -> Job:
        """Return a job that has read nothing yet."""
        name = identify("", provider, None).provider
        question = Question(name, *window)
        label = settings.keys.get if by == "key" else None
        theirs = ProviderSide(name, question.window, label=None if label is None else lambda key: label(key or ""))
        return cls(config, settings, ledger, name, *window, by, account_keys, theirs)

    @property
    def digest(self) -> str:
        """Return the digest of the provider's files, which a job that `is_digested` has taken."""
        return str(self._hash.hexdigest()[:12])

    def read_provider(
        self,
        usage_files: Sequence[Path],
        cost_files: Sequence[Path],
        name: str | None,
        *,
        from_api: bool,
        keep_pages: Path | None,
    ) -> None:
        """Read all that the provider says.

        Raises:
            ConfigError: A file cannot be read, or is another provider's.
        """
        from livekit_costmeter.reporting.reconcile.api import ApiError

        try:
            for path in usage_files:
                self._read(path, name, of_costs=False)
            for path in cost_files:
                self._read(path, None if usage_files else name, of_costs=True)
            if from_api:
                self._fetch(keep_pages)
        except (ExportError, ApiError) as error:
            raise ConfigError(str(error)) from None

    def _read(self, path: Path, name: str | None, *, of_costs: bool) -> None:
        if self.is_digested:
            with path.open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    self._hash.update(chunk)
        mappings: list[Any] = self._mappings()
        window = (self.since, self.until)
        parser, lines = open_export(path, name=name, provider=self.provider, window=window, mappings=mappings)
        whose = None if parser.provider is None else identify("", parser.provider, None).provider
        if whose not in (None, self.provider):
            raise ExportError(f"{path}:1: the file is of {whose} ({parser.name}), not of {self.provider}")
        self.theirs.add(lines, of_costs=of_costs)

    def _mappings(self) -> list[Any]:
        from livekit_costmeter.reporting.reconcile.parsers.mapping import MappedCsv

        return [MappedCsv(mapping) for mapping in self.settings.formats]

    def _fetch(self, keep_pages: Path | None) -> None:
        from livekit_costmeter.reporting.reconcile.api import Means, progress_on, save_pages, without_folder

        settings = self.settings.apis.get(self.provider)
        with TemporaryDirectory(prefix="costmeter-") as folder, progress_on(sys.stderr) as progress:
            where = keep_pages or Path(folder)
            saved = save_pages(
                self.provider, self.since, self.until, where, settings=settings, means=Means(progress=progress)
            )
            try:
                for report in saved:
                    self._read(report.path, None, of_costs=report.kind == "costs")
            except ExportError as error:
                raise error if keep_pages else without_folder(error, folder) from None

    def compare(self, thresholds: Thresholds) -> Reconciliation:
        """Read the ledger and put both sides beside each other."""
        question = Question(
            self.provider, self.since, self.until, self.by, self.settings.aliases, frozenset(self.settings.keys)
        )
        return reconcile(question, self._ours(), self.theirs, thresholds)

    def _ours(self) -> LedgerSide:
        labels = frozenset(self.settings.keys.values())
        label = (lambda charge: _label(charge, labels)) if self.by == "key" else None
        ids = self.theirs.request_ids
        side = LedgerSide(self.provider, account_keys=self.account_keys, label=label, request_ids=ids)
        side.add(self._charges())
        side.close()
        return side

    def _charges(self) -> Iterator[Charge]:
        """Yield what is booked: corrections that wait in the spool first, then the ledger, each once."""
        from livekit_costmeter.delivery.files.booking import waiting

        since, until = self.since - _MARGIN, self.until + _MARGIN
        under_way = set()
        for charge in waiting(self.config.spool_directory):
            if charge.kind == "correction" and since <= charge.at < until:
                under_way.add((charge.record_id, charge.line))
                yield charge
        charges: Any = self.ledger.read(since, until)
        with closing(charges):
            for charge in charges:
                if charge.kind != "correction" or (charge.record_id, charge.line) not in under_way:
                    yield charge


def _label(charge: Charge, labels: frozenset[str]) -> str | None:
    return charge.key_id if charge.key_id in labels else charge.key_owner
