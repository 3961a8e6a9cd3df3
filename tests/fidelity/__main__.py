"""
`make fidelity`: play every case and print what each side counted.

Invariant: results go to stdout, progress to stderr; calls run in real time, as LiveKit's own counters follow the
clock, unless `--speed` compresses them. The exit code is 0 whatever the gaps are: the tests judge, this shows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console

from tests.fidelity.case import Case, Result
from tests.fidelity.cases import CASES
from tests.fidelity.runs import Runs
from tests.fidelity.table import as_csv, as_json, as_markdown, as_table

_WRITERS = {"json": as_json, "csv": as_csv, "markdown": as_markdown}


@click.command()
@click.option("--format", "form", type=click.Choice(["table", *_WRITERS]), default="table", show_default=True)
@click.option("--speed", type=float, default=1.0, show_default=True, help="Seconds of a call that take one.")
@click.option("--fresh", is_flag=True, help="Estimate as a meter does that has seen no call of these models before.")
@click.argument("codes", nargs=-1)
def main(form: str, speed: float, *, fresh: bool, codes: tuple[str, ...]) -> None:
    """Play the cases (all, or those named by CODES) and compare ledger, session.usage and costmeter."""
    known = {case.code: case for case in CASES}
    if unknown := [code for code in codes if code not in known]:
        raise click.BadParameter(f"{', '.join(unknown)} (allowed: {', '.join(known)})", param_hint="CODES")
    results = _play([known[code] for code in codes] or list(CASES), speed, fresh=fresh)
    if form in _WRITERS:
        click.echo(_WRITERS[form](results))
    else:
        Console(width=None if sys.stdout.isatty() else 160).print(as_table(results))


def _play(cases: list[Case], speed: float, *, fresh: bool) -> list[Result]:
    with _progress() as say, Runs(speed=speed) as runs:
        say(f"playing {len(cases)} cases, and normal calls to learn from before them")
        runs.begin((case.code for case in cases), practised=not fresh)
        for number, code in enumerate(runs.as_they_end(), start=1):
            say(f"{number} of {len(cases)} played: {code}")
        return [runs.result(case.code, practised=not fresh) for case in cases]


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text: click.echo(text, err=True)
        return
    with console.status("getting ready") as status:
        yield status.update


if __name__ == "__main__":  # the processes that play import this module again
    main()
