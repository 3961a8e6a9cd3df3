"""
`costmeter rate`: the whole pricing path as a pure filter.

Invariant: one charge per line, in input order; a bad line stops everything before the first charge is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click

from livekit_costmeter.cli.options import config_option
from livekit_costmeter.config import ConfigError, load
from livekit_costmeter.records import InvalidRecord, UsageRecord, charge_json, parse_usage

_LONGEST_LINE = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), required=False)
@config_option
@click.option("--strict", is_flag=True, help="Exit with 1 if a unit could not be priced.")
def rate(file: str | None, config_path: str | None, strict: bool) -> None:
    """Price usage records, and apply the account's plan.

    Reads UsageRecords as JSON lines from FILE or standard input, prints one charge per line.
    """
    from livekit_costmeter.config.prices import load_rate

    rate_record = load_rate(load(config_path))
    lines = unpriced = 0
    out = sys.stdout.buffer
    for record in _records(file):
        for charge in rate_record(record):
            lines += 1
            unpriced += charge.cost is None
            out.write(charge_json(charge) + b"\n")
    out.flush()
    if unpriced:
        click.echo(f"costmeter: {unpriced} of {lines} charges unpriced", err=True)
    if strict and unpriced:
        sys.exit(1)


def _records(file: str | None) -> list[UsageRecord]:
    if file is None or file == "-":
        if sys.stdin.isatty():
            click.echo("costmeter: reading usage records from the terminal; end with Ctrl-D", err=True)
        return list(_parsed("standard input", sys.stdin.buffer))
    with Path(file).open("rb") as stream:
        records = list(_parsed(file, stream))
    if not records:
        # From a pipe, nothing may be the right answer of the command before; a file without a record is a mistake.
        raise ConfigError(f"{file}: no usage record in it")
    return records


def _parsed(name: str, stream: IO[bytes]) -> Iterator[UsageRecord]:
    for number, line in enumerate(iter(lambda: stream.readline(_LONGEST_LINE + 1), b""), start=1):
        if len(line) > _LONGEST_LINE:
            raise ConfigError(f"{name}:{number}: line longer than {_LONGEST_LINE} bytes")
        text = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
        if not text.strip():
            continue
        try:
            yield parse_usage(text)
        except InvalidRecord as error:
            # The parser sees one line only; which one it is stands in front.
            raise ConfigError(f"{name}:{number}: {str(error).replace(' at line 1 column ', ' at column ')}") from None
