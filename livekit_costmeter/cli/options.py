"""
What reading commands have in common: `--config --since --until --format --output --sink`, and how a ledger is found.

Invariant: times are UTC, a bare date means its midnight, `--until` is exclusive. Reading opens no sink for writing and
creates no file.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from livekit_costmeter.config import ConfigError, load
from livekit_costmeter.records import Charge, parse_instant

_Command = TypeVar("_Command", bound=Callable[..., Any])


class NoLedger(ConfigError):
    """None of the configured sinks can be read back."""


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


def dimensions_of(_ctx: click.Context, _param: click.Parameter, value: str) -> list[str]:
    """Read a list of dimensions separated by commas; a callback of `--by`."""
    from livekit_costmeter import reporting  # here, because most commands do without

    names = [name.strip() for name in value.split(",") if name.strip()]
    try:
        for name in names:
            reporting.dimension(name)
    except reporting.UnknownDimension as error:
        raise click.BadParameter(str(error)) from None
    return names


def sink_option(command: _Command) -> _Command:
    """Add `--sink`."""
    return click.option("--sink", "sink_name", metavar="NAME", help="Read this sink; default: the first readable one.")(
        command
    )


def format_option(*formats: str) -> Callable[[_Command], _Command]:
    """Add `--format`; the first of the formats is the default."""
    return click.option("--format", "form", type=click.Choice(formats), default=formats[0], show_default=True)


def output_option(command: _Command) -> _Command:
    """Add `--output`."""
    return click.option(
        "-o",
        "--output",
        type=click.Path(dir_okay=False, allow_dash=True),
        metavar="FILE",
        default="-",
        help="Write here instead of stdout; replaced only when everything is written.",
    )(command)


@contextmanager
def destination(output: str, *, binary: bool = False) -> Iterator[IO[Any]]:
    """Open where `--output` points: `-` is stdout; a file is replaced only when everything is written.

    Raises:
        ConfigError: The directory does not exist.
    """
    if output == "-":
        yield sys.stdout.buffer if binary else sys.stdout
        return
    path = Path(output).resolve()
    kind, encoding = ("b", None) if binary else ("", "utf-8")
    if path.exists() and not path.is_file():  # a device or a pipe is written to, never replaced
        with path.open(f"w{kind}", encoding=encoding) as stream:
            yield stream
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with draft.open(f"x{kind}", encoding=encoding) as stream:
            yield stream
        if path.exists():
            draft.chmod(path.stat().st_mode)
        os.replace(draft, path)  # noqa: PTH105 - what it does has a name of its own
    except FileNotFoundError as error:
        raise ConfigError(f"{output}: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)


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
        NoLedger: There is none.
        ConfigError: It cannot be read.
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
    raise NoLedger(f"{config.origin}: {which} be read back (sqlite and jsonl can)")
