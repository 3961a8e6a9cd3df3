"""
What reading commands have in common: `--config --since --until --format --sink`, and how a ledger is found.

Invariant: times are UTC, a bare date means its midnight, `--until` is exclusive. Reading opens no sink for writing and
creates no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from livekit_costmeter.config import ConfigError, load
from livekit_costmeter.records import Charge, parse_instant

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Instant(click.ParamType[datetime]):
    """An ISO 8601 instant, or a date."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read the option's text."""
        try:
            return value if isinstance(value, datetime) else parse_instant(value)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is not a date or ISO 8601 instant (such as 2026-11-20 or 2026-11-20T18:00Z)", param, ctx
            )


def config_option(command: _Command) -> _Command:
    """Add `--config`."""
    return click.option(
        "--config",
        "config_path",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="YAML file; default $COSTMETER_CONFIG, ./costmeter.yaml, built-in settings.",
    )(command)


def period_options(command: _Command) -> _Command:
    """Add `--since` and `--until`."""
    command = click.option(
        "--until", type=Instant(), callback=_later_than_since, help="Before this instant (exclusive, UTC)."
    )(command)
    # Eager, so that it is known when `--until` is looked at, whichever comes first.
    return click.option(
        "--since", type=Instant(), is_eager=True, help="From this instant on (UTC; a date is its midnight)."
    )(command)


def _later_than_since(ctx: click.Context, _param: click.Parameter, until: datetime | None) -> datetime | None:
    since = ctx.params["since"]
    if since is not None and until is not None and since >= until:
        raise click.BadParameter(f"{until:%Y-%m-%dT%H:%MZ} must be later than --since ({since:%Y-%m-%dT%H:%MZ})")
    return until


def sink_option(command: _Command) -> _Command:
    """Add `--sink`."""
    return click.option("--sink", "sink_name", metavar="NAME", help="Read this sink; default: the first readable one.")(
        command
    )


def format_option(*formats: str) -> Callable[[_Command], _Command]:
    """Add `--format`; the first of the formats is the default."""
    return click.option("--format", "form", type=click.Choice(formats), default=formats[0], show_default=True)


@dataclass(frozen=True, slots=True)
class LedgerFile:
    """A readable sink that was not opened: its `read` works without, and opening would create what is missing.

    `path` is None for a sink that is no file; `origin` says which configuration named it.
    """

    sink: Any
    path: Path | None
    origin: str

    @property
    def absence(self) -> str | None:
        """Say that nothing was ever shipped there, or None."""
        if self.path is None or self.path.exists():
            return None
        return f"no ledger yet: {self.path} does not exist until charges are shipped (configuration: {self.origin})"

    def read(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[Charge]:
        """Stream the charges with `since` <= `at` < `until`."""
        try:
            yield from self.sink.read(since, until)
        finally:
            self.sink.close()


def find_ledger(config_path: str | None, sink_name: str | None) -> LedgerFile:
    """Return the ledger to read: the named sink, or the first readable one.

    Raises:
        ConfigError: There is none, or it cannot be read.
    """
    from livekit_costmeter.config.compose import build_sinks

    config = load(config_path)
    sinks = build_sinks(config)
    if sink_name is not None and sink_name not in sinks:
        raise ConfigError(f"{config.origin}: no sink named {sink_name!r} (there are: {', '.join(sinks)})")
    for entry in config.sinks:
        if sink_name in (None, entry.name) and getattr(sinks[entry.name], "readable", False):
            path = entry.options.get("path")
            return LedgerFile(sinks[entry.name], None if path is None else Path(str(path)), config.origin)
    which = f"the sink {sink_name} cannot" if sink_name else "no sink here can"
    raise ConfigError(f"{config.origin}: {which} be read back (sqlite and jsonl can)")
